"""How this process spells the parameters that texts of results name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_spellings: list[Callable[[str], str]] = []


@contextmanager
def spell_parameters(spell: Callable[[str], str]) -> Iterator[None]:
    """Spell parameters in another way in documents and tables, while the context lasts.

    The command line spells them as its options in all that it prints and writes.
    """
    _spellings.append(spell)
    try:
        yield
    finally:
        _spellings.pop()


def spell(text: str) -> str:
    """Spell the parameters in a text as this process does."""
    return _spellings[-1](text) if _spellings else text
