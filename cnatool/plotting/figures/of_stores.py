"""What the figures of stores share: names of conventions, and selected splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.text import list_names, printable
from cnatool.errors import UsageError
from cnatool.studying.find import name_stores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cnatool.metrics.convention import Convention
    from cnatool.store.store import Store


def convention_text(convention: Convention | None) -> str:
    """Name the convention behind the numbers; empty where it is not known."""
    return "" if convention is None else f"convention {printable(convention)}"


def select_splits(available: Iterable[str], split: str | None) -> list[str]:
    """Return the splits to draw: all, or the one that was named.

    Raises
    ------
    UsageError
        If there is no split of that name.
    """
    names = list(available)
    if split is None:
        return names
    if split not in names:
        raise UsageError(f"`split` {split}: there is no such split; there are {list_names(names)}.")
    return [split]


def title_stores(stores: Sequence[Store]) -> list[str]:
    """Name each store by its path, for a title."""
    return [printable(name) for name in name_stores([Path(store.path) for store in stores])]
