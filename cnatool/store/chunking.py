"""How many rows a chunk has, and after how many rows all arrays stand at a chunk's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["chunk_rows", "commit_rows"]

_MIB = 1 << 20
_LARGEST_CHUNK = 4 * _MIB
_SMALLEST_CHUNK = 64 * 1024
# What the chunk buffers of one split may hold together while a dump runs.
_BUFFERS = 256 * _MIB
# A crash costs at most this much work.
_COMMIT = 1024 * _MIB
_MOST_ROWS = 8192


def commit_rows(row_bytes: Sequence[int], most: int | None = None) -> int:
    """Rows between two commits: a power of two, fewer where a row is large.

    Parameters
    ----------
    row_bytes : sequence of int
        Bytes of one row of each array of a split.
    most : int, optional
        Where more would take too long.
    """
    rows = min(_COMMIT // max(1, sum(row_bytes)), most or _MOST_ROWS)
    return _power_of_two(min(_MOST_ROWS, max(64, rows)))


def chunk_rows(row_bytes: Sequence[int], rows: int | None, most: int | None = None) -> list[int]:
    """Rows of a chunk for each array: powers of two that divide `commit_rows`.

    A chunk holds up to 4 MiB, less where there are so many arrays that buffering a chunk of each
    would take more than 256 MiB. Where one chunk holds the whole split it has just its rows.

    Parameters
    ----------
    row_bytes : sequence of int
        Bytes of one row of each array of a split.
    rows : int or None
        Rows of the split; None where they are not known.
    most : int, optional
        As of `commit_rows`.
    """
    target = min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, _BUFFERS // max(1, len(row_bytes))))
    commit = commit_rows(row_bytes, most)
    sizes = (_power_of_two(min(commit, max(1, target // max(1, size)))) for size in row_bytes)
    return [size if rows is None else min(size, rows) for size in sizes]


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)
