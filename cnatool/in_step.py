"""Rows that a store has, beside the same rows as a source gives them once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.store.stored_array import StoredArray

__all__ = ["InStep", "differing_rows"]


class InStep:
    """The rows of an array from its start on, as many at a time as are asked for."""

    def __init__(self, array: StoredArray) -> None:
        self._blocks = array.blocks()
        self._block: NDArray[Any] = array[:0]

    def take(self, count: int) -> NDArray[Any]:
        """Give the next rows, and go on behind them; fewer where the array ends."""
        rows = self.next(count)
        self._block = self._block[count:]
        return rows

    def next(self, count: int) -> NDArray[Any]:
        """Give the next rows, which stay the next; fewer where the array ends."""
        parts = [self._block]
        while sum(map(len, parts)) < count:
            _, block = next(self._blocks, (0, None))
            if block is None:
                break
            parts.append(block)
        filled = [part for part in parts if len(part)] or parts[:1]
        self._block = filled[0] if len(filled) == 1 else np.concatenate(filled)
        return self._block[:count]


def differing_rows(there: NDArray[Any], now: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which rows differ in any bit."""
    if there.dtype == object:
        return np.array([a != b for a, b in zip(there, now, strict=True)], bool)
    octets = [
        np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1) for rows in (there, now)
    ]
    if octets[0].shape != octets[1].shape:
        return np.ones(len(now), bool)
    return np.asarray((octets[0] != octets[1]).any(axis=1))
