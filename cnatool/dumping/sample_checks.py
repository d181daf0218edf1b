"""What a dump meets that is no finite number: counted while it goes by, said at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.store import TensorRecord


def broken_rows(inputs: Sequence[NDArray[Any]], rows: int) -> NDArray[np.bool_]:
    """Say which samples hold NaN or an infinity in any of their raw inputs."""
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


# Several inputs count in their order.
_ODD = np.int64(0x9E3779B97F4A7C15 - 2**64)


def content_hashes(inputs: Sequence[NDArray[Any]], rows: int) -> NDArray[np.int64]:
    """Give 64 bits for each sample, the same for equal raw inputs within one process."""
    # Python's own, keyed by chance in each process: among a million samples, one of another million
    # is found by mistake with a probability of 5e-8, and nobody can write samples that are.
    total = np.zeros(rows, np.int64)
    for values in inputs:
        total *= _ODD
        total += np.fromiter((hash(sample.tobytes()) for sample in values), np.int64, rows)
    return total


class SharedSamples:
    """Counts the samples of a split that an earlier one holds too.

    Eight bytes are kept of each sample, and twice that while those of a split are sorted; nothing
    of the last split.

    Parameters
    ----------
    last : str or None
        The split that no other will be compared with; None if that is not known.
    """

    def __init__(self, last: str | None = None) -> None:
        self._last = last
        # Ascending, of the splits that were left; and of the one that is being read.
        self._past: dict[str, list[NDArray[np.int64]]] = {}
        self._split = ""
        self._blocks: list[NDArray[np.int64]] = []
        self._rows: dict[str, int] = {}
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, split: str, ids: Sequence[str], contents: NDArray[np.int64]) -> None:
        """Compare a block of samples with those of other splits.

        Parameters
        ----------
        split : str
            The split's name.
        ids : sequence of str
            Where each sample came from.
        contents : ndarray of int64, shape (n,)
            Of `content_hashes`.
        """
        if split != self._split:
            self._leave()
            self._split = split
        for other, parts in self._past.items():
            if other == split:
                continue
            there = np.zeros(len(contents), bool)
            for part in parts:
                places = np.searchsorted(part, contents)
                there |= part[np.minimum(places, len(part) - 1)] == contents
            if there.any():
                first = str(ids[int(there.argmax())])
                count, known = self._found.get((split, other), (0, first))
                self._found[split, other] = (count + int(there.sum()), known)
        if split != self._last:
            self._blocks.append(contents)
        self._rows[split] = self._rows.get(split, 0) + len(contents)

    def notes(self) -> list[str]:
        """Give a line for each two splits that share samples."""
        return [
            f"{count:,} of the {self._rows[split]:,} samples of split {split} have the raw input "
            f"of a sample in split {other}, first {printable(first)}: their scores are not "
            "independent"
            for (split, other), (count, first) in self._found.items()
        ]

    def _leave(self) -> None:
        if self._blocks:
            whole = np.concatenate(self._blocks)
            whole.sort()
            self._past.setdefault(self._split, []).append(whole)
            self._blocks = []
