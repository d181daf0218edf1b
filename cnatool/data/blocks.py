"""Cutting and joining blocks of samples."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.source import Block
from cnatool.records.ragged import concatenate_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows


def regroup_blocks(pieces: Iterable[Block], ranges: Iterable[tuple[int, int]]) -> Iterator[Block]:
    """Yield a block for each range of rows, from pieces of any lengths.

    The ranges are half-open and follow each other. No more is held in memory than a block and the
    piece that ends it.
    """
    pieces = iter(pieces)
    held: list[Block] = []
    count = 0
    for start, stop in ranges:
        size = stop - start
        while count < size:
            held.append(next(pieces))
            count += len(held[-1].ids)
        whole = _join(held)
        yield take_rows(whole, slice(size))
        held, count = [take_rows(whole, slice(size, count))], count - size


def take_rows(block: Block, rows: slice | NDArray[np.int64]) -> Block:
    """Return some rows of a block."""
    numbers = range(len(block.ids))[rows] if isinstance(rows, slice) else rows
    return Block(
        [block.ids[row] for row in numbers],
        tuple(part[rows] for part in block.inputs),
        None if block.labels is None else block.labels[rows],
        tuple(part[rows] for part in block.transformed),
        {i: block.faults[row] for i, row in enumerate(numbers) if row in block.faults}
        if block.faults
        else {},
        cut=None if block.cut is None else block.cut[rows],
    )


def _join(blocks: list[Block]) -> Block:
    # Nothing may be left of the last block.
    blocks = [block for block in blocks if block.ids] or blocks[:1]
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.labels for block in blocks if block.labels is not None]
    cut = [block.cut for block in blocks if block.cut is not None]
    starts = accumulate((len(block.ids) for block in blocks), initial=0)
    return Block(
        [id_ for block in blocks for id_ in block.ids],
        _concatenate(block.inputs for block in blocks),
        concatenate_rows(labels) if labels else None,
        _concatenate(block.transformed for block in blocks),
        {
            start + row: text
            for start, block in zip(starts, blocks, strict=False)
            for row, text in block.faults.items()
        },
        cut=np.concatenate(cut) if cut else None,
    )


def _concatenate(blocks: Iterable[tuple[Rows, ...]]) -> tuple[Rows, ...]:
    return tuple(map(concatenate_rows, zip(*blocks, strict=True)))
