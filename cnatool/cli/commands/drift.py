"""``cnatool drift``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_from, complete_store
from cnatool.cli.console import PATIENCE, ConsoleObserver, note, print_result, read_pairs
from cnatool.cli.options import (
    DEFINITIONS,
    ConventionOption,
    InputsOption,
    JsonOption,
    SetOption,
    StoreArgument,
    UnitsOutputOption,
)

_SAMPLES = "What is compared"
_CORRECTIONS = ("benjamini-hochberg", "benjamini-yekutieli", "bonferroni")


def drift(
    store: StoreArgument,
    store2: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE2",
            help="A store of other samples of the same model.",
            autocompletion=complete_store,
        ),
    ] = None,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="The reference, then the split that is compared with it: two of STORE, or one of "
            "each store; one name stands for the split that both have. By default the only two of "
            "STORE, or the only one of each.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    tensors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Tensors to compare, by name or glob, with ! before those to leave out; by "
            "default hidden layers and outputs, or all of a store without layers. Repeatable.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--units-axis",
            metavar="GLOB=AXIS",
            help="Axis of one sample's shape that has the units, from 0, or element, as of "
            "`cnatool units`. Repeatable.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    correction: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How p-values are adjusted for the number of comparisons: benjamini-hochberg, "
            "benjamini-yekutieli or bonferroni.",
            autocompletion=complete_from(*_CORRECTIONS),
            rich_help_panel=DEFINITIONS,
        ),
    ] = "benjamini-hochberg",
    level: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="What adjusted p-values are compared with.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = 0.05,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    inputs: InputsOption = None,
    output: UnitsOutputOption = None,
    json: JsonOption = False,
) -> None:
    """Compare distributions of activations in two splits or sets of data.

    Distances say how large a drift is, p-values whether it can be by chance. Samples need not
    correspond; where they do, `cnatool compare` compares them one by one.
    """
    from cnatool._util.frame_files import check_frame_path, write_frame
    from cnatool.cli.tables.drift import print_drift
    from cnatool.comparing.drift.drift import drift as find_drift

    if output is not None:
        check_frame_path(output)
    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        found = find_drift(
            store,
            store2,
            splits=splits or (),
            tensors=tensors or (),
            axes=read_pairs("--units-axis", axes, "GLOB=AXIS"),
            convention=convention,
            overrides=read_pairs("--set", overrides),
            level=level,
            correction=correction,
            inputs=inputs or (),
            observer=observer,
        )
    if output is not None:
        write_frame(found.frame(), output)
        note(f"wrote {output}")
    print_result(found.result, print_drift, json=json)
