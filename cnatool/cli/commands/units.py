"""``cnatool units``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cnatool.cli.console import PATIENCE, ConsoleObserver, note, print_result, read_pairs
from cnatool.cli.options import (
    DEFINITIONS,
    OUTPUT,
    JsonOption,
    StoreArgument,
    UnitsOutputOption,
)
from cnatool.errors import UsageError

_QUANTILES = "0.01,0.05,0.25,0.5,0.75,0.95,0.99"


def units(
    store: StoreArgument,
    tensors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|GLOB",
            help="Tensors and outputs to analyse; !NAME excludes one. By default the layers, and "
            "tensors whose units the dump measured; if there are none, everything that is stored. "
            "Repeatable.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Split to analyse; all by default. Repeatable.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--units-axis",
            metavar="GLOB=AXIS",
            help="Axis of one sample's shape that the units lie along, counted from 0, or element "
            "if each element is a unit. By default the only axis of (D,), the last of (T, D), and "
            "the first of (C, H, W). Repeatable.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    quantiles: Annotated[
        str,
        typer.Option(
            metavar="Q,Q|none",
            help="Quantiles to compute, between 0 and 1, accurate to 1/64 of their value; none "
            "saves time.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = _QUANTILES,
    top: Annotated[
        int,
        typer.Option(
            metavar="K",
            help="Number of samples listed for each unit, those that excite it most.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = 10,
    listed: Annotated[
        int,
        typer.Option(
            "--list",
            metavar="N",
            help="List up to N units of each tensor: dead ones first, then the most selective "
            "ones. -o writes all.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    output: UnitsOutputOption = None,
    json: JsonOption = False,
) -> None:
    """Show individual units: dead ones, quantiles, classes, samples.

    A unit is a channel of a map, a feature of tokens, or an element of a vector. It is dead if its
    value is never above 0, in any sample or at any position.
    """
    from cnatool._util.frame_files import check_frame_path, write_frame
    from cnatool.cli.tables.units import print_units
    from cnatool.per_unit.frame import flatten_lists
    from cnatool.per_unit.units import units as count_units

    if listed < 0:
        raise UsageError(f"--list {listed}: write a whole number, such as 20.")
    if output is not None:
        check_frame_path(output)
    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        counted = count_units(
            store,
            tensors=tensors or (),
            splits=splits or (),
            axes=read_pairs("--units-axis", axes, "GLOB=AXIS"),
            quantiles=_read_quantiles(quantiles),
            top=top,
            observer=observer,
        )
    if output is not None:
        frame = counted.frame()
        write_frame(flatten_lists(frame) if output.suffix == ".csv" else frame, output)
        note(f"wrote {output}")
    print_result(
        counted.result, partial(print_units, frames=counted.frames, most=listed), json=json
    )


def _read_quantiles(text: str) -> list[float]:
    if text == "none":
        return []
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--quantiles {text}: write numbers between 0 and 1 with commas, as in 0.25,0.5,0.75, "
            "or none."
        ) from None
