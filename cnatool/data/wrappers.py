"""Sources that wrap another: some of its rows, or those that can be read."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool.data.blocks import regroup_blocks, take_rows
from cnatool.data.source import Block, ManySamplesError, SampleError, SkippedRow, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from numpy.typing import NDArray

    from cnatool.data.source import InputSpec, Source
    from cnatool.records.store import SourceObject


@dataclass(frozen=True, slots=True)
class SourceWrapper:
    """A source with the properties of the one that it wraps; subclasses add ``blocks``."""

    source: Source

    @property
    def name(self) -> str:
        """As in the source."""
        return self.source.name

    @property
    def rows(self) -> int:
        """As in the source."""
        return self.source.rows

    @property
    def id_bytes(self) -> int:
        """As in the source."""
        return self.source.id_bytes

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """As in the source."""
        return self.source.inputs

    @property
    def labelled(self) -> bool:
        """As in the source."""
        return self.source.labelled

    @property
    def label_lists(self) -> bool:
        """As in the source."""
        return self.source.label_lists

    @property
    def classes(self) -> tuple[str, ...] | None:
        """As in the source."""
        return self.source.classes

    @property
    def numbered_by_name(self) -> bool:
        """As in the source."""
        return self.source.numbered_by_name

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """As in the source."""
        return self.source.empty_classes

    @property
    def notes(self) -> tuple[str, ...]:
        """As in the source."""
        return self.source.notes

    @property
    def objects(self) -> tuple[SourceObject, ...]:
        """As in the source."""
        return self.source.objects

    @property
    def outline(self) -> str:
        """As in the source."""
        return self.source.outline


@dataclass(frozen=True, slots=True)
class RowSubset(SourceWrapper):
    """Some rows of a source, under their ids.

    Attributes
    ----------
    source : Source
    name : str
        What the rows are, for messages and provenance.
    indices : ndarray of int64
        Numbers of the rows, ascending.
    """

    name: str = field()
    indices: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows in the subset."""
        return len(self.indices)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples of the subset from ``start`` on, ``limit`` in all."""
        ranges = list(row_ranges(self.rows, rows, limit, start))
        if ranges:
            yield from regroup_blocks(self._pieces(rows, start, ranges[-1][1]), ranges)

    def _pieces(self, rows: int, first_index: int, end_index: int) -> Iterator[Block]:
        """Yield a range of the subset, a piece for each block of the source."""
        start, last = int(self.indices[first_index]), int(self.indices[end_index - 1])
        for block in self.source.blocks(rows, last + 1 - start, start):
            stop = start + len(block.ids)
            first, end = np.searchsorted(self.indices, (start, stop))
            if first < end:
                yield take_rows(block, self.indices[first:end] - start)
            start = stop


@dataclass(frozen=True, slots=True)
class BucketSource(SourceWrapper):
    """A source whose samples are in a bucket.

    Attributes
    ----------
    source : Source
    objects : tuple of SourceObject
        The objects that they are read from.
    """

    objects: tuple[SourceObject, ...] = field()

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the blocks of the source."""
        return self.source.blocks(rows, limit, start)


@dataclass(frozen=True, slots=True)
class RowRange(SourceWrapper):
    """Consecutive rows of a source, under their ids.

    Attributes
    ----------
    source : Source
    first : int
        Number of the first row.
    rows : int
        Number of rows.
    """

    first: int
    rows: int = field()

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples of the range from ``start`` on, ``limit`` in all."""
        count = max(0, self.rows - start)
        count = count if limit is None else min(limit, count)
        return self.source.blocks(rows, count, self.first + start)


# More unreadable samples than this are not skipped; each is recorded in the store.
MOST_SKIPPED = 10_000
# Limits of the samples that are read to count unreadable ones for the message.
_COUNTED_SAMPLES = 1000
_COUNTED_SECONDS = 2.0
_COUNTED_BLOCK = 64
# Above this share, unreadable samples are more than a few.
_FEW_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FirstRows(SourceWrapper):
    """A source of which only the first rows are read; ``rows`` counts all of them."""

    count: int

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples from ``start`` on, none behind the first ``count``."""
        left = max(0, self.count - start)
        if left:
            yield from self.source.blocks(rows, left if limit is None else min(limit, left), start)


