"""Checks of samples during a dump: non-finite values, and samples that two splits share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.text import count_text, printable
from cnatool.records.ragged import Ragged
from cnatool.store.shared_samples import SharedSamples, content_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord


class SampleFacts(NamedTuple):
    """What is checked of the raw inputs of each sample."""

    nonfinite: NDArray[np.bool_]  # (n,): whether a sample holds NaN or an infinity
    # (n,): equal for equal inputs; None if there is no other split to compare them with
    hashes: NDArray[np.int64] | None

    def rows(self, rows: slice) -> SampleFacts:
        """Select some of the samples."""
        hashes = None if self.hashes is None else self.hashes[rows]
        return SampleFacts(self.nonfinite[rows], hashes)


def examine_samples(inputs: Sequence[Rows], rows: int, splits: int) -> SampleFacts:
    """Examine the raw inputs of ``rows`` samples, (n, …) each, of one of the ``splits``."""
    hashes = content_hashes(inputs, rows) if splits > 1 else None
    return SampleFacts(nonfinite_rows(inputs, rows), hashes)


class SampleChecks:
    """The checks of all samples of a dump.

    ``last`` is the split that is read last, whose samples no later split can share.
    """

    def __init__(self, tensors: Sequence[TensorRecord], last: str | None = None) -> None:
        self._nonfinite = NonFiniteCounter(tensors)
        self._shared = SharedSamples(last)

    def add(
        self, split: str, ids: Sequence[str], facts: SampleFacts, sums: NDArray[np.float64]
    ) -> None:
        """Add a block of samples; ``sums`` are those of each tensor, (n, T)."""
        self._nonfinite.add(split, ids, facts.nonfinite, sums)
        if facts.hashes is not None:
            self._shared.add(split, ids, facts.hashes)

    def notes(self) -> Iterator[str]:
        """Yield lines that describe what the checks found."""
        yield from self._nonfinite.notes()
        yield from self._shared.notes()


def nonfinite_rows(inputs: Sequence[Rows], rows: int) -> NDArray[np.bool_]:
    """Find the samples with NaN or an infinity in any of their raw inputs."""
    nonfinite = np.zeros(rows, bool)
    for values in inputs:
        if values.dtype.kind != "f":
            continue
        if isinstance(values, Ragged):
            samples = np.repeat(np.arange(rows), values.lengths)
            nonfinite[samples[_find_nonfinite(values.values)]] = True
        else:
            nonfinite |= _find_nonfinite(values)
    return nonfinite


def _find_nonfinite(values: NDArray[Any]) -> NDArray[np.bool_]:
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    nonfinite: NDArray[np.bool_] = ~np.isfinite(flat).all(axis=1)
    return nonfinite


class NonFiniteCounter:
    """Counts samples with NaN or infinite values, in raw inputs and in the sums of tensors."""

    def __init__(self, tensors: Sequence[TensorRecord]) -> None:
        self._tensors = tensors  # in the order of the sums' columns
        self._inputs = _Count()
        self._sums = _Count()
        self._first_tensor = ""

    def add(
        self,
        split: str,
        ids: Sequence[str],
        nonfinite: NDArray[np.bool_],
        sums: NDArray[np.float64],
    ) -> None:
        """Count a block of n samples, of T tensors: ``nonfinite`` is (n,), ``sums`` (n, T)."""
        self._inputs.add(split, ids, nonfinite)
        # Nearly always all are finite, and then so is their sum.
        with np.errstate(invalid="ignore", over="ignore"):
            if math.isfinite(sums.sum()):
                return
        finite = np.isfinite(sums)
        rows: NDArray[np.bool_] = np.logical_not(finite.all(axis=1))
        if rows.any() and not self._sums.samples:
            self._first_tensor = self._tensors[int(np.argmin(finite[np.argmax(rows)]))].name
        self._sums.add(split, ids, rows)

    def notes(self) -> Iterator[str]:
        """Yield a line about non-finite raw inputs, and one about tensors."""
        if self._inputs.samples:
            yield f"NaN or infinite raw inputs in {self._inputs}"
        if self._sums.samples:
            yield f"NaN or infinite values in {self._sums}, first tensor {self._first_tensor!r}"


class _Count:
    """A number of samples, and the first of them."""

    def __init__(self) -> None:
        self.samples = 0
        self._first = ""

    def add(self, split: str, ids: Sequence[str], rows: NDArray[np.bool_]) -> None:
        if not self.samples and rows.any():
            self._first = f"{printable(ids[int(np.argmax(rows))])} of split {split}"
        self.samples += int(np.count_nonzero(rows))

    def __str__(self) -> str:
        return f"{count_text(self.samples, 'sample')} (the first is {self._first})"
