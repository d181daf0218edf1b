"""Refusal of URLs on the command line, before any is taken for a path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnatool._util.local_paths import check_local

if TYPE_CHECKING:
    from collections.abc import Sequence

# Options whose values are free text, or addresses.
_FREE = ("--tag", "--dask")
_NAMED = re.compile(r"^(?:--[\w-]+=)?(?:[\w.:/-]+=)?(?=[A-Za-z][A-Za-z0-9+.-]+://)")


def refuse_urls(words: Sequence[str]) -> None:
    """Refuse a command line with a URL where a path belongs."""
    for before, word in zip(("", *words), words, strict=False):
        if before in _FREE or word.startswith(tuple(f"{option}=" for option in _FREE)):
            continue
        if named := _NAMED.match(word):
            check_local(word[named.end() :])
