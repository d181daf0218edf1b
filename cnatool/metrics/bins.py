"""Bins of a histogram: the bin of each value, and the counts of bins (docs/metrics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

import numpy as np

from cnatool.errors import DataError, MetricError
from cnatool.metrics.count_entropy import BinWidths
from cnatool.metrics.row_counts import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import OutOfRange

# The number of each row of a block, for errors.
RowNumbers: TypeAlias = "Sequence[int] | NDArray[np.intp]"

ELEMENTS = 1 << 17  # elements counted at a time, of types that need no arithmetic
_FLOAT_ELEMENTS = 1 << 14  # of floating types, whose intermediate arrays are many


class OutsideError(DataError):
    """A value outside the range that the bins span, which `field` of a convention sets."""

    field = "range"


class OutsideSoundError(OutsideError):
    """An amplitude outside the range of sound."""

    field = "sound_range"


@dataclass(frozen=True)
class Bounds:
    """Equal bins, and how values outside are treated."""

    bins: int
    low: float
    high: float
    out_of_range: OutOfRange
    density: bool
    outside: type[OutsideError] = OutsideError

    def edges(self, dtype: np.dtype[Any]) -> NDArray[np.floating[Any]]:
        """Return NumPy's edges of the bins for values of a type."""
        return np.histogram_bin_edges(np.empty(0, dtype), self.bins, (self.low, self.high))

    def widths(self, dtype: np.dtype[Any]) -> BinWidths | None:
        """Return the widths of the bins for the density form; None for the entropy."""
        return BinWidths.of(np.diff(self.edges(dtype))) if self.density else None

    def number(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Return each value's bin; the values lie inside. The steps are `numpy.histogram`'s."""
        edges = self.edges(values.dtype)
        number = ((values - self.low) / (self.high - self.low) * self.bins).astype(np.intp)
        np.minimum(number, self.bins - 1, out=number)  # the last bin includes its right edge
        number -= values < np.take(edges, number)  # rounding may have moved a value over an edge
        number += (values >= np.take(edges, number + 1)) & (number != self.bins - 1)
        return number

    def refuse(self, row: int | np.intp, value: float, written: str) -> NoReturn:
        """Raise the error for a value outside all bins."""
        if math.isnan(value):
            raise DataError(
                f"Sample row {row} holds NaN, which has no bin: "
                "`overrides={'out_of_range': 'drop'}` leaves such values out."
            )
        if math.isinf(value):
            raise DataError(
                f"Sample row {row} holds {written}, which no range includes: "
                "`overrides={'out_of_range': 'drop'}` leaves such values out, "
                "`overrides={'out_of_range': 'clip'}` counts them in the outermost bins."
            )
        raise self.outside(
            f"Sample row {row} holds {written}, outside the range {self.low:g}:{self.high:g}: use "
            f"`overrides={{{self.outside.field!r}: 'LO:HI'}}` if such values are expected, or "
            "`overrides={'out_of_range': 'clip'}` or `overrides={'out_of_range': 'drop'}`."
        )


class Tally(Protocol):
    """Maps values of one type to small numbers, and the counts of these to bins."""

    bounds: Bounds
    size: int
    elements: int  # to count at a time
    widths: BinWidths | None  # of the bins, for the density form

    def index(self, block: NDArray[Any], rows: RowNumbers) -> NDArray[Any]:
        """Return numbers 0 … size − 1 in the block's shape."""

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the bins' counts, without what was dropped."""


class WidePixels:
    """uint16: a table from level to bin; the number after the last bin is what is dropped."""

    elements = ELEMENTS

    def __init__(self, bounds: Bounds, dtype: np.dtype[Any]) -> None:
        self.bounds = bounds
        self.greatest = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
        self.size = bounds.bins + 1
        unit = np.arange(self.greatest + 1) / self.greatest
        if bounds.density:
            unit = unit.astype(np.float32)
        self.widths = bounds.widths(unit.dtype)
        if bounds.out_of_range == "clip":
            unit = unit.clip(bounds.low, bounds.high)
        self.inside = (unit >= bounds.low) & (unit <= bounds.high)
        self.refusing = bounds.out_of_range == "error" and not self.inside.all()
        table = np.full(unit.size, bounds.bins)
        table[self.inside] = bounds.number(unit[self.inside])
        self.table = table.astype(np.uint16) if self.size <= NUMBERS else table

    def index(self, block: NDArray[Any], rows: RowNumbers) -> NDArray[Any]:
        """Return the bin, or the level, of each value."""
        self.check(block, rows)
        return np.take(self.table, block)

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the bins' counts, without what was dropped."""
        return counts[:, : self.bounds.bins]

    def check(self, block: NDArray[Any], rows: RowNumbers) -> None:
        """Refuse the first value outside the range, where that is an error."""
        if not self.refusing:
            return
        outside = ~self.inside[block]
        if outside.any():
            row, column = np.argwhere(outside)[0]
            self.refuse(rows[int(row)], int(block[row, column]))

    def refuse(self, row: int | np.intp, level: int) -> NoReturn:
        """Raise the error for a level outside all bins."""
        value = level / self.greatest
        self.bounds.refuse(row, value, f"{level} (as a fraction {value:g})")


class Pixels(WidePixels):
    """uint8 and bool: the levels themselves are counted, and bins are sums over levels."""

    def __init__(self, bounds: Bounds, dtype: np.dtype[Any]) -> None:
        super().__init__(bounds, dtype)
        self.size = self.greatest + 1
        kept = np.flatnonzero(self.inside)
        self.kept = slice(kept[0], kept[-1] + 1) if kept.size else slice(0)
        # Bins ascend with the levels, so that a bin is a run of levels.
        bins = self.table[self.kept].astype(np.intp)
        self.starts = np.flatnonzero(np.diff(bins, prepend=-1))
        if self.widths is not None:
            self.widths = self.widths.among(bins[self.starts])

    def index(self, block: NDArray[Any], rows: RowNumbers) -> NDArray[Any]:
        """Return the bin, or the level, of each value."""
        levels = block.view(np.uint8)
        self.check(levels, rows)
        return levels

    def check_levels(self, counts: NDArray[Any], rows: RowNumbers) -> None:
        """Refuse the first sample with a level outside the range, where that is an error."""
        outside = np.argwhere(counts[:, ~self.inside]) if self.refusing else np.empty((0, 2))
        if len(outside):
            row, number = outside[0]
            self.refuse(rows[int(row)], int(np.flatnonzero(~self.inside)[int(number)]))

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the bins' counts, without what was dropped."""
        inside = counts[:, self.kept]
        if self.starts.size == inside.shape[1]:  # no two levels share a bin
            return inside
        return np.add.reduceat(inside, self.starts, axis=1)


class Floats:
    """Floating values: the bin is computed for each."""

    elements = _FLOAT_ELEMENTS

    def __init__(self, bounds: Bounds, dtype: np.dtype[Any]) -> None:
        self.bounds = bounds
        self.size = bounds.bins + 1
        # In half precision the edges of a thousand bins would not be equally far apart.
        self.dtype = np.promote_types(dtype, np.float32)
        self.widths = bounds.widths(self.dtype)

    def index(self, block: NDArray[Any], rows: RowNumbers) -> NDArray[Any]:
        """Return the bin, or the level, of each value."""
        bounds = self.bounds
        values = block.astype(self.dtype, copy=False)
        inside = (values >= bounds.low) & (values <= bounds.high)
        if inside.all():
            return bounds.number(values)
        if bounds.out_of_range == "drop":
            number = np.full(values.shape, bounds.bins)
            number[inside] = bounds.number(values[inside])
            return number
        refused = np.isnan(values) if bounds.out_of_range == "clip" else ~inside
        if refused.any():
            row, column = np.argwhere(refused)[0]
            value = float(values[row, column])
            bounds.refuse(rows[int(row)], value, f"{value:g}")
        return bounds.number(values.clip(bounds.low, bounds.high))

    def binned(self, counts: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the bins' counts, without what was dropped."""
        return counts[:, : self.bounds.bins]


def make_tally(bounds: Bounds, dtype: np.dtype[Any]) -> Tally:
    """Choose what counts values of a type; DataError for a type without order."""
    if dtype.kind in "bu":
        return Pixels(bounds, dtype) if dtype.itemsize == 1 else WidePixels(bounds, dtype)
    if dtype.kind == "f":
        return Floats(bounds, dtype)
    raise DataError(f"Inputs of type {dtype} have no histogram.")


def holds_symbols(dtype: np.dtype[Any]) -> bool:
    """Whether values of a type are symbols, with a bin each: integers that are no grey levels."""
    return dtype.kind == "i" or (dtype.kind == "u" and dtype.itemsize > 2)


def check_no_density(dtype: np.dtype[Any], *, density: bool) -> None:
    """Refuse the density form for symbols."""
    if density:
        raise MetricError(
            f"Inputs of type {dtype} are symbols, and symbols have no density: use "
            "`alpha='entropy'`."
        )