def read_first_block(source: Source, rows: int) -> Block:
    """Read the first samples of a source: ``rows``, or as many as can be read.

    Raises a DataError if there are none.
    """
    # Samples that cannot be read come on top of a limit; other sources need not read further.
    limit = None if isinstance(source, ReadableSamples) else rows
    blocks = source.blocks(rows, limit)
    with closing(cast("Generator[Block]", blocks)):
        block = next(blocks, None)
    if block is None:
        raise DataError(f"{source.name} has no samples.")
    return block


@dataclass(frozen=True, slots=True)
class ReadableSamples(SourceWrapper):
    """The samples of a source that can be read.

    Their number is known only once they are read: ``rows`` counts all, and ``blocks`` lists those
    that it skips.
    """

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples that can be read, from ``limit`` samples of all.

        ``start`` counts all samples too. The last block may be shorter; none is empty. Raises a
        DataError if more than `MOST_SKIPPED` samples cannot be read, or all of them.
        """
        # Samples skipped behind the last block are listed with it, so it waits for the next.
        waiting: Block | None = None
        for block in self._full_blocks(rows, limit, start):
            if waiting is not None and not block.ids:
                waiting = replace(waiting, skipped=(*waiting.skipped, *block.skipped))
                continue
            if waiting is not None:
                yield waiting
            waiting = block
        if waiting is None:
            return
        if not waiting.ids:
            raise DataError(
                f"{self.name}: none of its samples can be read. {waiting.skipped[0].reason}"
            )
        yield waiting

    def _full_blocks(self, rows: int, limit: int | None, start: int) -> Iterator[Block]:
        """Yield full blocks, and then one that is not full and may be empty."""
        held: list[Block] = []
        samples = unreadable = 0
        skipped: list[SkippedRow] = []
        for block in self.source.blocks(rows, limit, start):
            skipped += [SkippedRow(block.ids[row], text) for row, text in block.faults.items()]
            unreadable += len(block.faults)
            if unreadable > MOST_SKIPPED:
                raise DataError(
                    f"{self.name}: over {MOST_SKIPPED:,} samples cannot be read, the last because "
                    f"{skipped[-1].reason}"
                )
            good = _drop_unreadable(block)
            if not held and not skipped and len(good.ids) == rows:
                yield good
                continue
            held.append(good)
            samples += len(good.ids)
            if samples >= rows:
                whole, rest = regroup_blocks(held, [(0, rows), (rows, samples)])
                yield replace(whole, skipped=tuple(skipped))
                held, samples, skipped = [rest] if rest.ids else [], len(rest.ids), []
        if samples:
            [last] = regroup_blocks(held, [(0, samples)])
            yield replace(last, skipped=tuple(skipped))
        elif skipped:
            yield Block([], (), None, skipped=tuple(skipped))


def _drop_unreadable(block: Block) -> Block:
    if not block.faults:
        return block
    return take_rows(block, np.setdiff1d(np.arange(len(block.ids)), list(block.faults)))


@dataclass(frozen=True, slots=True)
class StrictSource(SourceWrapper):
    """A source that stops at the first sample that cannot be read and counts others like it.

    Attributes
    ----------
    source : Source
    reopen : callable
        Opens the same samples so that blocks list those that cannot be read.
    """

    reopen: Callable[[], Source]

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the blocks of the source; raise a SampleError at the first unreadable sample."""
        done = 0
        try:
            for block in self.source.blocks(rows, limit, start):
                yield block
                done += len(block.ids)
        except SampleError as error:
            # After this many readable samples, unreadable ones are few.
            if done >= _COUNTED_SAMPLES:
                raise
            raise count_unreadable(error, lambda: (self.reopen(),)) from error


def count_unreadable(error: SampleError, sources: Callable[[], Iterable[Source]]) -> SampleError:
    """Return the error, with the share of unreadable samples if they are more than a few."""
    samples = unreadable = 0
    until = time.monotonic() + _COUNTED_SECONDS
    try:
        for source in sources():
            for block in source.blocks(_COUNTED_BLOCK):
                samples += len(block.ids)
                unreadable += len(block.faults)
                if samples >= _COUNTED_SAMPLES or time.monotonic() > until:
                    break
    except DataError:
        # If the source fails again while counting, the first error is the message.
        return error
    few = unreadable <= max(1, _FEW_SHARE * samples)
    return error if few else ManySamplesError(error, unreadable, samples)
