"""Choosing tensors by name, glob, or the word for a group of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnatool._util.text import quote_for_shell

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_NOT = "!"


def match_names(
    names: Sequence[str],
    patterns: Sequence[str],
    words: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> tuple[list[str], list[str]]:
    """Pick the names that equal or match any pattern, in the order of ``names``.

    A pattern that equals a name stands for that name alone, whatever ``*``, ``?``, ``[`` or ``!``
    it holds: graph names may contain any of them. A pattern behind a ``!`` leaves out what it
    matches; with such patterns alone all other names are picked.

    Parameters
    ----------
    names, patterns : sequence of str
    words : mapping of str to collection of str
        Names that a word stands for.

    Returns
    -------
    chosen : list of str
    unmatched : list of str
        The patterns that matched nothing.
    """
    dropped, unmatched = find_excluded(names, patterns)
    wanted = [pattern for pattern in patterns if not _excludes(names, pattern)]
    chosen: set[str] = set() if wanted else set(names)
    for pattern in wanted:
        found = set(words[pattern]) if pattern in words else _match(names, pattern)
        chosen |= found
        if not found and pattern not in words:
            unmatched.append(pattern)
    return [name for name in names if name in chosen - dropped], unmatched


def find_excluded(names: Sequence[str], patterns: Sequence[str]) -> tuple[set[str], list[str]]:
    """Give the names that patterns behind a ``!`` leave out, and those that match nothing."""
    found = {p: _match(names, p.removeprefix(_NOT)) for p in patterns if _excludes(names, p)}
    unmatched = [pattern for pattern, dropped in found.items() if not dropped]
    return set().union(*found.values()), unmatched


def exclusion(name: str) -> str:
    """Give the option that leaves a tensor out, as one types it."""
    return f"--tensors {quote_for_shell(_NOT + name)}"


def _match(names: Sequence[str], pattern: str) -> set[str]:
    return {pattern} if pattern in names else {n for n in names if fnmatchcase(n, pattern)}


def _excludes(names: Sequence[str], pattern: str) -> bool:
    return pattern.startswith(_NOT) and pattern not in names
