"""The splits of a store by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from cnatool._util.text import list_names
from cnatool.errors import MissingSplitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_Split = TypeVar("_Split")


class SplitsByName(dict[str, _Split]):
    """The splits of a store; the error for any other name lists their names."""

    def __init__(self, path: Path, splits: Mapping[str, _Split]) -> None:
        super().__init__(splits)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        there = f"it has {list_names(self)}" if self else "it has no splits yet"
        raise MissingSplitError(f"{self._path}: no split {name!r}; {there}.")
