"""Choosing tensors by name, glob, or the word for a group of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["matching_names"]


def matching_names(names: Sequence[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Pick the names that equal or match any pattern, in the order of ``names``.

    A pattern that equals a name stands for that name alone, whatever ``*``, ``?`` or ``[`` it
    holds: graph names may contain any of them.

    Parameters
    ----------
    names, patterns : sequence of str

    Returns
    -------
    chosen : list of str
    unmatched : list of str
        The patterns that matched nothing.
    """
    exact = set(names)
    chosen: set[str] = set()
    unmatched = []
    for pattern in patterns:
        found = {pattern} if pattern in exact else {n for n in names if fnmatchcase(n, pattern)}
        chosen |= found
        if not found:
            unmatched.append(pattern)
    return [name for name in names if name in chosen], unmatched
