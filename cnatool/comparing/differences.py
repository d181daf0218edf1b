"""How far arrays of two stores are apart, read side by side in bounded memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.comparing.results import Difference
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.comparing.match_tensors import Pair
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

_BLOCK_BYTES = 16 << 20
# By which layers of parallel branches are told apart.
_FIRST_ROWS = 1000
_MUCH_THE_SAME = 1e-3
# What is summed is compared with the sum of absolute values, of which rounding is a share.
_SUMS = ("sum", "abs_sum", "positive_sum")


class _Largest:
    """The largest differences so far."""

    def __init__(self) -> None:
        self.absolute = 0.0
        self.relative = 0.0
        self.unequal = 0  # one of the two is not finite
        self.unscaled = False

    def add(self, one: NDArray[Any], two: NDArray[Any], scale: NDArray[Any] | None) -> None:
        """Take in rows of the two arrays; ``scale`` broadcasts with them."""
        one, two = one.astype(np.float64), two.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(two)
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        self.unequal += int(np.count_nonzero(~finite & ~same))
        with np.errstate(invalid="ignore"):
            apart = np.where(finite, np.abs(one - two), 0.0)
        self.absolute = max(self.absolute, float(apart.max(initial=0.0)))
        if scale is None:
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(apart > 0, apart / scale, 0.0)
        self.unscaled = self.unscaled or not np.isfinite(share).all()
        share = share[np.isfinite(share)]
        self.relative = max(self.relative, float(share.max(initial=0.0)))

    def difference(self, scale: str) -> Difference:
        """Give the result."""
        if self.unequal:
            reason = f"{self.unequal} numbers are finite in one store alone"
            return Difference(None, None, None, reason)
        if self.unscaled:
            return Difference(self.absolute, None, None, "what it would be a share of is 0")
        return Difference(self.absolute, self.relative, scale)


def statistic_differences(
    split: Split, split2: Split, pairs: Sequence[Pair], rows: int
) -> list[dict[str, Difference]]:
    """Compare every statistic that both stores hold, for each pair of tensors."""
    known = set(split2.store.record.statistics)
    names = [name for name in split.store.record.statistics if name in known]
    columns = [pair.one.number for pair in pairs]
    columns2 = [pair.two.number for pair in pairs]
    differences: list[dict[str, Difference]] = [{} for _ in pairs]
    abs_sums = [
        _LastRows(each.statistics("abs_sum")) if each.has_statistic("abs_sum") else None
        for each in (split, split2)
    ]
    for name in names:
        sizes = _mean_sizes(split, name, columns, rows)
        scales = [
            _Scale(name, ((split, pair.one), (split2, pair.two)), abs_sums, size)
            for pair, size in zip(pairs, sizes, strict=True)
        ]
        largest = [_Largest() for _ in pairs]
        for start, one, two in _side_by_side(split.statistics(name), split2.statistics(name), rows):
            for found, scale, column, column2 in zip(
                largest, scales, columns, columns2, strict=True
            ):
                left, right = one[:, column], two[:, column2]
                found.add(left, right, scale.of(start, left, right))
        for place, (found, scale) in enumerate(zip(largest, scales, strict=True)):
            differences[place][name] = found.difference(scale.name)
    return differences


def sums_agree(split: Split, split2: Split) -> Callable[[str, str], bool]:
    """Give a function that says whether two tensors' sums over the first rows are much the same."""
    rows = min(len(split), len(split2), _FIRST_ROWS)
    if not (rows and split.has_statistic("sum") and split2.has_statistic("sum")):
        return lambda name, name2: True
    sums, sums2 = split.statistics("sum")[:rows], split2.statistics("sum")[:rows]

    def agree(name: str, name2: str) -> bool:
        one = sums[:, split.store.tensor(name).number]
        two = sums2[:, split2.store.tensor(name2).number]
        with np.errstate(invalid="ignore"):
            return bool(np.abs(one - two).max() <= _MUCH_THE_SAME * np.abs(one).max())

    return agree


class _LastRows:
    """Rows of an array that are read once for all who ask for the same."""

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._range = (0, 0)
        self._rows: NDArray[Any] | None = None

    def column(self, start: int, stop: int, number: int) -> NDArray[np.float64]:
        """Give some rows of a column."""
        if self._rows is None or self._range != (start, stop):
            self._rows, self._range = self._array[start:stop], (start, stop)
        found: NDArray[np.float64] = self._rows[:, number]
        return found


