"""The command, run in this process."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import jsonschema

from cnatool.cli import main
from cnatool.cli.parameter_names import with_options
from cnatool.schemas import schema_text

# The installed command, for what is about its process.
COMMAND = Path(sys.executable).with_name("cnatool")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What Python ignores where nobody asks for it.
_IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def run(
    *words: object,
    cwd: Path | None = None,
    code: int | None = 0,
    terminal: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run `cnatool` with these words in a folder, as a process would; check its exit code.

    ``terminal`` says whether its output goes to one. For what is about the process itself
    (signals, streams, imports), start one.
    """
    arguments = [str(word) for word in words]
    stdout, stderr = _Stream(terminal), _Stream(False)
    ended: object = 0
    with (
        patch.object(sys, "argv", ["cnatool", *arguments]),
        # By which click would see how these tests were started.
        patch.object(sys.modules["__main__"], "__package__", None),
        patch.object(sys, "stdout", stdout),
        patch.object(sys, "stderr", stderr),
        patch.object(sys, "unraisablehook", sys.unraisablehook),
        patch.dict(os.environ, environment),
        _inside(cwd),
        _signals_kept(),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for category in _IGNORED:
            warnings.simplefilter("ignore", category)
        try:
            main()
        except SystemExit as stop:
            ended = stop.code
    returned = ended if isinstance(ended, int) else int(ended is not None)
    result = subprocess.CompletedProcess(arguments, returned, stdout.text(), stderr.text())
    if code is not None:
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
    return result


# Run a script as Python does, once PyTorch's exporter is ready for more than one export.
_EXPORTS = f"""
import runpy, sys
from pathlib import Path
sys.path[0:1] = [str(Path(sys.argv[1]).parent), {str(Path(__file__).parents[1])!r}]
from support.exporter import keep_operators
keep_operators()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python(code: str | Path, *words: object, cwd: Path | None = None, exports: bool = False) -> str:
    """Run Python code, or a script, in a process of its own; return what it prints.

    ``exports`` says whether a script exports several networks from PyTorch.
    """
    script = [str(code)] if isinstance(code, Path) else ["-c", code]
    if exports:
        script = ["-c", _EXPORTS, *script]
    arguments = [sys.executable, *script, *map(str, words)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=600, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def script(path: Path, *words: object, cwd: Path) -> str:
    """Run a script of the examples in this process, which has imported its libraries; as `python`.

    What libraries warn of is theirs.
    """
    printed = io.StringIO()
    with (
        patch.object(sys, "argv", [str(path), *map(str, words)]),
        patch.object(sys, "path", [str(path.parent), *sys.path]),
        redirect_stdout(printed),
        warnings.catch_warnings(),
        _inside(cwd),
    ):
        warnings.simplefilter("ignore")
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()


def refused(*words: object, cwd: Path, code: int = 2) -> str:
    """Run a command that must fail, print nothing and leave nothing behind; return its message."""
    before = sorted(cwd.rglob("*"))
    result = run(*words, cwd=cwd, code=code)
    assert result.stdout == ""
    messages = [line for line in result.stderr.splitlines() if line.startswith("cnatool: ")]
    assert len(messages) == 1, result.stderr
    assert sorted(cwd.rglob("*")) == before, "something was left behind"
    return messages[0]


def document(schema: str, *words: object, cwd: Path) -> Any:
    """Run a command with ``--json``; return its document, which is valid and has no NaN."""
    found = json.loads(run(*words, "--json", cwd=cwd).stdout, parse_constant=_no_number)
    jsonschema.validate(found, json.loads(schema_text(schema)))
    assert found["schema"].startswith(f"cnatool.{schema}/")
    return found


def with_options_in(document: Any) -> Any:
    """Replace the parameters that a document of the library names by the command's options."""
    if isinstance(document, dict):
        return {key: with_options_in(value) for key, value in document.items()}
    if isinstance(document, list):
        return [with_options_in(value) for value in document]
    return with_options(document) if isinstance(document, str) else document


def _no_number(word: str) -> NoReturn:
    raise AssertionError(f"{word} in JSON")


class _Stream(io.TextIOWrapper):
    """What a command prints to, a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        self._bytes = io.BytesIO()
        self._terminal = terminal
        super().__init__(self._bytes, "utf-8", write_through=True)

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        return self._bytes.getvalue().decode()


@contextmanager
def _inside(folder: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
