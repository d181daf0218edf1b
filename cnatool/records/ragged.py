"""Rows of varying length in memory: the values of all samples behind one another, and offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


class Ragged:
    """Samples that differ in length along one axis.

    An integer selects one sample, as an array, and further indices select its elements: ``[7, 0]``
    is the first row of sample 7. A slice, a list of rows or a boolean mask selects several samples,
    as another `Ragged`. Slices are views.

    Parameters
    ----------
    values : ndarray
        The concatenated samples, (total, …); the axis along which they differ comes first.
    offsets : array_like of int
        Sample i is ``values[offsets[i]:offsets[i + 1]]``; (n + 1,), from 0 to ``len(values)``.
    axis : int
        Position of that axis in the shape of one sample.

    Examples
    --------
    >>> boxes = Ragged.join([np.ones((2, 4)), np.ones((0, 4)), np.ones((1, 4))])
    >>> boxes
    <ragged: 3 samples of (0 to 2, 4) float64>
    >>> boxes[0].shape, boxes[1:].offsets.tolist()
    ((2, 4), [0, 0, 1])
    """

    __slots__ = ("axis", "offsets", "values")

    def __init__(self, values: NDArray[Any], offsets: ArrayLike, axis: int = 0) -> None:
        self.values = np.asarray(values)
        self.offsets = _whole_numbers("offsets", offsets)
        self.axis = axis
        if self.values.ndim == 0 or not 0 <= axis < self.values.ndim:
            raise ValueError(f"axis {axis} is none of values of shape {self.values.shape}")
        if not len(self.offsets) or self.offsets[0] != 0:
            raise ValueError("offsets have to begin with 0")
        if self.offsets[-1] != len(self.values) or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"offsets do not ascend to the {len(self.values)} values")

    @classmethod
    def join(cls, samples: Sequence[ArrayLike], axis: int = 0) -> Self:
        """Join arrays, one for each sample, that differ in length along an axis."""
        rows = [np.moveaxis(np.asarray(sample), axis, 0) for sample in samples]
        if not rows:
            raise ValueError("no samples, so their shape is unknown")
        return cls.from_lengths(np.concatenate(rows), [len(row) for row in rows], axis)

    @classmethod
    def from_lengths(cls, values: NDArray[Any], lengths: ArrayLike, axis: int = 0) -> Self:
        """Divide values, (total, …), among samples of some lengths."""
        ends = np.cumsum(_whole_numbers("lengths", lengths), dtype=np.int64)
        return cls(values, np.concatenate([np.zeros(1, np.int64), ends]), axis)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """Put the samples of several behind one another."""
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls.from_lengths(np.concatenate([p.values for p in parts]), lengths, parts[0].axis)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each sample along the axis, (n,)."""
        return np.diff(self.offsets)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return self.values.dtype

    @property
    def rest(self) -> tuple[int, ...]:
        """Shape of one sample without the axis."""
        return self.values.shape[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of values and offsets."""
        return self.values.nbytes + self.offsets.nbytes

    @property
    def counts(self) -> NDArray[np.int64]:
        """Elements of each sample, (n,)."""
        return self.lengths * int(np.prod(self.rest, dtype=np.int64))

    def astype(self, dtype: np.dtype[Any]) -> Ragged:
        """Convert the values."""
        return Ragged(self.values.astype(dtype, copy=False), self.offsets, self.axis)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self._sample, range(len(self)))

    def __repr__(self) -> str:
        lengths = self.lengths
        least, most = (lengths.min(), lengths.max()) if len(self) else (0, 0)
        sizes = [str(size) for size in self.rest]
        sizes.insert(self.axis, str(least) if least == most else f"{least} to {most}")
        plural = "" if len(self) == 1 else "s"
        return f"<ragged: {len(self)} sample{plural} of ({', '.join(sizes)}) {self.dtype}>"

    @overload
    def __getitem__(self, index: int | tuple[Any, ...]) -> Any: ...
    @overload
    def __getitem__(self, index: slice | ArrayLike) -> Ragged: ...
    def __getitem__(self, index: int | tuple[Any, ...] | slice | ArrayLike) -> Any:
        index, inside = split_index(index)
        if isinstance(index, int | np.integer):
            return self._sample(as_row(index, len(self)))[inside]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop))
        rows: NDArray[np.intp] = np.arange(len(self))[as_index(index)]
        if rows.ndim != 1:
            raise IndexError("samples of varying length are selected along one axis")
        pieces = [self.values[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        values = np.concatenate(pieces) if pieces else self.values[:0]
        return Ragged.from_lengths(values, self.lengths[rows], self.axis)

    def _slice(self, start: int, stop: int) -> Ragged:
        offsets = self.offsets[start : stop + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0], self.axis)

    def _sample(self, row: int) -> NDArray[Any]:
        values = self.values[self.offsets[row] : self.offsets[row + 1]]
        return np.moveaxis(values, 0, self.axis)


def split_index(index: Any) -> tuple[Any, tuple[Any, ...]]:
    """Divide an index into that of samples and that inside one sample; IndexError if it has none.

    Several samples have no axis in common that a further index could select from.
    """
    if not isinstance(index, tuple):
        return index, ()
    samples, *inside = index or (slice(None),)
    if inside and not isinstance(samples, int | np.integer):
        raise IndexError(
            "samples differ in length: index inside one of them, as in [7, 0], or select several "
            "with one index, as in [7:9] or [[7, 0]]"
        )
    return samples, tuple(inside)


def as_row(index: int | np.integer[Any], count: int, name: str = "") -> int:
    """Return the number of a sample, counted from the first; IndexError unless there is one."""
    row = int(index)
    if not -count <= row < count:
        of = f" of {name}" if name else ""
        raise IndexError(f"index {row} is out of bounds for {count} samples{of}")
    return row % count


def _whole_numbers(what: str, given: ArrayLike) -> NDArray[np.int64]:
    """Return offsets or lengths, (n,); ValueError where they would be changed."""
    numbers = np.asarray(given)
    if numbers.ndim == 1 and numbers.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):
            whole = numbers.astype(np.int64)
        if (whole == numbers).all():
            return whole
    raise ValueError(f"{what} have to be whole numbers along one axis")


def as_index(index: slice | ArrayLike) -> slice | NDArray[Any]:
    """Return an index of rows as NumPy takes it; of an empty list, the type is float."""
    if isinstance(index, slice):
        return index
    rows = np.asarray(index)
    if rows.ndim != 1:
        raise IndexError("samples are selected by an integer, a slice, a list of rows or a mask")
    return rows if rows.size else rows.astype(np.intp)


# The rows of any array of a split.
Rows: TypeAlias = "NDArray[Any] | Ragged"


def concatenate_rows(parts: Sequence[Rows]) -> Rows:
    """Put the rows of several runs behind one another."""
    if len(parts) == 1:
        return parts[0]
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return Ragged.concatenate(ragged)
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])
