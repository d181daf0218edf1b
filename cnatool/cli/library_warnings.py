"""Warnings of libraries, as one line each on standard error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.observer import current_subject
from cnatool.cli.console import warn
from cnatool.cli.parameter_names import with_options
from cnatool.errors import StoreWarning

if TYPE_CHECKING:
    from typing import TextIO

_NUMBERS = re.compile(r"\d+")
_NAMES = {"PIL": "Pillow", "numpy": "NumPy", "scipy": "SciPy", "onnxruntime": "ONNX Runtime"}


class LibraryWarnings:
    """Shows each kind of library warning once, with the library and the file it is about.

    Parameters
    ----------
    quiet : bool
        Show none.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
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
        text = " ".join(str(message).split())
        if issubclass(category, StoreWarning):
            # Our own warnings name a store: each of them is shown.
            if not self._quiet and (category, text) not in self._shown:
                self._shown.add((category, text))
                warn(with_options(text))
            return
        # Texts that differ only in a number are of one kind.
        kind = category, _NUMBERS.sub("", text)
        if self._quiet or kind in self._shown:
            return
        self._shown.add(kind)
        about = current_subject()
        warn(
            with_options(f"{_library(filename)} warns{f' about {about}' if about else ''}: {text}")
        )


def _library(filename: str) -> str:
    """Name the library that a Python file belongs to."""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            name = parts[parts.index(folder) + 1].removesuffix(".py")
            return _NAMES.get(name, name)
    return "Python"
