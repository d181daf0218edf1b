"""What the figures of stores share: names of axes and conventions, and selected splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.text import list_names, printable
from cnatool.errors import UsageError
from cnatool.studying.find import name_stores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool.metrics.convention import Aggregate, AlphaForm, Convention, ConventionFields
    from cnatool.store.store import Store

_ALPHA: Mapping[AlphaForm, str] = {
    "entropy": "α, input entropy (bits)",
    "entropy-density": "α, input entropy (density form)",
    "compression": "α, compressed share of the input",
}
_Z: Mapping[Aggregate, str] = {
    "sum": "activation sum",
    "mean": "mean activation",
    "channel-mean": "activation sum over channels",
    "channel-mean-spatial": "activation sum over channels",
}
_DEPTH = {"index": "depth d (layer)", "path": "depth d (layers on the longest path)"}


def alpha_title(fields: ConventionFields) -> str:
    """Name α with its unit."""
    return _ALPHA[fields.alpha]


def z_title(fields: ConventionFields) -> str:
    """Name z_d."""
    return f"z, {_Z[fields.aggregate]}"


def beta_title(fields: ConventionFields) -> str:
    """Name β with its unit."""
    return f"β ({_Z[fields.aggregate]} per layer)"


def depth_title(fields: ConventionFields) -> str:
    """Name d."""
    return _DEPTH[fields.depth]


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
