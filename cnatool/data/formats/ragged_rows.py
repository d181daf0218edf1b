"""Samples of any length in two arrays, all values behind one another and their offsets.

It is how a store keeps them (docs/store.md). The offsets are held in memory, 8 bytes per sample.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.source import COPY_ADVICE
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.data.formats.row_source import RowReader

PAIR = _VALUES, _OFFSETS = "values", "offsets"
# Between the name of an array and those of its two parts.
_MARKS = ("/", ".")
_ONLY = "x"


@dataclass(frozen=True, slots=True)
class RaggedRows:
    """An array of samples that differ in length along their first axis."""

    values: RowReader
    offsets: NDArray[np.int64]

    @property
    def where(self) -> str:
        """As in the values."""
        return self.values.where

    @property
    def dtype(self) -> np.dtype[Any]:
        """As in the values."""
        return self.values.dtype

    @property
    def rows(self) -> int:
        """Number of samples."""
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample of median length."""
        return (max(1, int(np.median(np.diff(self.offsets)))), *self.values.shape)

    @property
    def ragged_axis(self) -> int:
        """The first."""
        return 0

    @property
    def outline(self) -> str:
        """As in the values."""
        return self.values.outline

    @property
    def bfloat16(self) -> bool:
        """As in the values."""
        return getattr(self.values, "bfloat16", False)

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[Ragged]:
        """Read consecutive row ranges."""
        places = [(int(self.offsets[start]), int(self.offsets[stop])) for start, stop in ranges]
        with closing(self.values.read(places)) as blocks:
            for (start, stop), (first, _), values in zip(ranges, places, blocks, strict=True):
                yield Ragged(values, self.offsets[start : stop + 1] - first)


def read_offsets(offsets: RowReader, values: RowReader) -> RaggedRows:
    """Read the offsets of values; DataError unless they divide these among samples."""
    if offsets.shape or offsets.dtype.kind not in "iu":
        raise DataError(
            f"{offsets.where} has shape {(offsets.rows, *offsets.shape)} and dtype "
            f"{offsets.dtype}: offsets are whole numbers along one axis, one more than samples."
        )
    with closing(offsets.read([(0, offsets.rows)])) as blocks:
        numbers = np.concatenate([*blocks]).astype(np.int64)
    if len(numbers) < 2:
        raise DataError(f"{offsets.where} holds no samples: offsets are one more than samples.")
    if numbers[0] or numbers[-1] != values.rows or (np.diff(numbers) < 0).any():
        raise DataError(
            f"{offsets.where} does not ascend from 0 to the {values.rows:,} values of "
            f"{values.where}: sample i is values[offsets[i]:offsets[i + 1]]. {COPY_ADVICE}"
        )
    return RaggedRows(values, numbers)


def list_arrays(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """List arrays by name, each with its own name, or the two of its values and offsets.

    Where there is nothing before ``values`` and ``offsets``, the array is called ``x``.
    """
    known = list(names)
    pairs = _find_pairs(known)
    parts = {name for pair in pairs.values() for name in pair}
    return {name: (name,) for name in known if name not in parts} | pairs


def _find_pairs(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    known = set(names)
    pairs: dict[str, tuple[str, ...]] = {}
    for name in sorted(known):
        for mark in _MARKS:
            stem, found, last = name.rpartition(mark)
            if last != _OFFSETS or not (found or name == _OFFSETS):
                continue
            values = f"{stem}{found}{_VALUES}"
            if values in known:
                pairs[stem or _ONLY] = (values, name)
    return pairs


def open_array(parts: Sequence[str], open_rows: Callable[[str], RowReader]) -> RowReader:
    """Open an array, which may be kept in two."""
    opened = [open_rows(part) for part in parts]
    return opened[0] if len(opened) == 1 else read_offsets(opened[1], opened[0])


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """Samples of any length, each stored by itself, as HDF5 does."""

    where: str  # file, and array in it, for messages
    dtype: np.dtype[Any]
    rows: int
    shape: tuple[int, ...]  # of a sample of median length among the first
    fetch: Callable[[int, int], Sequence[NDArray[Any]]]  # samples from one row up to another
    outline: str = ""

    @property
    def ragged_axis(self) -> int:
        """The first."""
        return 0

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[Ragged]:
        """Read consecutive row ranges."""
        native = self.dtype.newbyteorder("=")
        for start, stop in ranges:
            samples = [np.asarray(sample, native) for sample in self.fetch(start, stop)]
            yield Ragged.join(samples)
