"""What a dump meets that is no finite number: counted while it goes by, said at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.store.records import TensorRecord

__all__ = ["NotFinite", "broken_rows"]


def broken_rows(inputs: Sequence[NDArray[Any]], rows: int) -> NDArray[np.bool_]:
    """Say which samples hold NaN or an infinity in any of their raw inputs.

    Parameters
    ----------
    inputs : sequence of ndarray
        Raw inputs, (n, …) each.
    rows : int
        The number n of samples.
    """
    broken = np.zeros(rows, bool)
    for values in inputs:
        if values.dtype.kind != "f":
            continue
        flat = values.reshape(rows, math.prod(values.shape[1:]))
        broken |= ~np.isfinite(flat).all(axis=1)
    return broken


class NotFinite:
    """Counts samples that hold what is no finite number, in raw inputs and in sums of tensors.

    Parameters
    ----------
    tensors : sequence of TensorRecord
        The tensors in the order of the sums' columns.
    """

    def __init__(self, tensors: Sequence[TensorRecord]) -> None:
        self._tensors = tensors
        self._inputs = _Count()
        self._sums = _Count()
        self._first_tensor = ""

    def add(
        self,
        split: str,
        ids: Sequence[str],
        broken: NDArray[np.bool_],
        sums: NDArray[np.float64],
    ) -> None:
        """Count a block of samples.

        Parameters
        ----------
        split : str
            The split's name.
        ids : sequence of str
            Where each sample came from.
        broken : ndarray of bool, shape (n,)
            Of `broken_rows`.
        sums : ndarray, shape (n, T)
            Sums of each tensor.
        """
        self._inputs.add(split, ids, broken)
        # As a rule all are finite, and then one number says so.
        with np.errstate(invalid="ignore", over="ignore"):
            if math.isfinite(sums.sum()):
                return
        finite = np.isfinite(sums)
        rows: NDArray[np.bool_] = np.logical_not(finite.all(axis=1))
        if rows.any() and not self._sums.samples:
            self._first_tensor = self._tensors[int(np.argmin(finite[np.argmax(rows)]))].name
        self._sums.add(split, ids, rows)

    def notes(self) -> list[str]:
        """Give a line for raw inputs and one for tensors, where there is something to say."""
        lines = []
        if self._inputs.samples:
            lines.append(f"NaN or infinite raw inputs in {self._inputs}")
        if self._sums.samples:
            lines.append(
                f"NaN or infinite values in {self._sums}, first tensor {self._first_tensor!r}"
            )
        return lines


class _Count:
    """How many samples, and which was the first."""

    def __init__(self) -> None:
        self.samples = 0
        self._first = ""

    def add(self, split: str, ids: Sequence[str], rows: NDArray[np.bool_]) -> None:
        if not self.samples and rows.any():
            self._first = f"{split} {printable(ids[int(np.argmax(rows))])}"
        self.samples += int(np.count_nonzero(rows))

    def __str__(self) -> str:
        return f"{self.samples:,} sample{'s' * (self.samples != 1)}, first {self._first}"
