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
            help="The reference split, then the split to compare with it: two splits of STORE, or "
            "one of each store; a single name means the split of that name in both. By default "
            "the only two splits of STORE, or the only one of each store.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    tensors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Tensors to compare, by name or glob; a leading ! excludes tensors. By default "
            "hidden layers and outputs, or everything in a store without layers. Repeatable.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--units-axis",
            metavar="GLOB=AXIS",
            help="Axis of one sample's shape that the units lie along, counted from 0, or "
            "element, as in `cnatool units`. Repeatable.",
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
            help="Significance level that adjusted p-values are compared with.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = 0.05,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    inputs: InputsOption = None,
    output: UnitsOutputOption = None,
    json: JsonOption = False,
) -> None:
    """Compare distributions of activations in two splits or data sets.

    Distances show how large a drift is; p-values, whether chance alone could explain it. Samples
    need not correspond; if they do, `cnatool compare` compares them one by one.
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
