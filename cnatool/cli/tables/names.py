"""Names of tensors as tables show them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cnatool.cli.console import print_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Characters of a name in a table; those that would look alike keep more, or all.
_LENGTHS = (60, 90, 130)


def shorten_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten long names, which begin alike where a model has nested Ifs, to their different ends.

    Each stays different from all others.
    """
    left = set(names)
    shown = {name: name for name in left if len(name) <= _LENGTHS[0]}
    left -= shown.keys()
    for length in _LENGTHS:
        ends = {name: name if len(name) <= length else f"…{name[1 - length :]}" for name in left}
        counts = Counter([*ends.values(), *shown.values()])
        found = {name: end for name, end in ends.items() if counts[end] == 1}
        shown |= found
        left -= found.keys()
    return shown | {name: name for name in left}


def print_cut(shown: Mapping[str, str]) -> None:
    """Print a line below a table with shortened names."""
    if any(name != text for name, text in shown.items()):
        print_line("names that begin with … are cut: --json prints them in full")
