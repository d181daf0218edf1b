"""Selection of tensors by name, glob, or a word for a group of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnatool._util.text import quote_for_shell

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

_NOT = "!"
# Names that a message suggests, and the shortest text for which it suggests those that contain it.
_SUGGESTED = 3
_SHORTEST = 3


def match_names(
    names: Sequence[str],
    patterns: Sequence[str],
    words: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> tuple[list[str], list[str]]:
    """Return the names that match any pattern, in order, and the patterns without a match.

    A pattern that equals a name stands for that name alone, whatever ``*``, ``?``, ``[`` or ``!``
    it contains: graph names may contain any of them. A word stands for the names that ``words``
    lists. A pattern after ``!`` excludes what it matches; with such patterns alone, all other names
    are returned.
    """
    dropped, unmatched = find_excluded(names, patterns)
    wanted = [pattern for pattern in patterns if not _excludes(names, pattern)]
    chosen: set[str] = set() if wanted else set(names)
    for pattern in wanted:
        matches = set(words[pattern]) if pattern in words else _match(names, pattern)
        chosen |= matches
        if not matches and pattern not in words:
            unmatched.append(pattern)
    chosen -= dropped
    return [name for name in names if name in chosen], unmatched


def find_excluded(names: Sequence[str], patterns: Sequence[str]) -> tuple[set[str], list[str]]:
    """Return the names that patterns after ``!`` exclude, and the patterns without a match."""
    excluded = {p: _match(names, p.removeprefix(_NOT)) for p in patterns if _excludes(names, p)}
    unmatched = [pattern for pattern, dropped in excluded.items() if not dropped]
    return set().union(*excluded.values()), unmatched


def find_named(names: Sequence[str], patterns: Iterable[str]) -> set[str]:
    """Return the names that any pattern matches, which excludes none."""
    return {n for p in patterns if not _excludes(names, p) for n in _match(names, p)}


def find_full_name(names: Iterable[str], name: str) -> str:
    """Return the one name that ends in another, which is its own name in a subgraph; or nothing."""
    found = list_full_names(names, name)
    return found[0] if len(found) == 1 else ""


def list_full_names(names: Iterable[str], name: str) -> list[str]:
    """List the names that end in another, which is their own name in a subgraph."""
    ends = name if name.startswith("/") else f"/{name}"
    return [full for full in names if full.endswith(ends) and full != name]


def complete_name(names: Collection[str], pattern: str) -> str:
    """Return the full name of what a pattern calls by its own name in a subgraph, if it is clear.

    A pattern that matches names stays as it is.
    """
    sign = _NOT * _excludes(names, pattern)
    name = pattern.removeprefix(sign)
    full = "" if _match(names, name) else find_full_name(names, name)
    return f"{sign}{full}" if full else pattern


def find_near_names(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that somebody may have meant by a pattern without a match: at most three.

    These contain it, or are spelled nearly like it, as a whole or in a part between ``/``.
    """
    from difflib import get_close_matches

    text = pattern.removeprefix(_NOT).strip("*?/").casefold()
    parts: dict[str, list[str]] = {}
    containing = []
    for name in names:
        if name == pattern:
            continue  # which stands for something else
        folded = name.casefold()
        for part in {folded, *filter(None, folded.split("/"))}:
            parts.setdefault(part, []).append(name)
        if len(text) >= _SHORTEST and text in folded:
            containing.append(name)
    close = get_close_matches(text, parts, _SUGGESTED)
    near = dict.fromkeys([*containing, *(name for part in close for name in parts[part])])
    return list(near)[:_SUGGESTED]


def advise_on_name(pattern: str, names: Iterable[str], path: Path) -> str:
    """Return what to do about a pattern that matches no tensor of the model or store at a path."""
    near = find_near_names(pattern, names)
    if not near:
        return f"`cnatool inspect {quote_for_shell(path)}` lists the tensors."
    *others, last = map(repr, near)
    meant = f"{', '.join(others)} or {last}" if others else last
    return f"Did you mean {meant}? `cnatool inspect {quote_for_shell(path)}` lists all."


def exclusion(name: str) -> str:
    """Return the parameter that excludes a tensor, for messages."""
    return f"`tensors={_NOT + name!r}`"


def _match(names: Collection[str], pattern: str) -> set[str]:
    return {pattern} if pattern in names else {n for n in names if fnmatchcase(n, pattern)}


def _excludes(names: Collection[str], pattern: str) -> bool:
    return pattern.startswith(_NOT) and pattern not in names
