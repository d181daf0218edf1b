"""The command line: thin commands over the library."""

from __future__ import annotations

import os
import sys

from cnatool.cli import progress_mode, signals

__all__ = ["main"]


def main() -> None:
    """Run the command ``cnatool``; every exception becomes one message and an exit code."""
    # Before anything else is imported, which takes a while: a signal then ends the process at once.
    signals.handle(signals.leave)
    progress_mode.choose_early(sys.argv[1:])
    _open_streams()
    from cnatool.cli.process import run

    run()


def _open_streams() -> None:
    """Open standard streams that are closed, so that no file takes their place.

    Otherwise what we or a library print would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Opening takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