class _Scale:
    """What the difference of a statistic of one pair of tensors is a share of."""

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
        self._values: StoredArray | None = None
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

    def of(self, start: int, one: NDArray[Any], two: NDArray[Any]) -> NDArray[np.float64]:
        """Give the scale of rows from ``start`` on, (n,)."""
        stop = start + len(one)
        if self._sums is not None:
            return self._sums.column(start, stop, self._column)
        if self._values is not None:
            blocks = _blocks(self._values, start, stop)
            return np.concatenate([row_statistics(rows, ["abs_sum"])["abs_sum"] for rows in blocks])
        if self.name == "elements":
            return np.full(len(one), self._elements)
        larger: NDArray[np.float64] = np.maximum(np.abs(one), np.abs(two))
        return np.maximum(larger, self._mean_size)


def _mean_sizes(split: Split, statistic: str, columns: list[int], rows: int) -> list[float]:
    """Give the mean absolute value of a statistic of some tensors."""
    total = np.zeros(len(columns))
    array = split.statistics(statistic)
    for _, one, _two in _side_by_side(array, array, rows):
        found = np.abs(one[:, columns])
        total += np.where(np.isfinite(found), found, 0.0).sum(axis=0)
    return list(total / max(1, rows))


def value_difference(one: StoredArray, two: StoredArray, rows: int) -> Difference:
    """Compare whole values; channels may come last in one of the arrays, and first in the other."""
    shape, shape2 = one.shape[1:], two.shape[1:]
    moves = [
        (axis, axis2)
        for axis, axis2 in ((1, 1), (-1, 1), (1, -1))
        if _moved(shape, axis, axis2) == shape2
    ]
    found: Difference | None = None
    # Where all axes are as long as each other, only the values tell.
    for axis, axis2 in moves if len(shape) > 1 else moves[:1]:
        other = _apart(one, two, rows, axis, axis2)
        if found is None or (other.max_relative or 0) <= _MUCH_THE_SAME:
            found = other
        if (found.max_relative or 0) <= _MUCH_THE_SAME:
            break
    if found is None:
        return Difference(None, None, None, f"shapes are {shape} and {shape2}")
    return found


def _moved(shape: tuple[int, ...], axis: int, axis2: int) -> tuple[int, ...]:
    """Give a shape after the axis was moved, both counted with the samples' axis."""
    return tuple(np.moveaxis(np.empty((0, *shape)), axis, axis2).shape[1:]) if shape else shape


def _apart(one: StoredArray, two: StoredArray, rows: int, axis: int, axis2: int) -> Difference:
    """Compare values, an axis of the first array moved to another place."""
    found = _Largest()
    size = 0.0
    for _, left, right in _side_by_side(one, two, rows):
        moved = left if axis == axis2 else np.moveaxis(left, axis, axis2)
        found.add(moved, right, None)
        values = np.abs(left.astype(np.float64))
        size = max(size, float(values.max(initial=0.0, where=np.isfinite(values))))
    found.relative = found.absolute / size if size else 0.0
    found.unscaled = not size and found.absolute > 0
    return found.difference("largest")


def equal_share(one: StoredArray, two: StoredArray, rows: int) -> float | None:
    """Give the share of rows in which two arrays are equal; None where there are no rows."""
    equal = sum(int(np.count_nonzero(a == b)) for _, a, b in _side_by_side(one, two, rows))
    return equal / rows if rows else None


def same_predictions(one: StoredArray, two: StoredArray, rows: int) -> float | None:
    """Give the share of rows whose largest score is at the same place; None without scores."""
    # (n, K, 1, 1) and (n, K) are the same scores.
    classes = [[size for size in each.shape[1:] if size != 1] for each in (one, two)]
    if len(classes[0]) != 1 or classes[0] != classes[1] or classes[0][0] < 2 or not rows:
        return None
    same = sum(
        int(np.count_nonzero(a.argmax(axis=1) == b.argmax(axis=1)))
        for _, a, b in (
            (start, a.reshape(len(a), -1), b.reshape(len(b), -1))
            for start, a, b in _side_by_side(one, two, rows)
        )
    )
    return same / rows


def _blocks(array: StoredArray, start: int, stop: int) -> Iterator[NDArray[Any]]:
    step = _step([array])
    for first in range(start, stop, step):
        yield array[first : min(first + step, stop)]


def _side_by_side(
    one: StoredArray, two: StoredArray, rows: int
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Give the first rows of two arrays, a block at a time."""
    step = _step([one, two])
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield start, one[start:stop], two[start:stop]


def _step(arrays: Sequence[StoredArray]) -> int:
    """Give how many rows to read at once: whole chunks, and some megabytes."""
    widest = max(array.row_bytes for array in arrays)
    chunk = max(array.chunk_rows for array in arrays)
    return max(1, _BLOCK_BYTES // widest // chunk) * chunk
