"""Signals that end the command: Ctrl-C, SIGTERM, and SIGHUP when a terminal closes.

Whatever the command was doing, it ends with one line and with the exit code that shells give to
the signal.
"""

from __future__ import annotations

import os
import time

from cnatool.cli import progress_mode

# `typing` is slow to import, and nothing should delay these handlers.
TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    # `signal` imports `enum` to name the numbers; a signal in these milliseconds would end in a
    # traceback.
    import _signal

# A shell adds this to the number of the signal that ended a process.
_SIGNALLED = 128
_WORDS: dict[int, str] = {_signal.SIGINT: "interrupted", _signal.SIGTERM: "terminated"}
if hasattr(_signal, "SIGHUP"):
    _WORDS[_signal.SIGHUP] = "hung up"


def handle(handler: Callable[[int, Any], object]) -> None:
    """Set the handler of each of these signals, except those that are ignored already."""
    for number in _WORDS:
        # A background job ignores Ctrl-C, and a command under nohup ignores SIGHUP.
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handler)


def ignore() -> None:
    """Ignore these signals from now on."""
    for number in _WORDS:
        _signal.signal(number, _signal.SIG_IGN)


def leave(number: int, frame: object = None) -> NoReturn:
    """End the process at once, with one line and the exit code that a shell would give."""
    ignore()
    try:
        os.write(2, _last_line(number).encode())
    except OSError:
        # The terminal is gone, or the disk with the log is full.
        pass
    finally:
        os._exit(_SIGNALLED + number)


def _last_line(number: int) -> str:
    """Return what says that a signal ended the command."""
    if not progress_mode.is_json():
        return f"cnatool: {_WORDS[number]}.\n"
    return (
        f'{{"event": "end", "time": {time.time():.3f}, "exit_code": {_SIGNALLED + number}, '
        f'"error": "{_WORDS[number]}"}}\n'
    )
