"""``cnatool convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import ConsoleObserver, note_next, print_path
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.options import (
    OUTPUT,
    STORES,
    InputsOption,
    OverwriteOption,
    QuietOption,
)
from cnatool.errors import UsageError


@with_dump_options(names=("codec",), panel=OUTPUT)
def convert(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE", help="A finished store of any format.", autocompletion=complete_store
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE2", help="Path of the new store, ending in .zarr, .h5 or .hdf5."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="STORE2",
            help="Path of the new store, as an alternative to STORE2.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    *,
    options: dict[str, Any],
    inputs: InputsOption = None,
    copy_inputs: Annotated[
        bool,
        typer.Option(
            "--copy-inputs",
            help="Copy raw inputs that are in another store instead of referring to it.",
            rich_help_panel=STORES,
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Copy a store to another format, bit for bit.

    Progress goes to standard error, the path of the new store to standard output.
    """
    from cnatool.store.convert import convert as convert_store

    if (target is None) == (output is None):
        raise UsageError("name the new store once: cnatool convert STORE STORE2.")
    with ConsoleObserver(quiet=quiet) as observer:
        converted = convert_store(
            store,
            target or output or Path(),
            **options,
            inputs=inputs or (),
            copy_inputs=copy_inputs,
            overwrite=overwrite,
            observer=observer,
        )
    print_path(converted.path)
    if not quiet:
        note_next(converted)
