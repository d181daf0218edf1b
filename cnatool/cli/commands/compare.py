"""``cnatool compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import PATIENCE, ConsoleObserver, print_result, read_pairs
from cnatool.cli.options import (
    DEFINITIONS,
    ConventionOption,
    JsonOption,
    SetOption,
    StoreArgument,
)
from cnatool.errors import UsageError

_TOLERANCE = 1e-4


def compare(
    store: StoreArgument,
    store2: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE2",
            help="A store of the same network and samples.",
            autocompletion=complete_store,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Split to compare; by default every split that both stores have. Without STORE2, "
            "give two splits of STORE; their distributions are compared, as by `cnatool drift`.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Largest relative difference that counts as equal; 0 requires equal values.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = _TOLERANCE,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Check that two stores agree, such as before and after an export.

    Layers are matched by name, or else by size, longest path, shortcut and order; samples by row.
    The exit code is 1 if the stores differ by more than the tolerance.
    """
    splits = split or []
    if store2 is None:
        if len(splits) != 2:
            raise UsageError(
                f"there is nothing to compare {store} with. Name STORE2, a store of the same "
                "samples; or two splits of STORE, as in --split NAME --split NAME, whose "
                "distributions are then compared, as by `cnatool drift`."
            )
        if tolerance != _TOLERANCE:
            raise UsageError(
                f"--tolerance {tolerance:g} does not apply to two splits, whose samples differ and "
                "whose distributions are compared. Omit it."
            )
        _print_drift(store, splits, convention, overrides, json=json)
        return
    if len(splits) > 1:
        raise UsageError(
            f"--split is given {len(splits)} times, but two stores are compared sample by sample, "
            "in one split only. `cnatool drift` compares distributions of other samples."
        )
    from cnatool.cli.tables.compare import print_comparison
    from cnatool.comparing.compare import compare as compare_stores

    comparison = compare_stores(
        store,
        store2,
        split=splits[0] if splits else None,
        tolerance=tolerance,
        convention=convention,
        overrides=read_pairs("--set", overrides),
    )
    print_result(comparison, print_comparison, json=json)
    if not comparison.same:
        raise typer.Exit(1)


def _print_drift(
    store: Path, splits: list[str], convention: str, overrides: list[str] | None, *, json: bool
) -> None:
    """Print how far two splits of one store are apart."""
    from cnatool.cli.tables.drift import print_drift
    from cnatool.comparing.drift.drift import drift

    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        found = drift(
            store,
            splits=splits,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            observer=observer,
        )
    print_result(found.result, print_drift, json=json)
