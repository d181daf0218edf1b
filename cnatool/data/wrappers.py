"""Some of the rows of a source, in their order, as a source of its own."""

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


@dataclass(frozen=True, slots=True)
class SourceWrapper:
    """A source described as the one that it wraps; what reads it gives blocks of its own.

    Attributes
    ----------
    source : Source
        The wrapped source.
    """

    source: Source

    @property
    def name(self) -> str:
        """As of the source."""
        return self.source.name

    @property
    def rows(self) -> int:
        """As of the source."""
        return self.source.rows

    @property
    def id_bytes(self) -> int:
        """As of the source."""
        return self.source.id_bytes

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """As of the source."""
        return self.source.inputs

    @property
    def labelled(self) -> bool:
        """As of the source."""
        return self.source.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """As of the source."""
        return self.source.classes


@dataclass(frozen=True, slots=True)
class RowSubset(SourceWrapper):
    """A source that reads another and passes on some rows of it, under the ids that they have.

    Attributes
    ----------
    source : Source
    name : str
        What was selected, for messages and provenance.
    chosen : ndarray of int64
        Numbers of the rows, ascending.
    """

    name: str = field()
    chosen: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows that were chosen."""
        return len(self.chosen)

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` chosen samples in order, ``limit`` in all."""
        ranges = list(row_ranges(self.rows, rows, limit))
        if not ranges:
            return
        yield from regroup_blocks(
            self._pieces(rows, int(self.chosen[ranges[-1][1] - 1]) + 1), ranges
        )

    def _pieces(self, rows: int, limit: int) -> Iterator[Block]:
        """Give what is chosen of each block among the first rows of the source."""
        start = 0
        for block in self.source.blocks(rows, limit):
            stop = start + len(block.ids)
            first, end = np.searchsorted(self.chosen, (start, stop))
            if first < end:
                yield take_rows(block, self.chosen[first:end] - start)
            start = stop


# A source of which more cannot be read is not one with a few damaged samples; and all are listed.
MOST_SKIPPED = 10_000
# Samples that are read, and seconds spent, to count unreadable ones for the message.
_COUNTED = 1000
_COUNTED_BLOCK = 64
_COUNTED_SECONDS = 2.0
# Above this share, unreadable samples are not merely a few damaged ones.
_FEW = 0.1


def read_first_block(source: Source, rows: int) -> Block:
    """Give the first samples of a source: as many as are asked for, or can be read.

    Raises
    ------
    DataError
        If there are none, or none can be read.
    """
    # Those that cannot be read come on top of the limit; a source without such reads no further.
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

    How many these are shows as they are read: ``rows`` counts all, and ``blocks`` says what it
    left out.
    """

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples that can be read, from the first ``limit`` of all.

        The last one is shorter; there is none without a sample.

        Raises
        ------
        DataError
            If more than `MOST_SKIPPED` samples cannot be read, or all of them.
        """
        # What is left out behind the last block goes with it, so it waits for the next.
        waiting: Block | None = None
        for block in self._filled(rows, limit):
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

    def _filled(self, rows: int, limit: int | None) -> Iterator[Block]:
        """Give full blocks, and then one that is not, which may be empty."""
        held: list[Block] = []
        there = found = 0
        skipped: list[SkippedRow] = []
        for block in self.source.blocks(rows, limit):
            skipped += [SkippedRow(block.ids[row], text) for row, text in block.faults.items()]
            found += len(block.faults)
            if found > MOST_SKIPPED:
                raise DataError(
                    f"{self.name}: over {MOST_SKIPPED:,} samples cannot be read, the last because "
                    f"{skipped[-1].reason}"
                )
            good = _good(block)
            if not held and not skipped and len(good.ids) == rows:
                yield good
                continue
            held.append(good)
            there += len(good.ids)
            if there >= rows:
                whole, rest = regroup_blocks(held, [(0, rows), (rows, there)])
                yield replace(whole, skipped=tuple(skipped))
                held, there, skipped = [rest] if rest.ids else [], len(rest.ids), []
        if there:
            [last] = regroup_blocks(held, [(0, there)])
            yield replace(last, skipped=tuple(skipped))
        elif skipped:
            yield Block([], (), None, skipped=tuple(skipped))


def _good(block: Block) -> Block:
    if not block.faults:
        return block
    return take_rows(block, np.setdiff1d(np.arange(len(block.ids)), list(block.faults)))


@dataclass(frozen=True, slots=True)
class StrictSource(SourceWrapper):
    """A source that stops at a sample which cannot be read, and says how many others cannot.

    Attributes
    ----------
    source : Source
    reopened : callable
        Opens the same samples such that their blocks list what cannot be read.
    """

    reopened: Callable[[], Source]

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give the source's blocks.

        Raises
        ------
        SampleError
            At the first sample that cannot be read.
        """
        done = 0
        try:
            for block in self.source.blocks(rows, limit):
                yield block
                done += len(block.ids)
        except SampleError as error:
            # After so many readable samples, unreadable ones are few.
            if done >= _COUNTED:
                raise
            raise count_unreadable(error, lambda: (self.reopened(),)) from error


def count_unreadable(error: SampleError, sources: Callable[[], Iterable[Source]]) -> SampleError:
    """Return the error, with the share of unreadable samples where they are not few."""
    samples = unreadable = 0
    until = time.monotonic() + _COUNTED_SECONDS
    try:
        for source in sources():
            for block in source.blocks(_COUNTED_BLOCK):
                samples += len(block.ids)
                unreadable += len(block.faults)
                if samples >= _COUNTED or time.monotonic() > until:
                    break
    except DataError:
        # A source that fails again while counting: the first error is the message.
        return error
    few = unreadable <= max(1, _FEW * samples)
    return error if few else ManySamplesError(error, unreadable, samples)
