"""Samples that two splits share, found by their raw inputs whatever they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import bytes_text, printable
from cnatool.errors import CnatoolError
from cnatool.records.layout import input_key
from cnatool.store.shared_inputs import RowCursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.store.store import Store

# Raw inputs that are read to compare the splits of a finished store: about a second.
_MOST_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 24

# Multiplier that makes the hash of several inputs depend on their order.
_MULTIPLIER = np.int64(0x9E3779B97F4A7C15 - 2**64)


def content_hashes(inputs: Sequence[Rows], rows: int) -> NDArray[np.int64]:
    """Hash the raw inputs of each sample to 64 bits, within one process."""
    # Python's own hash has a random key in each process: one of a million samples equals one of
    # another million by chance with a probability of 5e-8, and nobody can craft such samples.
    total = np.zeros(rows, np.int64)
    for values in inputs:
        total *= _MULTIPLIER
        total += np.fromiter((hash(sample.tobytes()) for sample in values), np.int64, rows)
    return total


class SharedSamples:
    """Counts the samples of a split that an earlier split holds too.

    Eight bytes are kept per sample, twice that while a split is sorted, and none of ``last``, the
    split that no other is compared with.
    """

    def __init__(self, last: str | None = None) -> None:
        self._last = last
        # Sorted hashes of the splits that are done, and those of the split being read.
        self._past: dict[str, list[NDArray[np.int64]]] = {}
        self._split = ""
        self._blocks: list[NDArray[np.int64]] = []
        self._rows: dict[str, int] = {}
        self._counts: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, split: str, ids: Sequence[str], hashes: NDArray[np.int64]) -> None:
        """Compare a block of samples with those of other splits."""
        if split != self._split:
            self._end_split()
            self._split = split
        for other, parts in self._past.items():
            if other == split:
                continue
            shared = np.zeros(len(hashes), bool)
            for part in parts:
                places = np.searchsorted(part, hashes)
                shared |= part[np.minimum(places, len(part) - 1)] == hashes
            if shared.any():
                first = str(ids[int(shared.argmax())])
                count, known = self._counts.get((split, other), (0, first))
                self._counts[split, other] = (count + int(shared.sum()), known)
        if split != self._last:
            self._blocks.append(hashes)
        self._rows[split] = self._rows.get(split, 0) + len(hashes)

    def notes(self) -> Iterator[str]:
        """Yield a line for each pair of splits that share samples."""
        for (split, other), (count, first) in self._counts.items():
            yield (
                f"{count:,} of the {self._rows[split]:,} samples of split {split} have the raw "
                f"input of a sample in split {other}, first {printable(first)}: their scores are "
                "not independent"
            )

    def _end_split(self) -> None:
        if self._blocks:
            whole = np.concatenate(self._blocks)
            whole.sort()
            self._past.setdefault(self._split, []).append(whole)
            self._blocks = []


def describe_shared_samples(store: Store) -> Iterator[str]:
    """Yield what a dump in one process notes about samples that splits share.

    The raw inputs of a finished store are read for it, unless they are too many.
    """
    splits = [split for split in store.splits.values() if len(split)]
    if len(splits) < 2:
        return
    keys = [input_key(number) for number in range(len(store.record.inputs))]
    unknown = "whether splits share samples is not known"
    try:
        arrays = {split.name: [split.array(key) for key in keys] for split in splits}
        sizes = {name: sum(array.row_bytes for array in of) for name, of in arrays.items()}
        row_bytes = max(sizes.values())
        size = sum(sizes[split.name] * len(split) for split in splits)
        if size > _MOST_BYTES:
            yield (
                f"{unknown}: that takes reading {bytes_text(size)} of raw inputs. A dump without "
                "parts looks for them while it reads the data"
            )
            return
        shared = SharedSamples(splits[-1].name)
        step = max(1, _BLOCK_BYTES // row_bytes)
        for split in splits:
            ids, *inputs = [RowCursor(array) for array in (split.ids, *arrays[split.name])]
            for first in range(0, len(split), step):
                count = min(step, len(split) - first)
                hashes = content_hashes([cursor.take(count) for cursor in inputs], count)
                shared.add(split.name, ids.take(count).tolist(), hashes)
    except CnatoolError as error:
        yield f"{unknown}: {error}"
        return
    yield from shared.notes()
