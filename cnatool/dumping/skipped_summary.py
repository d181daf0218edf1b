"""A summary of the tensors that are not stored, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cnatool.records.skipped import SkipKind, skip_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cnatool.records.store import SkippedTensor

_Words = Mapping[SkipKind, tuple[str, str]]  # singular and plural
# Kinds of tensors without values of samples, and the others.
_WITHOUT_SAMPLES: Final[_Words] = {
    "random": ("random tensor", "random tensors"),
    "constant": ("constant", "constants"),
    "shape arithmetic": ("result of shape arithmetic", "results of shape arithmetic"),
}
_OTHERS: Final[_Words] = {
    "no sample axis": ("without a sample axis", "without a sample axis"),
    "counted": ("of what is found in the data", "of what is found in the data"),
    "in a subgraph": ("inside a subgraph", "inside subgraphs"),
    "not numeric": ("not numeric", "not numeric"),
    "other": ("for another reason", "for other reasons"),
}


def needs_no_storing(tensor: SkippedTensor) -> bool:
    """Whether a tensor holds no values of samples, so that leaving it out loses nothing."""
    return skip_kind(tensor) in _WITHOUT_SAMPLES


def summarise_skipped(skipped: Iterable[SkippedTensor]) -> Iterator[str]:
    """Summarise in a line or two how many tensors are not stored, and of what kinds they are."""
    kinds = Counter(map(skip_kind, skipped))
    others = sum(kinds[kind] for kind in _OTHERS)
    if kinds.total() > others:
        yield f"not counted: {_counts(kinds, _WITHOUT_SAMPLES)}, which hold no values of samples"
    if others:
        yield (
            f"{others} more cannot be stored by sample: {_counts(kinds, _OTHERS)} "
            "(`inspect(skipped=True)` lists them)"
        )


def _counts(kinds: Counter[SkipKind], words: _Words) -> str:
    return ", ".join(
        f"{kinds[kind]} {singular if kinds[kind] == 1 else plural}"
        for kind, (singular, plural) in words.items()
        if kinds[kind]
    )
