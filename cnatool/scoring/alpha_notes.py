"""Notes on α: samples without one, ids counted as grey levels, and length as part of CNA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import count_text
from cnatool.scoring.alpha_input import select_alpha_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.metrics.convention import AlphaForm, ConventionFields
    from cnatool.records.store import StoreRecord
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.results import LengthResult, SplitResult
    from cnatool.scoring.split import ScoredSplit

# CNA that two correlations with length alone make, from which on that is said.
_CONFOUNDED = 0.25
# A correlation with length from which on the advice is to choose what does not grow with it.
_LARGE = 0.3
_RATES: Mapping[AlphaForm, AlphaForm] = {
    "entropy": "entropy-rate",
    "entropy-density": "entropy-rate",
    "compression": "compression-rate",
}


def alpha_notes(
    record: StoreRecord,
    fields: ConventionFields,
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, ScoredSplit],
    results: Mapping[str, SplitResult],
) -> Iterator[str]:
    """Yield what to know of α beside its number."""
    yield from _type_notes(record, fields)
    undefined = [
        f"{result.alpha_undefined:,} of {count_text(result.samples, 'sample')} of {name}"
        for name, result in results.items()
        if result.alpha_undefined
    ]
    if undefined:
        why = next(iter(splits.values())).explain_undefined(fields)
        yield (
            f"without α, because {why}, and excluded from α, β, CNA and CNA-A: "
            f"{', '.join(undefined)}"
        )
    yield from _length_notes(fields, layers, splits, results)


def _type_notes(record: StoreRecord, fields: ConventionFields) -> Iterator[str]:
    """Yield a note if small unsigned numbers, which count as levels, are fed as whole numbers."""
    found = select_alpha_input(record, fields)
    array = record.inputs[found.number]
    if found.kind is not None or found.number >= len(record.preprocessing):
        return
    step = record.preprocessing[found.number]
    small = array.dtype in ("uint8", "uint16") and len(array.shape) == 1
    if small and np.dtype(step.dtype).kind == "i" and fields.alpha.startswith("entropy"):
        yield (
            f"input {found.name!r} of type {array.dtype} is counted as grey levels, in "
            f"{count_text(fields.bins, 'bin')}, although the model receives {step.dtype}: if "
            "these are ids, dump them as int64, so that each has its own bin"
        )


def _length_notes(
    fields: ConventionFields,
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, ScoredSplit],
    results: Mapping[str, SplitResult],
) -> Iterator[str]:
    """Yield a note if length is part of CNA, with what does not grow with length."""
    confounded = {
        name: result.length
        for name, result in results.items()
        if result.length is not None and abs(_shared(result.length)) >= _CONFOUNDED
    }
    if not confounded:
        return
    pairs = [
        f"{length.alpha.value:.2f} and {length.beta.value:.2f} in {name}"
        for name, length in confounded.items()
    ]
    shares = [f"{_shared(length):.2f} in {name}" for name, length in confounded.items()]
    fixed = [
        f"{length.cna.value:.2f} in {name}"
        for name, length in confounded.items()
        if length.cna.value is not None
    ]
    note = (
        "the length of samples contributes to CNA: its correlations with α and β are "
        f"{', '.join(pairs)}, which alone would make CNA {', '.join(shares)}"
    )
    if fixed:
        note += f"; with length held fixed, CNA is {', '.join(fixed)}"
    advice = list(_advise(fields, layers, splits, list(confounded.values())))
    if advice:
        verb = "does" if len(advice) == 1 else "do"
        note += f". {' and '.join(advice)} {verb} not grow with length"
    yield note


def _shared(length: LengthResult) -> float:
    """Return the CNA of α and β that have nothing in common but length."""
    return (length.alpha.value or 0.0) * (length.beta.value or 0.0)


def _advise(
    fields: ConventionFields,
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, ScoredSplit],
    lengths: Sequence[LengthResult],
) -> Iterator[str]:
    rate = _RATES.get(fields.alpha)
    levels = any(s.split.store.record.inputs[0].levels is not None for s in splits.values())
    if rate and not levels and any(abs(each.alpha.value or 0) >= _LARGE for each in lengths):
        yield f"`alpha={rate!r}`"
    counted = all(scored.split.has_statistic("count") for scored in splits.values())
    defined = counted or not any(layer.tensor.varies for layer in layers)
    steep = any(abs(each.beta.value or 0) >= _LARGE for each in lengths)
    if fields.aggregate != "mean" and defined and steep:
        yield "`aggregate='mean'`"
