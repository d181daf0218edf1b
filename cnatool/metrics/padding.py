"""Padding in texts, found from masks or from the ends of rows of token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Samples that are looked at.
LOOKED_AT = 256
# Shorter rows of whole numbers are no texts.
SHORTEST = 4
# Zeros and ones that are no masks of padding.
OTHER_NAMES = ("type", "segment", "position", "past", "cache")


def padding_text(inputs: Mapping[str, NDArray[Any]]) -> str | None:
    """Describe the share of token positions that is padding; None without padding.

    Parameters
    ----------
    inputs : mapping of str to ndarray
        Some samples of each of a model's inputs that data feed, sample axis first.
    """
    padding = find_padding(inputs)
    return None if padding is None else _text(*padding)


def find_padding(inputs: Mapping[str, NDArray[Any]]) -> tuple[float, str] | None:
    """Find the share of token positions that is padding, and what shows it; None without any."""
    rows = {
        name: values
        for name, values in inputs.items()
        if values.ndim == 2 and values.shape[1] >= SHORTEST and len(values)
    }
    tokens = {
        name: values
        for name, values in rows.items()
        if values.dtype.kind in "iu" and values.max() > 1
    }
    for name, values in rows.items():
        share = _mask_share(name, values, list(tokens.values()))
        if share:
            return share, f"{name!r} is 0 there"
    for name, values in tokens.items():
        tail = _padded_tail(values)
        if tail is not None:
            share, value = tail
            return share, f"rows of {name!r} end in {value}"
    return None


def _text(share: float, how: str) -> str:
    return (
        f"padding counts: {share:.0%} of the token positions are padding ({how}), and α and the "
        "sums of layers run over them too, so that CNA depends on the length that texts are padded "
        "to. Pad all texts that are compared to the same length, or dump texts of one length that "
        "need no padding"
    )


def _mask_share(name: str, values: NDArray[Any], tokens: list[NDArray[Any]]) -> float:
    """Return the share of zeros of a mask; 0 for an array that is no mask."""
    zeros = values == 0
    if not zeros.any() or zeros.all() or not (zeros | (values == 1)).all():
        return 0.0
    lower = name.lower()
    if any(word in lower for word in OTHER_NAMES):
        return 0.0
    named = "mask" in lower and "head" not in lower
    return float(zeros.mean()) if named or _covers_padding(zeros, tokens) else 0.0


def _covers_padding(zeros: NDArray[np.bool_], tokens: list[NDArray[Any]]) -> bool:
    """Whether zeros lie at one end of each row, and all ids there are the same."""
    steps = np.diff(zeros.astype(np.int8), axis=1)
    at_end = bool((steps >= 0).all()) or bool((steps <= 0).all())
    return at_end and any(
        ids.shape == zeros.shape and len(np.unique(ids[zeros])) == 1 for ids in tokens
    )


def _padded_tail(ids: NDArray[Any]) -> tuple[float, int] | None:
    """Return the share and the id that fill rows at their end, or at their start."""
    for rows in (ids, ids[:, ::-1]):
        values, counts = np.unique(rows[:, -1], return_counts=True)
        value = values[counts.argmax()]
        same = rows == value
        # Positions from which on a row holds nothing else.
        tail = np.logical_and.accumulate(same[:, ::-1], axis=1)[:, ::-1]
        lengths = tail.sum(axis=1)
        filled = lengths >= 2
        # Every text ends at its own place, and its padding occurs nowhere else.
        varied = len(np.unique(lengths)) > 1
        enough = filled.sum() >= max(2, len(rows) // 2) and tail.sum() >= 0.99 * same.sum()
        if varied and enough:
            return float(tail.mean()), int(value)
    return None
