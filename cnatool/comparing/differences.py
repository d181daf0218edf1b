"""Differences between arrays of two stores, read side by side in bounded memory."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool.comparing.agreement import AgreementSums
from cnatool.comparing.results import Agreement, Difference
from cnatool.store.ragged import RaggedArray
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.comparing.match_tensors import Pair
    from cnatool.records.ragged import Ragged
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

_BLOCK_BYTES = 16 << 20
# By which layers of parallel branches are told apart.
_FIRST_ROWS = 1000
_MUCH_THE_SAME = 1e-3
# Sums are compared relative to the sum of absolute values, to which rounding is proportional.
_SUMS = ("sum", "abs_sum", "positive_sum")


class _LargestDifference:
    """The largest differences so far."""

    def __init__(self) -> None:
        self.absolute = 0.0
        self.relative = 0.0
        self.row: int | None = None  # of the largest absolute one
        self.unequal = 0  # numbers that are finite in one array alone
        self.unscaled = False

    def add(
        self,
        first: NDArray[Any],
        second: NDArray[Any],
        compute_scale: Callable[[], NDArray[Any]] | None,
        find_row: Callable[[int], int],
    ) -> None:
        """Add rows of the two arrays; their scale, which broadcasts with them, is costly.

        ``find_row`` returns the row in which an element lies, by its place in the flat array.

        Where a store has no sums of absolute values, it takes reading all values of these rows.
        """
        first, second = first.astype(np.float64), second.astype(np.float64)
        finite = np.isfinite(first) & np.isfinite(second)
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        self.unequal += int(np.count_nonzero(~finite & ~same))
        with np.errstate(invalid="ignore"):
            apart = np.where(finite, np.abs(first - second), 0.0)
        place = int(apart.argmax()) if apart.size else 0
        if apart.size and apart.flat[place] > self.absolute:
            self.absolute, self.row = float(apart.flat[place]), find_row(place)
        if compute_scale is None or not apart.any():
            return
        scale = compute_scale()
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(apart > 0, apart / scale, 0.0)
        self.unscaled = self.unscaled or not np.isfinite(share).all()
        share = share[np.isfinite(share)]
        self.relative = max(self.relative, float(share.max(initial=0.0)))

    def difference(self, scale: str) -> Difference:
        """Return the largest differences, relative to what ``scale`` names."""
        if self.unequal:
            reason = f"{self.unequal} numbers are finite in one store alone"
            return Difference(None, None, None, reason)
        if self.unscaled:
            return Difference(self.absolute, None, None, "its scale is 0", self.row)
        return Difference(self.absolute, self.relative, scale, None, self.row)


class ComparedValues(NamedTuple):
    """The largest difference of two arrays, and their agreement."""

    difference: Difference
    agreement: Agreement

    @classmethod
    def missing(cls, reason: str) -> ComparedValues:
        """Return why they are not compared."""
        return cls(Difference(None, None, None, reason), Agreement(None, None, None, reason))


class _ValuesSoFar:
    """What is known of the values of two arrays so far."""

    def __init__(self) -> None:
        self._largest = _LargestDifference()
        self._sums = AgreementSums()
        self._size = 0.0  # the largest value of the first

    def add(
        self, first: NDArray[Any], second: NDArray[Any], find_row: Callable[[int], int]
    ) -> None:
        """Add values of the two arrays."""
        self._largest.add(first, second, None, find_row)
        self._sums.add(first, second)
        values = np.abs(first.astype(np.float64))
        self._size = max(self._size, float(values.max(initial=0.0, where=np.isfinite(values))))

    def compared(self) -> ComparedValues:
        """Return the largest difference, relative to the largest value, and the agreement."""
        largest = self._largest
        largest.relative = largest.absolute / self._size if self._size else 0.0
        largest.unscaled = not self._size and largest.absolute > 0
        return ComparedValues(largest.difference("largest"), self._sums.agreement())


def compare_statistics(
    split: Split, split2: Split, pairs: Sequence[Pair], rows: int
) -> list[dict[str, Difference]]:
    """Compare every statistic that both stores hold, for each pair of tensors."""
    known = set(split2.store.record.statistics)
    names = [name for name in split.store.record.statistics if name in known]
    columns = [pair.first.number for pair in pairs]
    columns2 = [pair.second.number for pair in pairs]
    differences: list[dict[str, Difference]] = [{} for _ in pairs]
    abs_sums = [
        _LastRows(each.statistics("abs_sum")) if each.has_statistic("abs_sum") else None
        for each in (split, split2)
    ]
    for name in names:
        sizes = _mean_sizes(split, name, columns, rows)
        scales = [
            _Scale(name, ((split, pair.first), (split2, pair.second)), abs_sums, size)
            for pair, size in zip(pairs, sizes, strict=True)
        ]
        largest = [_LargestDifference() for _ in pairs]
        for start, first, second in _side_by_side(
            split.statistics(name), split2.statistics(name), rows
        ):
            for difference, scale, column, column2 in zip(
                largest, scales, columns, columns2, strict=True
            ):
                left, right = first[:, column], second[:, column2]
                difference.add(left, right, partial(scale.of, start, left, right), start.__add__)
        for place, (difference, scale) in enumerate(zip(largest, scales, strict=True)):
            differences[place][name] = difference.difference(scale.name)
    return differences


def sums_agreement(split: Split, split2: Split) -> Callable[[str, str], bool]:
    """Return a function: whether sums of two tensors over the first rows are nearly the same."""
    rows = min(len(split), len(split2), _FIRST_ROWS)
    if not (rows and split.has_statistic("sum") and split2.has_statistic("sum")):
        return lambda name, name2: True
    sums, sums2 = split.statistics("sum")[:rows], split2.statistics("sum")[:rows]

    def agree(name: str, name2: str) -> bool:
        first = sums[:, split.store.tensor(name).number]
        second = sums2[:, split2.store.tensor(name2).number]
        with np.errstate(invalid="ignore"):
            return bool(np.abs(first - second).max() <= _MUCH_THE_SAME * np.abs(first).max())

    return agree


class _LastRows:
    """Rows of an array that are kept until others are read."""

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._range = (0, 0)
        self._rows: NDArray[Any] | None = None

    def column(self, start: int, stop: int, number: int) -> NDArray[np.float64]:
        """Return some rows of a column."""
        if self._rows is None or self._range != (start, stop):
            self._rows, self._range = self._array[start:stop], (start, stop)
        column: NDArray[np.float64] = self._rows[:, number]
        return column


class _Scale:
    """The scale of relative differences of a statistic of one pair of tensors."""

    def __init__(
        self,
        statistic: str,
        sides: Sequence[tuple[Split, TensorRecord]],
        abs_sums: Sequence[_LastRows | None],
        mean_size: float,
    ) -> None:
        self._mean_size = mean_size
        self._elements = float(max(1, math.prod(sides[0][1].shape)))
        self._sums: _LastRows | None = None
        self._column = 0
        self._values: StoredArray | RaggedArray | None = None
        self.name = "elements" if statistic == "nonzero_count" else "row"
        if statistic not in _SUMS:
            return
        for (_, tensor), sums in zip(sides, abs_sums, strict=True):
            if self._sums is None and sums is not None:
                self._sums, self._column = sums, tensor.number
        for each, tensor in sides:
            whole = tensor.stored is not None or tensor.output is not None
            if self._sums is None and self._values is None and whole:
                self._values = each.activations(tensor.name)
        if self._sums is not None or self._values is not None:
            self.name = "abs_sum"

    def of(self, start: int, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scale of rows from ``start`` on, (n,)."""
        stop = start + len(first)
        if self._sums is not None:
            return self._sums.column(start, stop, self._column)
        if self._values is not None:
            blocks = (rows for _, rows in self._values.blocks(start, stop))
            return np.concatenate([row_statistics(rows, ["abs_sum"])["abs_sum"] for rows in blocks])
        if self.name == "elements":
            return np.full(len(first), self._elements)
        larger: NDArray[np.float64] = np.maximum(np.abs(first), np.abs(second))
        return np.maximum(larger, self._mean_size)


