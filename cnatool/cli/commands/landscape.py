"""``cnatool landscape``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool._util.text import printable
from cnatool.cli.console import (
    ConsoleObserver,
    exit_incomplete,
    key_values,
    note,
    print_json,
    say,
    say_notes,
)
from cnatool.cli.options import (
    ConventionOption,
    InputsOption,
    OrderOption,
    RunTagOption,
    SetOption,
    StrictOption,
)
from cnatool.cli.parameter_names import with_options

if TYPE_CHECKING:
    from cnatool.cli.tables.table import Column
    from cnatool.studying.results import LandscapeResult


def landscape(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="STORE", help="Stores with whole activations, and folders of such."),
    ],
    order: OrderOption = None,
    by: RunTagOption = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The minibatch is of this split; by default train."),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="The minibatch: the first samples of the split.")
    ] = 100,
    grid: Annotated[
        int, typer.Option(metavar="N", help="Points of the grid along each axis.")
    ] = 25,
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--output", "--folder", metavar="DIR", help="Write all results here."),
    ] = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Show CNA over the plane in which the activations of checkpoints differ most."""
    from cnatool.studying.landscape import landscape as run_landscape

    with ConsoleObserver(unit="") as observer:
        found = run_landscape(
            stores,
            order=order,
            by=by,
            split=split,
            samples=samples,
            grid=grid,
            folder=folder,
            convention=convention,
            overrides=key_values("--set", overrides or ()),
            inputs=inputs or (),
            strict=strict,
            observer=observer,
        )
    if folder is not None:
        note(f"wrote {folder}")
    if json:
        print_json(found.result.to_json())
    else:
        _print_landscape(found.result)
    exit_incomplete(found.result.not_scored)


def _print_landscape(result: LandscapeResult) -> None:
    from cnatool.cli.tables.study import print_not_scored
    from cnatool.cli.tables.table import number, print_table
    from cnatool.cli.tables.trajectory import step_text, step_title

    say(f"convention {result.convention}")
    say(
        f"{result.samples} samples of {result.split}, {len(result.layers)} layers: "
        f"{result.dimension:,} activations at each of {len(result.points)} checkpoints"
    )
    first, second = result.variance_shares[:2]
    say(
        f"the plane holds {_percent(first + second)} of their variance: {_percent(first)} and "
        f"{_percent(second)}\n"
    )
    columns: list[Column] = [] if result.by is None else [(printable(result.by), "left")]
    print_table(
        [
            *columns,
            (step_title(result.order), "right"),
            ("x", "right"),
            ("y", "right"),
            ("in plane", "right"),
            ("CNA", "right"),
            ("projected", "right"),
        ],
        [
            [
                *([] if one.run is None else [one.run]),
                step_text(one.step),
                number(one.x),
                number(one.y),
                "–" if one.captured is None else _percent(one.captured),
                number(one.cna.value),
                number(one.cna_projected.value),
            ]
            for one in result.points
        ],
        keys=len(columns) + 1,
    )
    values = [one.cna.value for one in result.grid if one.cna.value is not None]
    size = f"{result.grid_size} × {result.grid_size}"
    if values:
        say(f"\nCNA over a grid of {size}: {number(min(values))} … {number(max(values))}")
    for what, estimates in (
        ("CNA is undefined", [one.cna for one in result.points]),
        ("projected CNA is undefined", [one.cna_projected for one in result.points]),
        ("CNA over the grid is undefined", [one.cna for one in result.grid]),
    ):
        reasons = [one.reason for one in estimates if one.reason is not None]
        for reason in dict.fromkeys(reasons):
            places = f"{reasons.count(reason)} of {len(estimates)} points"
            say(f"\n{what} at {places}: {with_options(reason)}")
    print_not_scored(result.not_scored)
    say_notes(result.notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
