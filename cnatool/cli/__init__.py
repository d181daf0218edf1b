"""The command line: thin commands over the library."""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import typer

from cnatool.errors import CnatoolError
from cnatool.text import printable

__all__ = ["main"]

_INTERNAL_ERROR = 4
_INTERRUPTED = 130


def main() -> None:
    """Run the command ``cnatool``; every exception becomes one message and an exit code."""
    from cnatool.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show α shows a question mark instead.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if "--debug" in sys.argv[1:]:
        app()
        return
    try:
        app()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _interrupted()
        raise
    except CnatoolError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        # Whoever read our output went away, as `| head` does; without this Python would complain
        # once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("out of memory. A dump takes less with a smaller --batch-size.", _INTERNAL_ERROR)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", CnatoolError.exit_code)
    except Exception as error:
        _fail(
            f"this is a bug in cnatool: {type(error).__name__}: {error}. "
            "Run `cnatool --debug …` for the traceback, and please report it.",
            _INTERNAL_ERROR,
        )


def _interrupted() -> NoReturn:
    typer.echo("cnatool: interrupted.", err=True)
    sys.stdout.flush()
    # What had to be put in order was, on the exception's way here. Threads that libraries left
    # waiting would only complain at a regular exit.
    os._exit(_INTERRUPTED)


def _fail(message: str, code: int) -> None:
    typer.echo(f"cnatool: {printable(message)}", err=True)
    sys.exit(code)