def _mean_sizes(split: Split, statistic: str, columns: list[int], rows: int) -> list[float]:
    """Compute the mean absolute value of a statistic of some tensors."""
    total = np.zeros(len(columns))
    array = split.statistics(statistic)
    for _, block, _ in _side_by_side(array, array, rows):
        sizes = np.abs(block[:, columns])
        total += np.where(np.isfinite(sizes), sizes, 0.0).sum(axis=0)
    return list(total / max(1, rows))


def compare_values(
    first: StoredArray | RaggedArray, second: StoredArray | RaggedArray, rows: int
) -> ComparedValues:
    """Compare whole values; channels may come last in one of the arrays, and first in the other."""
    if isinstance(first, RaggedArray) and isinstance(second, RaggedArray):
        return _compare_ragged(first, second, rows)
    if isinstance(first, RaggedArray) or isinstance(second, RaggedArray):
        return ComparedValues.missing("samples differ in length in one store alone")
    shape, shape2 = first.shape[1:], second.shape[1:]
    moves = [
        (axis, axis2)
        for axis, axis2 in ((1, 1), (-1, 1), (1, -1))
        if _move_axis(shape, axis, axis2) == shape2
    ]
    smallest: ComparedValues | None = None
    # Where all axes are as long as each other, only the values tell.
    for axis, axis2 in moves if len(shape) > 1 else moves[:1]:
        compared = _compare_moved(first, second, rows, axis, axis2)
        if smallest is None or (compared.difference.max_relative or 0) <= _MUCH_THE_SAME:
            smallest = compared
        if (smallest.difference.max_relative or 0) <= _MUCH_THE_SAME:
            break
    return smallest or ComparedValues.missing(f"shapes are {shape} and {shape2}")


