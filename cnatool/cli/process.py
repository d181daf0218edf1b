"""One run of the command: its streams, its signals, and what an exception becomes."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cnatool._util.text import replace_unencodable
from cnatool.cli import signals
from cnatool.cli.console import end_events, print_error, print_error_lines, warn
from cnatool.cli.library_warnings import LibraryWarnings
from cnatool.cli.parameter_names import with_options
from cnatool.errors import CnatoolError, StoreWriteError

if TYPE_CHECKING:
    from typing import TextIO

_INTERNAL_ERROR = 4
# The exit code that a shell reports for a program that SIGPIPE ended.
_READER_GONE = 141
_ASCII_NAME = "cnatool_ascii"
_RESEND_SECONDS = 0.01
# Signals within this time after the first are repeats of it.
_REPEAT_SECONDS = 0.5


def run() -> None:
    """Run the command line that the process was started with, and exit."""
    _set_up_streams()
    try:
        _run()
    except SystemExit as stop:
        end_events(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
        raise


def _run() -> None:
    debug = "--debug" in sys.argv[1:]
    warnings.showwarning = _show_warning if debug else LibraryWarnings().show
    received: list[int] = []
    try:
        try:
            _handle_signals(received)
            _run_app()
        finally:
            # The command is over. While the interpreter shuts down, which takes a moment, a signal
            # would replace the command's exit code.
            signals.ignore()
    except BaseException as error:
        # On its way here an interruption may become another error: a lock that was not yet taken
        # cannot be released, an extension that was being imported is no module.
        if received or isinstance(error, KeyboardInterrupt):
            _end_on_signal(received[0] if received else signal.SIGINT)
        if debug and not isinstance(error, SystemExit | BrokenPipeError):
            _show_traceback(error)
            sys.exit(1)
        _end_on_error(error)


def _end_on_error(error: BaseException) -> NoReturn:
    """Print what went wrong, and exit with the matching code."""
    try:
        raise error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            # Click's own exit code is 1, which here means that a check failed.
            sys.exit(_READER_GONE)
        raise
    except CnatoolError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of our output is gone, as with `| head`.
        _drop_output()
        sys.exit(_READER_GONE)
    except MemoryError:
        _fail("out of memory. A dump needs less with a smaller --batch-size.", _INTERNAL_ERROR)
    except OSError as error:
        from cnatool._util.write_failures import FULL

        if error.errno in FULL and not error.filename:
            # Errors of writing results and stores have messages of their own.
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
    except BaseException as error:  # a panic of polars is no Exception
        _fail(
            f"this is a bug in cnatool: {type(error).__name__}: {error}. "
            "Run `cnatool --debug …` for the traceback, and please report it.",
            _INTERNAL_ERROR,
        )


def _show_traceback(error: BaseException) -> None:
    """Print the traceback that Python would, with hidden characters escaped."""
    import traceback

    print_error_lines("".join(traceback.format_exception(error)))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    warn(warnings.formatwarning(str(message), category, filename, lineno, line))


def _drop_output() -> None:
    """Discard buffered output, which the interpreter would fail to flush at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _set_up_streams() -> None:
    """Let streams print "alpha" where they cannot encode α; replace missing streams."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    codecs.register_error("cnatool", replace_unencodable)
    codecs.register(_look_up_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_ = codecs.lookup(stream.encoding).name == "ascii"
            encoding = _ASCII_NAME if ascii_ else stream.encoding
            stream.reconfigure(encoding=encoding, errors="cnatool")


def _look_up_ascii(name: str) -> codecs.CodecInfo | None:
    """Look up ASCII by another name: click writes UTF-8 where a stream is called ASCII."""
    if name != _ASCII_NAME:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        plain.incrementaldecoder,
        name=_ASCII_NAME,
    )


def _run_app() -> None:
    from cnatool.cli.app import app
    from cnatool.cli.urls import refuse_urls

    refuse_urls(sys.argv[1:])
    app(prog_name="cnatool")


def _handle_signals(received: list[int]) -> None:
    """Let the first signal end the command after cleaning up, and a later one at once.

    The first signal is appended to ``received``.
    """
    first = 0.0
    hooked = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal first
        now = time.monotonic()
        if not received:
            received.append(number)
            first = now
            raise KeyboardInterrupt
        # A terminal and a launcher may both send the same Ctrl-C.
        if now - first > _REPEAT_SECONDS:
            signals.leave(received[0])

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt) or not received:
            sys.__unraisablehook__(what)
            return
        # The signal arrived in a callback of the interpreter (a finaliser, a weak reference),
        # which drops exceptions. Send it again a moment later, when the callback is over.
        nonlocal hooked
        hooked = True
        threading.Thread(target=send_again, args=[received.pop()], daemon=True).start()
        hooked = False

    def send_again(number: int) -> None:
        # Exceptions within the hook are dropped, too.
        while hooked:
            time.sleep(_RESEND_SECONDS)
        time.sleep(_RESEND_SECONDS)
        os.kill(os.getpid(), number)

    sys.unraisablehook = unraisable
    signals.handle(interrupt)


def _end_on_signal(number: int) -> NoReturn:
    # Buffered output is dropped: writing it may block forever, and by now signals are ignored.
    # If this module was imported, it may have made temporary files.
    if "cnatool.data.formats.csv_text" in sys.modules:
        sys.modules["cnatool.data.scratch_files"].remove_scratch_files()
    # Locks and files were cleaned up while the exception propagated. At a regular exit, threads
    # that libraries left waiting would only complain.
    signals.leave(number)


def _fail(message: str, code: int) -> NoReturn:
    print_error(with_options(message))
    sys.exit(code)
