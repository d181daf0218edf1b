"""``cnatool landscape``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import ConsoleObserver, finish_study, read_pairs
from cnatool.cli.options import (
    DEFINITIONS,
    ConventionOption,
    FolderOption,
    InputsOption,
    JsonOption,
    OrderOption,
    RunTagOption,
    SetOption,
    StrictOption,
)


def landscape(
    stores: Annotated[
        list[Path],
        typer.Argument(
            metavar="STORE",
            autocompletion=complete_store,
            help="Stores with full activations, and folders of such stores.",
        ),
    ],
    order: OrderOption = None,
    by: RunTagOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Split to take the minibatch from; by default train, or the only one.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of samples in the minibatch, the first ones of the split.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = 100,
    grid: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of grid points along each axis.", rich_help_panel=DEFINITIONS
        ),
    ] = 25,
    folder: FolderOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Compute CNA over a plane through the activations of checkpoints.

    The plane is spanned by the first two principal components, along which the activations differ
    most.
    """
    from cnatool.cli.tables.landscape import print_landscape
    from cnatool.studying.landscape import landscape as run_landscape

    with ConsoleObserver(unit="") as observer:
        result = run_landscape(
            stores,
            order=order,
            by=by,
            split=split,
            samples=samples,
            grid=grid,
            folder=folder,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            inputs=inputs or (),
            strict=strict,
            observer=observer,
        ).result
    finish_study(result, print_landscape, folder=folder, json=json)
