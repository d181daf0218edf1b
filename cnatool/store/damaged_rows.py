"""Samples that differ in length, read in blocks even where some of them are damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.store.ragged import RaggedArray


def divide_into_blocks(array: RaggedArray, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the blocks of some rows; one of all rows whose offsets cannot be read."""
    while start < stop:
        try:
            end = array.end_of_block(start, stop)
        except StoreDamagedError:
            end = stop
        yield start, end
        start = end


def find_damaged_rows(
    array: RaggedArray, start: int, stop: int
) -> Iterator[tuple[tuple[int, int], StoreDamagedError]]:
    """Find which of some rows cannot be read: ranges of rows, each with the reason."""
    first, reason = start, None
    for row in range(start, stop):
        try:
            array[row]
        except StoreDamagedError as error:
            if reason is not None and str(error) != str(reason):
                yield (first, row), reason
                reason = None
            if reason is None:
                first, reason = row, error
        else:
            if reason is not None:
                yield (first, row), reason
            reason = None
    if reason is not None:
        yield (first, stop), reason
