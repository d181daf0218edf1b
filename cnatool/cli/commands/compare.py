"""``cnatool compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import print_result, read_pairs
from cnatool.cli.options import (
    DEFINITIONS,
    ConventionOption,
    JsonOption,
    SetOption,
    StoreArgument,
)


def compare(
    store: StoreArgument,
    store2: Annotated[
        Path,
        typer.Argument(
            metavar="STORE2",
            help="A store of the same network and samples.",
            autocompletion=complete_store,
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The one split to compare; by default all that both stores have.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Largest relative difference that counts as equal; 0 demands equal values.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = 1e-4,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Check that two stores hold the same network, as after an export.

    Layers are matched by name, else by size, longest path, shortcut and order; samples by their
    row. The exit code is 1 if the stores differ by more than the tolerance.
    """
    from cnatool.cli.tables.compare import print_comparison
    from cnatool.comparing.compare import compare as compare_stores

    comparison = compare_stores(
        store,
        store2,
        split=split,
        tolerance=tolerance,
        convention=convention,
        overrides=read_pairs("--set", overrides),
    )
    print_result(comparison, print_comparison, json=json)
    if not comparison.same:
        raise typer.Exit(1)
