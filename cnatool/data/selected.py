"""Some of the rows of a source, in their order, as a source of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.source import Block, spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.data.source import InputSpec, Source

__all__ = ["Selected"]


@dataclass(frozen=True, slots=True)
class Selected:
    """A source that reads another and passes on some rows of it, under the ids that they have.

    Attributes
    ----------
    source : Source
    name : str
        What was selected, for messages and provenance.
    chosen : ndarray of int64
        Numbers of the rows, ascending.
    """

    source: Source
    name: str
    chosen: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows that were chosen."""
        return len(self.chosen)

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest id of all rows."""
        return self.source.id_bytes

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """As of all rows."""
        return self.source.inputs

    @property
    def labelled(self) -> bool:
        """As of all rows."""
        return self.source.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """As of all rows."""
        return self.source.classes

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` chosen samples in order, ``limit`` in all."""
        ranges = list(spans(self.rows, rows, limit))
        if not ranges:
            return
        last = int(self.chosen[ranges[-1][1] - 1])
        held: list[Block] = []
        start = given = 0
        for block in self.source.blocks(rows, last + 1):
            stop = start + len(block.ids)
            first, end = np.searchsorted(self.chosen, (start, stop))
            if first < end:
                held.append(_taken(block, self.chosen[first:end] - start))
            start = stop
            while given < len(ranges):
                size = ranges[given][1] - ranges[given][0]
                if sum(len(part.ids) for part in held) < size:
                    break
                whole = _joined(held)
                yield _taken(whole, np.arange(size))
                held = [_taken(whole, np.arange(size, len(whole.ids)))]
                given += 1


def _taken(block: Block, rows: NDArray[np.int64]) -> Block:
    return Block(
        [block.ids[row] for row in rows],
        tuple(np.ascontiguousarray(part[rows]) for part in block.inputs),
        None if block.labels is None else block.labels[rows],
    )


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.labels for block in blocks if block.labels is not None]
    return Block(
        [id_ for block in blocks for id_ in block.ids],
        tuple(np.concatenate(parts) for parts in zip(*(b.inputs for b in blocks), strict=True)),
        np.concatenate(labels) if labels else None,
    )
