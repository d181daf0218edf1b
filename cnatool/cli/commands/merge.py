"""``cnatool merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import ConsoleObserver, note_next, print_path
from cnatool.cli.options import OUTPUT, OverwriteOption, QuietOption


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PART", help="All parts of a dump, in any order.", autocompletion=complete_store
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="STORE",
            help="Path of the new store, ending in .zarr, .h5 or .hdf5.",
            rich_help_panel=OUTPUT,
        ),
    ],
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Copy the rows instead of referring to the parts.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Combine the parts of a dump into one store.

    The new store refers to the parts, or contains copies of their rows. Notes and progress go to
    standard error, the path of the new store to standard output.
    """
    from cnatool.store.merge import merge as merge_parts

    with ConsoleObserver(quiet=quiet) as observer:
        merged = merge_parts(parts, output, copy=copy, overwrite=overwrite, observer=observer)
    print_path(merged.path)
    if not quiet:
        note_next(merged)
