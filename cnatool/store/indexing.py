"""NumPy indexing of an array that can be read by rows only."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import EllipsisType

    from numpy.typing import ArrayLike, NDArray

Index: TypeAlias = "int | slice | EllipsisType | ArrayLike | tuple[Any, ...] | None"
_Part: TypeAlias = "int | slice | EllipsisType | NDArray[Any] | None"
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class RowReader:
    """The array that is indexed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]  # rows from a start to a stop
    step: int  # rows to read at a time, so that memory stays bounded


def index_rows(array: RowReader, index: Index) -> Any:
    """Index an array as NumPy does, reading only the rows that are needed.

    Memory is that of the result, of its distinct rows, and of one block.
    """
    parts = _parts(index, len(array.shape))
    place = next(i for i, part in enumerate(parts) if _axes(part))
    part, rows = parts[place], array.shape[0]
    if isinstance(part, slice):
        return _slice(array, parts, place, part)
    if not isinstance(part, np.ndarray):
        assert isinstance(part, int)
        row = _normalize_rows(np.array(part), rows)
        parts[place] = 0
        return array.read(int(row), int(row) + 1)[tuple(parts)]
    if part.dtype == bool:
        if part.shape != array.shape[: part.ndim]:
            raise IndexError(
                f"boolean index of shape {part.shape} does not match an array of shape "
                f"{array.shape}"
            )
        used = part.reshape(rows, -1).any(axis=1)
        wanted = np.flatnonzero(used)
        parts[place] = part[wanted]
    else:
        wanted, inverse = np.unique(_normalize_rows(part, rows), return_inverse=True)
        parts[place] = inverse.reshape(part.shape)
    rows_read = _gather(array, wanted)
    plain = all(_is_all(other) for i, other in enumerate(parts) if i != place)
    if (
        plain
        and parts[place].ndim == 1
        and len(parts[place]) == len(wanted)
        and _ascending(parts[place])
    ):
        return rows_read
    return rows_read[tuple(parts)]


def _is_all(part: _Part) -> bool:
    return isinstance(part, slice) and part == _ALL


def _ascending(part: NDArray[Any]) -> bool:
    return bool(part.all()) if part.dtype == bool else bool((part == np.arange(len(part))).all())


def _parts(index: Index, axes: int) -> list[Any]:
    """Split an index into one part per axis, and the parts that take no axis."""
    index_parts = index if isinstance(index, tuple) else (index,)
    parts = [_part(part) for part in index_parts]
    missing = axes - sum(map(_axes, parts))
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if missing < 0:
        raise IndexError(
            f"too many indices for array: array is {axes}-dimensional, but {axes - missing} were "
            "indexed"
        )
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    place = dots[0] if dots else len(parts)
    # The ellipsis stays, for no axis: with it, one element is an array without axes.
    return [*parts[:place], *[_ALL] * missing, *parts[place:]]


def _part(index: Any) -> _Part:
    if index is None or index is Ellipsis or isinstance(index, slice):
        return index
    if isinstance(index, bool | np.bool_):
        return np.array(index)
    try:
        return operator.index(index)
    except TypeError:
        array = np.asarray(index)
    if not array.size and array.dtype.kind == "f" and not isinstance(index, np.ndarray):
        array = array.astype(np.intp)  # NumPy's type for an empty list is float64
    if array.dtype.kind not in "iub":
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
            "boolean arrays are valid indices"
        )
    return array


def _axes(part: _Part) -> int:
    """Count the axes that a part of an index takes."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


def _normalize_rows(rows: NDArray[Any], size: int) -> NDArray[np.intp]:
    """Make negative row numbers positive; raise IndexError if any is out of bounds."""
    wrong = (rows < -size) | (rows >= size)
    if wrong.any():
        raise IndexError(
            f"index {rows[wrong].flat[0] if rows.ndim else rows} is out of bounds for axis 0 with "
            f"size {size}"
        )
    signed = rows.astype(np.intp)
    return np.where(signed < 0, signed + size, signed)


def _slice(array: RowReader, parts: list[Any], place: int, part: slice) -> NDArray[Any]:
    rows = range(array.shape[0])[part]
    backwards = rows.step < 0
    wanted = rows[::-1] if backwards else rows
    order = slice(None, None, -1) if backwards else _ALL
    others = [other for i, other in enumerate(parts) if i != place]
    if any(isinstance(other, np.ndarray) for other in others):
        parts[place] = order
        return _gather(array, np.asarray(wanted, np.intp))[tuple(parts)]  # type: ignore[no-any-return]
    parts[place] = _ALL
    # Parts that cut other axes are applied block by block, so that not everything is in memory.
    cut = [other for other in others if not _is_all(other) and other is not Ellipsis]
    if not cut:
        gathered = _gather(array, np.asarray(wanted, np.intp))
        return gathered[order] if backwards else gathered
    blocks = [block[tuple(parts)] for block in _blocks(array, np.asarray(wanted, np.intp))]
    blocks = blocks or [array.read(0, 0)[tuple(parts)]]
    axis = sum(part is None for part in parts[:place])
    joined = np.concatenate(blocks, axis=axis)
    return joined[(_ALL,) * axis + (order,)] if backwards else joined


def _blocks(array: RowReader, wanted: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """Read ascending rows in blocks of whole chunks."""
    if not len(wanted):
        return
    borders = np.arange(wanted[0] // array.step, wanted[-1] // array.step + 2) * array.step
    for start, stop in pairwise(np.searchsorted(wanted, borders).tolist()):
        if start < stop:
            first, last = int(wanted[start]), int(wanted[stop - 1])
            block = array.read(first, last + 1)
            yield block if last - first + 1 == stop - start else block[wanted[start:stop] - first]


def _gather(array: RowReader, wanted: NDArray[np.intp]) -> NDArray[Any]:
    if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
        return array.read(int(wanted[0]), int(wanted[-1]) + 1)
    gathered = np.empty((len(wanted), *array.shape[1:]), array.dtype)
    done = 0
    for block in _blocks(array, wanted):
        gathered[done : done + len(block)] = block
        done += len(block)
    return gathered
