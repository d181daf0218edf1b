"""Integers in the smallest type that holds them, gathered block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Integers: TypeAlias = "NDArray[np.signedinteger[Any]]"


def compact(blocks: Iterable[NDArray[np.integer[Any]]]) -> Integers:
    """Concatenate blocks of integers in the smallest signed type that holds them all."""
    narrow = [block.astype(_smallest(block)) for block in blocks]
    if not narrow:
        return np.empty(0, np.int64)
    return np.concatenate(narrow)


def _smallest(values: NDArray[np.integer[Any]]) -> np.dtype[Any]:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return np.min_scalar_type(min(low, -1 - high))
