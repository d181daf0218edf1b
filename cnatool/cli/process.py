"""One run of the command: its streams, its signals, and what an exception becomes."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, NoReturn

import typer

from cnatool.cli.console import note, note_lines
from cnatool.cli.warned import LibraryWarnings
from cnatool.errors import CnatoolError, StoreWriteError
from cnatool.store.failures import FULL
from cnatool.text import replace_unencodable

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["run"]

_INTERNAL_ERROR = 4
# What typer makes of an interruption.
_INTERRUPTED = 130
# How a shell says which signal ended a process.
_SIGNALLED = 128
_ASCII = "cnatool_ascii"
_AGAIN_SECONDS = 0.01


def run() -> None:
    """Run the command line that the process was started with."""
    _transliterate()
    received = _interruptible()
    if "--debug" in sys.argv[1:]:
        warnings.showwarning = _show_warning
        try:
            _run()
        except Exception as error:
            _show_traceback(error)
            sys.exit(1)
        return
    warnings.showwarning = LibraryWarnings(quiet=bool({"-q", "--quiet"} & {*sys.argv[1:]})).show
    try:
        try:
            _run()
        except Exception:
            # An interruption may fall between a lock and what lets go of it, which then fails in
            # a way of its own.
            if received:
                raise KeyboardInterrupt from None
            raise
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _interrupted(received)
        raise
    except CnatoolError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _interrupted(received)
    except BrokenPipeError:
        # Whoever read our output went away, as `| head` does.
        _drop_output()
        sys.exit(1)
    except MemoryError:
        _fail("out of memory. A dump takes less with a smaller --batch-size.", _INTERNAL_ERROR)
    except OSError as error:
        if error.errno in FULL and not error.filename:
            # What files of results and stores raise has a message of its own.
            _drop_output()
            _fail(
                f"standard output or a temporary file cannot be written: {error.strerror}. Free "
                "some space, or write elsewhere.",
                StoreWriteError.exit_code,
            )
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", CnatoolError.exit_code)
    except UnicodeEncodeError as error:
        # Stores, JSON and frames are UTF-8; a path or a word of the command line may be any bytes.
        _fail(f"{error.object}: this name is not UTF-8. Give another.", CnatoolError.exit_code)
    except Exception as error:
        _fail(
            f"this is a bug in cnatool: {type(error).__name__}: {error}. "
            "Run `cnatool --debug …` for the traceback, and please report it.",
            _INTERNAL_ERROR,
        )


def _show_traceback(error: Exception) -> None:
    """Show what Python would, with nothing in it that steers a terminal."""
    import traceback

    note_lines("".join(traceback.format_exception(error)))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    note_lines(warnings.formatwarning(str(message), category, filename, lineno, line))


def _drop_output() -> None:
    """Let nothing complain once more, at exit, about output that is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _transliterate() -> None:
    """Let a terminal that cannot show α show "alpha" instead."""
    codecs.register_error("cnatool", replace_unencodable)
    codecs.register(_plain_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_ = codecs.lookup(stream.encoding).name == "ascii"
            encoding = _ASCII if ascii_ else stream.encoding
            stream.reconfigure(encoding=encoding, errors="cnatool")


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Look up ASCII by another name: click writes UTF-8 where a stream is called ASCII."""
    if name != _ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        plain.incrementaldecoder,
        name=_ASCII,
    )


def _run() -> None:
    from cnatool.cli.app import app
    from cnatool.cli.urls import refuse_urls

    refuse_urls(sys.argv[1:])
    app()


def _interruptible() -> list[int]:
    """Let Ctrl-C and SIGTERM end the command in good order, and a second of them at once.

    Return the list that the signal will be appended to.
    """
    received: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        raise KeyboardInterrupt

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt) or not received:
            sys.__unraisablehook__(what)
            return
        # The signal came within a callback of the interpreter's own (a finaliser, a weak
        # reference), which no exception leaves: what was raised is dropped. Raise it again from a
        # moment later, when this callback is over.
        number = received.pop()
        signal.signal(number, interrupt)
        again = threading.Timer(_AGAIN_SECONDS, os.kill, [os.getpid(), number])
        again.daemon = True
        again.start()

    sys.unraisablehook = unraisable
    for each in (signal.SIGINT, signal.SIGTERM):
        # Whoever starts a command in the background may have it ignore Ctrl-C.
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, interrupt)
    return received


def _interrupted(received: list[int]) -> NoReturn:
    terminated = signal.SIGTERM in received
    typer.echo(f"cnatool: {'terminated' if terminated else 'interrupted'}.", err=True)
    sys.stdout.flush()
    # What had to be put in order was, on the exception's way here. Threads that libraries left
    # waiting would only complain at a regular exit.
    os._exit(_SIGNALLED + signal.SIGTERM if terminated else _INTERRUPTED)


def _fail(message: str, code: int) -> None:
    note(f"cnatool: {message}")
    sys.exit(code)
