"""A summary of the tensors that are not stored, by kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cnatool._util.text import count_text, list_names
from cnatool.records.skipped import (
    SkipKind,
    find_subgraph_operator,
    format_missing_outputs,
    list_missing_outputs,
    skip_kind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cnatool.records.store import SkippedTensor, TensorRecord

_Words = tuple[str, str]  # singular and plural
# Kinds of tensors without values of samples.
_WITHOUT_SAMPLES: Final[Mapping[SkipKind, _Words]] = {
    "random": ("random tensor", "random tensors"),
    "constant": ("constant", "constants"),
    "shape arithmetic": ("result of shape arithmetic", "results of shape arithmetic"),
}
# What other reasons begin with, where that says more than their kind.
_NOT_NUMERIC: Final[Mapping[str, _Words]] = {
    "a sequence": ("sequence", "sequences"),
    "a map": ("map", "maps"),
    "a sparse tensor": ("sparse tensor", "sparse tensors"),
    "complex numbers": ("of complex numbers", "of complex numbers"),
    "strings": ("of strings", "of strings"),
}
_OTHERS: Final[Mapping[SkipKind, str]] = {
    "no sample axis": "without a sample axis",
    "counted": "whose rows are found in the data, such as detections",
    "not numeric": "not numeric",
    "other": "for another reason",
}


def needs_no_storing(tensor: SkippedTensor) -> bool:
    """Whether a tensor holds no values of samples, so that leaving it out loses nothing."""
    return skip_kind(tensor) in _WITHOUT_SAMPLES


def is_lost(tensor: SkippedTensor) -> bool:
    """Whether a tensor may hold values of samples and cannot be stored."""
    return not needs_no_storing(tensor) and skip_kind(tensor) != "not asked for"


def summarise_skipped(skipped: Iterable[SkippedTensor], others: int) -> Iterator[str]:
    """Summarise in a few lines how many tensors are not stored, and of what kinds they are.

    ``others`` is the number of the tensors that can be stored.
    """
    skipped = list(skipped)
    kinds = Counter(map(skip_kind, skipped))
    without = [_count(kinds[kind], text) for kind, text in _WITHOUT_SAMPLES.items() if kinds[kind]]
    if without:
        holds = "holds" if sum(kinds[kind] for kind in _WITHOUT_SAMPLES) == 1 else "hold"
        yield f"not counted: {', '.join(without)}, which {holds} no values for samples"
    lost = Counter(_words(tensor) for tensor in skipped if is_lost(tensor))
    if lost:
        texts = ", ".join(_count(count, words) for words, count in lost.items())
        yield (
            f"{lost.total()} of {count_text(others + lost.total(), 'tensor')} cannot be stored by "
            f"sample: {texts} (`inspect(skipped=True)` lists them)"
        )
    offered = [tensor.name for tensor in skipped if skip_kind(tensor) == "not asked for"]
    if offered:
        yield (
            f"nodes offer {count_text(len(offered), 'output')} that the model does not use, such "
            f"as states or attention scores (`tensors='inner'`): {list_names(offered)}"
        )


def describe_missing_outputs(
    outputs: Iterable[str], skipped: Iterable[SkippedTensor], tensors: Iterable[TensorRecord]
) -> Iterator[str]:
    """Name in a line the outputs of the model that cannot be stored, with the reasons."""
    missing = list_missing_outputs(outputs, skipped, tensors)
    count = sum(map(len, missing.values()))
    if missing:
        yield (
            f"{'an output' if count == 1 else f'{count} outputs'} of the model "
            f"{'is' if count == 1 else 'are'} not stored: {format_missing_outputs(missing)}"
        )


def _words(tensor: SkippedTensor) -> _Words:
    """Describe what a tensor that cannot be stored is, or where it lies."""
    kind = skip_kind(tensor)
    if kind in ("in a subgraph", "in an operator"):
        text = f"inside {find_subgraph_operator(tensor.reason) or tensor.operator}"
    elif kind == "not numeric" and (start := tensor.reason.partition(",")[0]) in _NOT_NUMERIC:
        return _NOT_NUMERIC[start]
    else:
        text = _OTHERS[kind]
    return text, text


def _count(count: int, words: _Words) -> str:
    return f"{count} {words[count != 1]}"
