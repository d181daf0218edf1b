"""Arrays in chunks, of which any rows can be read: what HDF5 and Zarr have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cnatool._util.text import list_names
from cnatool.data.formats.rows import RowSource, check_labels
from cnatool.data.source import InputSpec, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from numpy.typing import NDArray

    from cnatool.data.source import ArraySelection

_A = TypeVar("_A")

# A chunk is decompressed whole: what a few bytes of a file can make of one is limited.
MAX_CHUNK = 2**30
# Rows are read ahead by whole chunks, but no further than this.
_AHEAD_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class SlicedRows:
    """An array of samples (n, …).

    Attributes
    ----------
    where : str
        File, and array in it, for messages.
    dtype, rows, shape : numpy.dtype, int, tuple of int
        As of the array; ``shape`` that of one sample.
    chunk : int
        Rows that are stored together.
    fetch : callable
        Gives the rows from a start to a stop; raises DataError.
    """

    where: str
    dtype: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]
    chunk: int
    fetch: Callable[[int, int], NDArray[Any]]

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Give the rows of ranges that follow each other, each chunk read once where it fits."""
        row_bytes = max(1, self.dtype.itemsize * math.prod(self.shape))
        chunk = max(1, min(self.chunk, _AHEAD_BYTES // row_bytes))
        held = np.empty((0, *self.shape), self.dtype.newbyteorder("="))
        end = 0
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
    held: dict[str, _A],
    wanted: ArraySelection,
    chosen: str | None,
    opened: Callable[[str, _A], SlicedRows],
) -> RowSource:
    """Make a source of the arrays of one group."""
    if chosen is not None:
        names = [chosen]
        beside = [n for n in wanted.label_names(names) if n in held]
        if wanted.labels is not None and not beside:
            raise DataError(
                f"--labels {wanted.labels}: {where} has no such array; it has {list_names(held)}."
            )
        if len(beside) > 1:
            raise DataError(
                f"{where} holds {' and '.join(beside)}, and which are the labels is in doubt: say "
                "it with --labels NAME."
            )
        label = beside[0] if beside else None
    else:
        names, label = wanted.chosen(where, held)
    samples = [opened(given, held[given]) for given in names]
    targets = None if label is None else opened(label, held[label])
    for array in samples[1:]:
        if array.rows != samples[0].rows:
            raise DataError(
                f"{array.where} has {array.rows} rows and {samples[0].where} has "
                f"{samples[0].rows}: samples must be equally many."
            )
    if targets is not None:
        check_labels(targets, samples[0])
    specs = tuple(
        InputSpec(given, array.dtype.newbyteorder("="), array.shape)
        for given, array in zip(names, samples, strict=True)
    )
    return RowSource(name, specs, tuple(samples), targets)


def check_chunked_array(
    where: str, dtype: np.dtype[Any], shape: tuple[int, ...], chunk: tuple[int, ...] | None
) -> None:
    """Refuse an array that is none of samples, or has chunks that would not fit the memory.

    Raises
    ------
    DataError
        Naming ``where``, what is wrong, and the way out.
    """
    if not shape or not shape[0]:
        raise DataError(
            f"{where} has shape {shape}: the first axis must count the samples, and there must be "
            "one."
        )
    check_sample(where, dtype, shape[1:])
    if chunk is not None and math.prod(chunk) * dtype.itemsize > MAX_CHUNK:
        raise DataError(
            f"{where} has chunks of {math.prod(chunk) * dtype.itemsize} bytes; the limit is "
            f"{MAX_CHUNK}. Save it in smaller chunks."
        )
