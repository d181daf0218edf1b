"""``cnatool verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool.cli.console import ConsoleObserver, print_json, say, say_each
from cnatool.cli.options import InputsOption

if TYPE_CHECKING:
    from cnatool.store.verify import Fault


def verify(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store.")],
    inputs: InputsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Check a store: every checksum, every shape, its attribute, its statistics.

    The exit code is 1 where something is wrong.
    """
    from cnatool._util.text import bytes_text
    from cnatool.store.verify import verify as verify_store

    with ConsoleObserver(quiet=quiet or json) as observer:
        found = verify_store(store, inputs=inputs or (), observer=observer)
    if json:
        print_json(found.to_json())
    else:
        say_each(map(_fault_text, found.faults))
        checked = f"{found.arrays} arrays, {bytes_text(found.bytes)}"
        state = ""
        if not found.complete and found.arrays:
            state = f"; it is not finished: {found.committed} of {found.rows} rows, which were read"
        count = len(found.faults)
        verdict = f"{count} fault{'s' * (count != 1)}" if count else "nothing is wrong"
        say(f"{store}: {verdict} ({checked}{state})")
    if found.faults:
        raise typer.Exit(1)


def _fault_text(fault: Fault) -> str:
    rows = "" if fault.rows is None else f", rows {fault.rows[0]} to {fault.rows[1] - 1}"
    return f"{fault.where}{rows}: {fault.problem}"
