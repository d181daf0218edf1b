"""Arrays in chunks, any rows of which can be read: what HDF5 and Zarr have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cnatool._util.text import list_names
from cnatool.data.formats.ragged_rows import list_arrays, open_array
from cnatool.data.formats.row_source import make_row_source
from cnatool.data.source import check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.data.formats.row_source import RowReader, RowSource
    from cnatool.data.selection import ArraySelection

_A = TypeVar("_A")

# A chunk is decompressed whole: what a few bytes of a file can make of one is limited.
MAX_CHUNK = 2**30
# Rows are read ahead by whole chunks, but no further than this.
_AHEAD_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class SlicedRows:
    """An array of samples (n, …)."""

    where: str  # file, and array in it, for messages
    dtype: np.dtype[Any]  # of the array; ``shape`` is that of one sample
    rows: int
    shape: tuple[int, ...]
    chunk: int  # number of rows that are stored together
    # Reads the rows from a start to a stop; raises DataError
    fetch: Callable[[int, int], NDArray[Any]]
    outline: str = ""

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges, each chunk once if it fits into memory."""
        row_bytes = max(1, self.dtype.itemsize * math.prod(self.shape))
        chunk = max(1, min(self.chunk, _AHEAD_BYTES // row_bytes))
        held = np.empty((0, *self.shape), self.dtype.newbyteorder("="))
        end = ranges[0][0] if ranges else 0
        for start, stop in ranges:
            if end < stop:
                until = min(self.rows, math.ceil(stop / chunk) * chunk)
                # In any layout and byte order; a store takes them as C-contiguous, native.
                more = np.ascontiguousarray(self.fetch(end, until)).astype(held.dtype, copy=False)
                held, end = np.concatenate([held, more]) if len(held) else more, until
            # A copy, so that what is handed on does not keep a whole chunk in memory.
            yield held[: stop - start].copy()
            held = held[stop - start :]


def make_sliced_source(
    name: str,
    where: str,
    arrays: Mapping[str, _A],
    selection: ArraySelection,
    array: str | None,
    open_rows: Callable[[str, _A], RowReader],
) -> RowSource:
    """Make a source of arrays in a group, or of one ``array`` and the labels beside it."""
    parts = list_arrays(arrays)
    if array is not None:
        names = [array]
        labels = [n for n in selection.label_names(names) if n in arrays]
        if selection.labels is not None and not labels:
            raise DataError(
                f"`labels={selection.labels}`: {where} has no such array; it has "
                f"{list_names(arrays)}."
            )
        if len(labels) > 1:
            raise DataError(
                f"{where} holds {' and '.join(labels)}, each of which could be the labels: choose "
                "one with `labels=NAME`."
            )
        label = labels[0] if labels else None
        parts[array] = (array,)
    else:
        names, label = selection.select(where, parts)

    def open_named(name: str) -> RowReader:
        return open_rows(name, arrays[name])

    return make_row_source(
        name,
        {chosen: open_array(parts[chosen], open_named) for chosen in names},
        None if label is None else open_named(label),
    )


def check_chunked_array(
    where: str, dtype: np.dtype[Any], shape: tuple[int, ...], chunk: tuple[int, ...] | None
) -> None:
    """Refuse an array that holds no samples, or has chunks that would not fit into memory."""
    check_sample_axis(where, shape)
    check_sample(where, dtype, shape[1:])
    if chunk is not None and math.prod(chunk) * dtype.itemsize > MAX_CHUNK:
        raise DataError(
            f"{where} has chunks of {math.prod(chunk) * dtype.itemsize} bytes; the limit is "
            f"{MAX_CHUNK}. Save it in smaller chunks."
        )


def check_sample_axis(where: str, shape: tuple[int, ...]) -> None:
    """Refuse an array without a first axis that counts samples."""
    if not shape or not shape[0]:
        raise DataError(
            f"{where} has shape {shape}: the first axis must count the samples, and there must be "
            "at least one."
        )
