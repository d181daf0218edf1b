"""Tensors of a store by name, glob, or exclusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.names import advise_on_name, match_names
from cnatool._util.text import list_names
from cnatool.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def select_tensors(path: Path, names: Sequence[str], tensors: str | Iterable[str]) -> list[str]:
    """Return the names of tensors of the store at a path that patterns match, in order.

    Raises MetricError if a pattern matches none.
    """
    patterns = [tensors] if isinstance(tensors, str) else list(tensors)
    if not patterns:
        return []
    chosen, unmatched = match_names(names, patterns)
    if unmatched:
        raise MetricError(
            f"{path}: no tensor {list_names(map(repr, unmatched))}. "
            f"{advise_on_name(unmatched[0], names, path)}"
        )
    return chosen
