"""``cnatool preprocess``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool._util.local_paths import real_path
from cnatool.cli.console import note, print_path, say
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.options import EXIT_CODES, DataArgument, ModelArgument
from cnatool.cli.parsing import Command
from cnatool.dumping.options import DATA, PREPROCESSING, DumpOptions
from cnatool.errors import DataError, StoreWriteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.dumping.preview import Preview
    from cnatool.records.run import Preprocessing


class _Order(StrEnum):
    chw = "chw"
    hwc = "hwc"


app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See how samples are prepared for a model."
)


@app.callback()
def _group() -> None:
    """See how samples are prepared for a model."""


@app.command("show", cls=Command, epilog=EXIT_CODES)
@with_dump_options(DATA, PREPROCESSING, names=("keep_inputs",))
def show(
    model: ModelArgument,
    options: dict[str, Any],
    data: DataArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.png", help="Draw the samples here."),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="How many, from the split's start.")
    ] = 16,
    split: Annotated[
        str | None,
        typer.Option("--of", metavar="SPLIT", help="The split to look at; by default the first."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Height and width to draw, where samples are flat."),
    ] = None,
    order: Annotated[
        _Order | None,
        typer.Option(help="In which order flat samples hold their three channels."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing picture.")
    ] = False,
) -> None:
    """Say what a model would be fed, and draw it as a picture to look at.

    Nothing is run. All that dump can be told of data, and of how they are prepared, is an option
    here too.
    """
    from cnatool.dumping.preview import preview

    if output is not None:
        split_paths = options.get("splits", {}).values()
        sources = [source for source in (model, data, *split_paths) if source is not None]
        _check_output(output, sources, overwrite=overwrite)
    found = preview(model, data, DumpOptions(**options), samples=samples, split=split)
    for line in found.notes:
        say(line)
    for made in found.inputs:
        _say_values(made, found.values[made.input])
    if output is not None:
        _draw(found, output, size, order)


def _check_output(output: Path, sources: Sequence[str | Path], *, overwrite: bool) -> None:
    """Refuse to draw over what is read, or without a word over anything else."""
    if output.suffix.lower() != ".png":
        raise UsageError(f"-o {output}: the picture is a .png file.")
    for source in sources:
        # What follows :: is an array inside.
        if real_path(output).is_relative_to(real_path(Path(str(source).partition("::")[0]))):
            raise UsageError(
                f"-o {output} is in {source}, which is only read: draw to another folder."
            )
    if not overwrite and os.path.lexists(output):
        raise UsageError(f"{output} is already there: name another file, or pass --overwrite.")


def _say_values(made: Preprocessing, values: NDArray[Any]) -> None:
    """Print the range of what an input receives, channel by channel."""
    import numpy as np

    axis = made.layout.endswith("chw") and len(made.shape) == 3
    last = made.layout.endswith("hwc") and len(made.shape) == 3
    rows = values.astype(np.float64)
    channels = np.moveaxis(rows, 1, -1) if axis else rows
    channels = channels.reshape(-1, channels.shape[-1] if axis or last else 1)
    for number, channel in enumerate(channels.T):
        name = f"channel {number}" if channels.shape[1] > 1 else f"input {made.input!r}"
        say(
            f"{name}: mean {channel.mean():.4g}, standard deviation {channel.std():.4g}, "
            f"from {channel.min():.4g} to {channel.max():.4g} over {len(values)} samples"
        )


def _draw(found: Preview, output: Path, size: str | None, order: _Order | None) -> None:
    from cnatool._util.files import replace_atomically
    from cnatool.data.images.contact_sheet import describe_encoding, draw_contact_sheet
    from cnatool.data.images.transform import parse_crop

    refusals = []
    for made in found.inputs:
        colour = made.geometry.colour if made.geometry else "as-is"
        try:
            facts = describe_encoding(
                made, colour, parse_crop(size) if size else None, order.value if order else None
            )
            picture = draw_contact_sheet(found.values[made.input], facts)
        except DataError as error:
            refusals.append(error)
            continue
        try:
            with replace_atomically(output) as partial:
                partial.write_bytes(picture)
        except OSError as error:
            raise StoreWriteError(
                f"{output} cannot be written: {error.strerror or error}. Name another file with -o."
            ) from error
        note(f"drew {len(found.ids)} samples, the first of them {found.ids[0]}")
        print_path(output)
        return
    raise refusals[0]
