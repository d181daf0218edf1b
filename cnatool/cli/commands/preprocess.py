"""``cnatool preprocess``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text
from cnatool._util.write_failures import make_write_error
from cnatool.cli.console import note, print_line, print_path
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.options import EXIT_CODES, DataArgument, ModelArgument
from cnatool.cli.parameter_names import with_options
from cnatool.cli.parsing import Command, Group
from cnatool.cli.shared_options import with_shared_options
from cnatool.dumping.options import DATA, PREPROCESSING, DumpOptions
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.dumping.preview import Preview
    from cnatool.records.ragged import Rows
    from cnatool.records.run import Preprocessing


_PICTURE = "Picture"


class _Order(StrEnum):
    chw = "chw"
    hwc = "hwc"


app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show how samples are prepared for a model.",
)


@app.callback()
def _group() -> None:
    """Show how samples are prepared for a model."""


@app.command("show", cls=Command, epilog=EXIT_CODES)
@with_shared_options
@with_dump_options(DATA, PREPROCESSING, names=("keep_inputs",), panel=PREPROCESSING)
def show(
    model: ModelArgument,
    options: dict[str, Any],
    data: DataArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.png",
            help="Draw the samples to this file.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=256,
            help="Number of samples, from the start of the split.",
            rich_help_panel=_PICTURE,
        ),
    ] = 16,
    split: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="SPLIT",
            help="Split to show samples of; by default the first.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Height and width at which to draw flat samples.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    order: Annotated[
        _Order | None,
        typer.Option(help="Order of the three channels in flat samples.", rich_help_panel=_PICTURE),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing picture.", rich_help_panel=_PICTURE),
    ] = False,
) -> None:
    """Print and draw the samples that a model would receive.

    The model does not run. All options of `cnatool dump` about data and preprocessing are
    available here too.
    """
    from cnatool.dumping.preview import preview

    if output is not None:
        split_paths = options.get("splits", {}).values()
        sources = [source for source in (model, data, *split_paths) if source is not None]
        _check_output(output, sources, overwrite=overwrite)
    samples_fed = preview(model, data, DumpOptions(**options), samples=samples, split=split)
    for line in samples_fed.notes:
        print_line(with_options(line))
    for record in samples_fed.inputs:
        _print_values(record, samples_fed.values[record.input])
    if output is not None:
        _draw(samples_fed, output, size, order)


def _check_output(output: Path, sources: Sequence[str | Path], *, overwrite: bool) -> None:
    """Refuse to draw into the data, or over an existing file without ``--overwrite``."""
    if output.suffix.lower() != ".png":
        raise UsageError(f"-o {output}: the picture must be a .png file.")
    for source in sources:
        # What follows :: is an array inside.
        if real_path(output).is_relative_to(real_path(Path(str(source).partition("::")[0]))):
            raise UsageError(
                f"-o {output} is in {source}, which is only read: draw to another folder."
            )
    if not overwrite and os.path.lexists(output):
        raise UsageError(f"{output} is already there: name another file, or pass --overwrite.")


def _print_values(record: Preprocessing, values: Rows) -> None:
    """Print the range of the values that an input receives, channel by channel."""
    import numpy as np

    from cnatool.records.ragged import Ragged

    count = len(values)
    if isinstance(values, Ragged):
        lengths = values.lengths
        print_line(f"input {record.input!r}: samples of length {lengths.min()} to {lengths.max()}")
        values = values.values
    order = record.layout[-3:] if len(record.shape) == 3 else ""
    channels = values.astype(np.float64)
    if order == "chw":
        channels = np.moveaxis(channels, 1, -1)
    channels = channels.reshape(-1, channels.shape[-1] if order in {"chw", "hwc"} else 1)
    for number, channel in enumerate(channels.T):
        name = f"channel {number}" if channels.shape[1] > 1 else f"input {record.input!r}"
        print_line(
            f"{name}: mean {channel.mean():.4g}, standard deviation {channel.std():.4g}, "
            f"from {channel.min():.4g} to {channel.max():.4g} over "
            f"{count_text(count, 'sample')}"
        )


def _draw(preview: Preview, output: Path, size: str | None, order: _Order | None) -> None:
    from cnatool._util.files import replace_atomically
    from cnatool.data.images.contact_sheet import describe_encoding, draw_contact_sheet
    from cnatool.data.images.transform import parse_crop
    from cnatool.records.ragged import Ragged

    refusals = []
    for record in preview.inputs:
        colour = record.geometry.colour if record.geometry else "as-is"
        values = preview.values[record.input]
        if isinstance(values, Ragged):
            text = f"input {record.input!r} takes samples of any length, which are not drawn."
            refusals.append(DataError(text))
            continue
        if record.sound and record.sound.spectrogram is None:
            text = f"input {record.input!r} takes amplitudes of sound, which are not drawn."
            refusals.append(DataError(text))
            continue
        try:
            encoding = describe_encoding(
                record, colour, parse_crop(size) if size else None, order.value if order else None
            )
            picture = draw_contact_sheet(values, encoding)
        except DataError as error:
            refusals.append(error)
            continue
        try:
            with replace_atomically(output) as partial:
                partial.write_bytes(picture)
        except OSError as error:
            raise make_write_error(output, error) from error
        note(f"drew {count_text(len(preview.ids), 'sample')}, the first of them {preview.ids[0]}")
        print_path(output)
        return
    raise refusals[0]
