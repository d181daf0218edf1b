"""``cnatool verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cnatool.cli import progress_mode
from cnatool.cli.console import ConsoleObserver, print_line, print_lines, print_result
from cnatool.cli.options import InputsOption, JsonOption, QuietOption, StoreArgument
from cnatool.cli.parameter_names import with_options

if TYPE_CHECKING:
    from cnatool.store.verify import Fault, Verification


def verify(
    store: StoreArgument,
    inputs: InputsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check a store: checksums, shapes, attribute and statistics.

    The exit code is 1 if the store has faults, or no rows yet.
    """
    from cnatool._util.text import bytes_text, count_text
    from cnatool.store.verify import verify as verify_store

    def print_faults(verification: Verification) -> None:
        print_lines(map(_fault_text, verification.faults))
        checked = f"{count_text(verification.arrays, 'array')}, {bytes_text(verification.bytes)}"
        if verification.committed and not verification.complete:
            checked += (
                f"; it is not finished: {verification.committed:,} of {verification.rows:,} rows, "
                "which were read"
            )
        count = len(verification.faults)
        good = "nothing to check" if _is_empty(verification) else "nothing is wrong"
        verdict = count_text(count, "fault") if count else good
        print_line(f"{verification.store}: {verdict} ({checked})")

    # Beside a document, only whoever asks for events reads them.
    hidden = quiet or (json and not progress_mode.is_json())
    with ConsoleObserver(quiet=hidden) as observer:
        verification = verify_store(store, inputs=inputs or (), observer=observer)
    print_result(verification, print_faults, json=json)
    if verification.faults or _is_empty(verification):
        raise typer.Exit(1)


def _is_empty(verification: Verification) -> bool:
    """Whether a store has no row yet, so that nothing speaks for it."""
    return not verification.complete and not verification.committed


def _fault_text(fault: Fault) -> str:
    rows = "" if fault.rows is None else f", rows {fault.rows[0]} to {fault.rows[1] - 1}"
    return f"{fault.where}{rows}: {with_options(fault.problem)}"
