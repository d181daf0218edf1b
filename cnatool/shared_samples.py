"""Samples that two splits share, whatever they are called: found by content, said at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SharedSamples", "content_hashes"]

# Several inputs count in their order.
_ODD = np.int64(0x9E3779B97F4A7C15 - 2**64)


def content_hashes(inputs: Sequence[NDArray[Any]], rows: int) -> NDArray[np.int64]:
    """Give 64 bits for each sample, the same for equal raw inputs within one process.

    Parameters
    ----------
    inputs : sequence of ndarray
        Raw inputs, (n, …) each.
    rows : int
        The number n of samples.
    """
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