def _compare_ragged(first: RaggedArray, second: RaggedArray, rows: int) -> ComparedValues:
    """Compare values of samples that differ in length, if each is as long in both arrays."""
    if (first.rest, first.axis) != (second.rest, second.axis):
        shapes = [_describe_shape(each) for each in (first, second)]
        return ComparedValues.missing(f"shapes are {shapes[0]} and {shapes[1]}")
    so_far, width = _ValuesSoFar(), max(1, math.prod(first.rest))
    for start, left in first.blocks(0, rows):
        right = second[start : start + len(left)]
        lengths = left.lengths, right.lengths
        if (lengths[0] != lengths[1]).any():
            row = int((lengths[0] != lengths[1]).argmax())
            return ComparedValues.missing(
                f"row {start + row} has length {lengths[0][row]} and {lengths[1][row]}"
            )

        def find_row(place: int, start: int = start, block: Ragged = left) -> int:
            after = np.searchsorted(block.offsets, place // width, side="right")
            return start + int(after) - 1

        so_far.add(left.values, right.values, find_row)
    return so_far.compared()


def _describe_shape(array: RaggedArray) -> str:
    sizes = [str(size) for size in array.rest]
    sizes.insert(array.axis, "…")
    return f"({', '.join(sizes)})"


def _move_axis(shape: tuple[int, ...], axis: int, axis2: int) -> tuple[int, ...]:
    """Return a sample's shape with an axis moved; axes count that of samples."""
    return tuple(np.moveaxis(np.empty((0, *shape)), axis, axis2).shape[1:]) if shape else shape


def _compare_moved(
    first: StoredArray, second: StoredArray, rows: int, axis: int, axis2: int
) -> ComparedValues:
    """Compare values, an axis of the first array moved to another place."""
    so_far, width = _ValuesSoFar(), max(1, math.prod(second.shape[1:]))
    for start, left, right in _side_by_side(first, second, rows):
        moved = left if axis == axis2 else np.moveaxis(left, axis, axis2)

        def find_row(place: int, start: int = start) -> int:
            return start + place // width

        so_far.add(moved, right, find_row)
    return so_far.compared()


def share_of_equal_rows(
    first: StoredArray | RaggedArray, second: StoredArray | RaggedArray, rows: int
) -> float | None:
    """Return the share of rows in which two arrays are equal; None without rows.

    A list of labels and a single one are not compared.
    """
    if isinstance(first, RaggedArray) or isinstance(second, RaggedArray):
        if not (isinstance(first, RaggedArray) and isinstance(second, RaggedArray) and rows):
            return None
        alike = 0
        for start, left in first.blocks(0, rows):
            right = second[start : start + len(left)]
            alike += sum(map(np.array_equal, left, right))
        return alike / rows
    equal = sum(int(np.count_nonzero(a == b)) for _, a, b in _side_by_side(first, second, rows))
    return equal / rows if rows else None


def share_of_same_predictions(
    first: StoredArray | RaggedArray, second: StoredArray | RaggedArray, rows: int
) -> float | None:
    """Return the share of rows with the largest score at the same place; None without scores."""
    if isinstance(first, RaggedArray) or isinstance(second, RaggedArray):
        return None
    # (n, K, 1, 1) and (n, K) are the same scores.
    classes = [[size for size in each.shape[1:] if size != 1] for each in (first, second)]
    if len(classes[0]) != 1 or classes[0] != classes[1] or classes[0][0] < 2 or not rows:
        return None
    same = sum(
        int(np.count_nonzero(a.argmax(axis=1) == b.argmax(axis=1)))
        for _, a, b in (
            (start, a.reshape(len(a), -1), b.reshape(len(b), -1))
            for start, a, b in _side_by_side(first, second, rows)
        )
    )
    return same / rows


def _side_by_side(
    first: StoredArray, second: StoredArray, rows: int
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Yield the first rows of two arrays, a block at a time."""
    step = _rows_at_once([first, second])
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield start, first[start:stop], second[start:stop]


def _rows_at_once(arrays: Sequence[StoredArray]) -> int:
    """Return how many rows to read at once: whole chunks, some megabytes."""
    widest = max(array.row_bytes for array in arrays)
    chunk = max(array.chunk_rows for array in arrays)
    return max(1, _BLOCK_BYTES // widest // chunk) * chunk
