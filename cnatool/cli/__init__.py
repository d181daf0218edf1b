"""The command line: thin commands over the library."""

from __future__ import annotations

import os
import signal

# Without `typing`, for which nothing should wait here.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

# How a shell says which signal ended a process.
_SIGNALLED = 128


def main() -> None:
    """Run the command ``cnatool``; every exception becomes one message and an exit code."""
    # Before anything is imported, which takes a while: a signal then ends the process at once.
    _on_signals()
    from cnatool.cli.process import run

    try:
        run()
    finally:
        # All is printed. While the interpreter shuts down, which takes a moment, it would end by
        # the signal instead of with the command's exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # A command that is started in the background may have to ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process at once, with one line and the shell's exit code."""
    terminated = number == signal.SIGTERM
    os.write(2, f"cnatool: {'terminated' if terminated else 'interrupted'}.\n".encode())
    os._exit(_SIGNALLED + number)
