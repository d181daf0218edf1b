"""Warnings of libraries, as one line each on standard error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.observer import current_subject
from cnatool.cli.console import warn
from cnatool.cli.parameter_names import running_context, with_options
from cnatool.errors import StoreWarning

if TYPE_CHECKING:
    from typing import TextIO

_NUMBERS = re.compile(r"\d+")
_NAMES = {"PIL": "Pillow", "numpy": "NumPy", "scipy": "SciPy", "onnxruntime": "ONNX Runtime"}


class LibraryWarnings:
    """Shows each kind of library warning once, with the library and the file it is about."""

    def __init__(self) -> None:
        self._shown: set[tuple[type[Warning], str]] = set()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Take the place of `warnings.showwarning`."""
        if _is_quiet():
            return
        text = " ".join(str(message).split())
        if issubclass(category, StoreWarning):
            # Our own warnings name a store: each of them is shown.
            if (category, text) not in self._shown:
                self._shown.add((category, text))
                warn(with_options(text))
            return
        # Texts that differ only in a number are of one kind.
        kind = category, _NUMBERS.sub("", text)
        if kind in self._shown:
            return
        self._shown.add(kind)
        about = current_subject()
        warn(
            with_options(f"{_library(filename)} warns{f' about {about}' if about else ''}: {text}")
        )


def _is_quiet() -> bool:
    """Whether the running command has ``--quiet``, from its command line or a file of options."""
    context = running_context()
    return context is not None and bool(context.params.get("quiet"))


def _library(filename: str) -> str:
    """Name the library that a Python file belongs to."""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            name = parts[parts.index(folder) + 1].removesuffix(".py")
            return _NAMES.get(name, name)
    return "Python"
