"""Blocks of samples cut and joined, where what is read does not come in the asked-for sizes."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def regroup_blocks(pieces: Iterable[Block], ranges: Iterable[tuple[int, int]]) -> Iterator[Block]:
    """Give blocks as long as each of some ranges, from pieces of any lengths.

    No more is held than what a block and the piece that ends it take.

    Parameters
    ----------
    pieces : iterable of Block
        As many samples as the ranges have together, or more.
    ranges : iterable of (int, int)
        Half-open and one after the other.
    """
    pieces = iter(pieces)
    held: list[Block] = []
    there = 0
    for start, stop in ranges:
        size = stop - start
        while there < size:
            held.append(next(pieces))
            there += len(held[-1].ids)
        whole = _joined(held)
        yield take_rows(whole, slice(size))
        held, there = [take_rows(whole, slice(size, there))], there - size


def take_rows(block: Block, rows: slice | NDArray[np.int64]) -> Block:
    """Give some rows of a block."""
    numbers = range(len(block.ids))[rows] if isinstance(rows, slice) else rows
    return Block(
        [block.ids[row] for row in numbers],
        tuple(part[rows] for part in block.inputs),
        None if block.labels is None else block.labels[rows],
        tuple(part[rows] for part in block.transformed),
        {i: block.faults[row] for i, row in enumerate(numbers) if row in block.faults}
        if block.faults
        else {},
    )


def _joined(blocks: list[Block]) -> Block:
    # Of the last block, nothing may be left.
    blocks = [block for block in blocks if block.ids] or blocks[:1]
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.labels for block in blocks if block.labels is not None]
    starts = accumulate((len(block.ids) for block in blocks), initial=0)
    return Block(
        [id_ for block in blocks for id_ in block.ids],
        tuple(np.concatenate(parts) for parts in zip(*(b.inputs for b in blocks), strict=True)),
        np.concatenate(labels) if labels else None,
        tuple(
            np.concatenate(parts) for parts in zip(*(b.transformed for b in blocks), strict=True)
        ),
        {
            start + row: text
            for start, block in zip(starts, blocks, strict=False)
            for row, text in block.faults.items()
        },
    )
