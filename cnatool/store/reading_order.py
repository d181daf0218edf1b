"""The order in which samples are read for training: blocks of rows, and windows that mix them.

The blocks of a split, a few whole chunks each, are put in a random order, which is divided among
workers and then into windows. A window is read in the order of the store, so that reading goes
forward, and its rows are mixed. Any window follows from the seed, the epoch and its place, so that
reading goes on at any step without what comes before. What is held for this are 16 bytes for each
block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# Blocks of a window at least, unless chunks are too large: what a batch is mixed from.
_BLOCKS = 32
# Bytes of a block at least, so that reading does not spend its time on small chunks.
_LEAST_BLOCK = 1 << 19


class Layout(NamedTuple):
    """How an array is stored: rows of a chunk, and bytes of a row in memory."""

    chunk_rows: int
    row_bytes: int


class Window(NamedTuple):
    """Rows that are in memory together.

    ``pieces`` are ranges of rows of the split, ascending; ``order`` has the place in these, put
    behind one another, of each row that is wanted, in the order in which they are returned:
    random if they are ``mixed``, else ascending.
    """

    pieces: tuple[tuple[int, int], ...]
    order: NDArray[np.intp]
    mixed: bool

    @property
    def rows(self) -> int:
        """Number of rows in memory."""
        return sum(stop - start for start, stop in self.pieces)


@dataclass(frozen=True)
class ReadingOrder:
    """The order of the rows of one epoch, of one worker.

    Attributes
    ----------
    rows : int
        Rows of the split.
    block : int
        Rows of a block.
    window : int
        Rows of a window.
    seed : int or None
        The seed of the random order; None for the order of the store.
    epoch : int
        Number of the epoch, each of which has another random order.
    worker : (int, int)
        Number of the worker from 0, and how many workers there are.
    """

    rows: int
    block: int
    window: int
    seed: int | None
    epoch: int
    worker: tuple[int, int]

    @property
    def share(self) -> tuple[int, int]:
        """The range of places in the order of all workers that this worker has.

        Those of two workers differ by at most one row in length.
        """
        number, workers = self.worker
        return self.rows * number // workers, self.rows * (number + 1) // workers

    def windows(self, start: int, stop: int) -> Iterator[Window]:
        """Yield the windows of the worker's rows, from one to another in the order of reading.

        In memory are whole windows, also rows before ``start`` and behind ``stop``.
        """
        first, end = self.share
        if start >= stop:
            return
        for low in range(first + start // self.window * self.window, first + stop, self.window):
            high = min(low + self.window, end)
            pieces = tuple(sorted(self._pieces(low, high)))
            wanted = slice(max(0, first + start - low), first + stop - low)
            yield Window(_join(pieces), self._mix(low, high)[wanted], self.seed is not None)

    def _mix(self, low: int, high: int) -> NDArray[np.intp]:
        """Return the order of the rows of a window."""
        if self.seed is None:
            return np.arange(high - low)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.epoch, low))
        return np.random.default_rng(sequence).permutation(high - low)

    def _pieces(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of rows at some places of the order of blocks."""
        if self.seed is None:
            yield low, high
            return
        blocks, ends = self._blocks
        at = int(np.searchsorted(ends, low, side="right"))
        while low < high:
            stop = min(high, int(ends[at]))
            # The end of a block is that of its last row, of which the split may have too few.
            last = min((int(blocks[at]) + 1) * self.block, self.rows) - (int(ends[at]) - stop)
            yield last - (stop - low), last
            low, at = stop, at + 1

    @cached_property
    def _blocks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The blocks in random order, and the place behind the last row of each."""
        assert self.seed is not None
        count = -(-self.rows // self.block)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))
        blocks = np.random.default_rng(sequence).permutation(count)
        sizes = np.minimum(self.rows - blocks * self.block, self.block)
        return blocks, np.cumsum(sizes)


def choose_block_rows(layouts: Sequence[Layout], window: int) -> int:
    """Choose the rows of a block: whole chunks of the arrays, and small parts of a window.

    Arrays with longer chunks than that are read in parts of chunks.
    """
    most = max(1, window // _BLOCKS)
    sizes = [layout.chunk_rows for layout in layouts]
    block = max((size for size in sizes if size <= most), default=min(sizes))
    row_bytes = sum(layout.row_bytes for layout in layouts)
    return block * max(1, min(most // block, -(-_LEAST_BLOCK // (block * row_bytes))))


def _join(pieces: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Join ascending ranges where one begins at the end of another."""
    if not pieces:
        return pieces
    gaps = [number for number, (a, b) in enumerate(pairwise(pieces), 1) if a[1] != b[0]]
    runs = pairwise([0, *gaps, len(pieces)])
    return tuple((pieces[first][0], pieces[last - 1][1]) for first, last in runs)
