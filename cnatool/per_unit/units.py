"""What the units of a store's tensors do."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.numbers import check_whole_number
from cnatool._util.observer import Silent
from cnatool._util.text import count_text, list_names
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.histogram import RELATIVE_ERROR
from cnatool.per_unit.columns import UnitColumns, make_columns
from cnatool.per_unit.frame import tensor_frame, unit_schema
from cnatool.per_unit.gather import gather_units
from cnatool.per_unit.results import CONSTANT, DEAD, SplitUnits, UnitsResult
from cnatool.per_unit.select import describe_axes, describe_padding, select_tensors
from cnatool.store.missing_rows import check_has_rows, describe_missing_rows
from cnatool.store.reader import open_store
from cnatool.store.store import Store
from cnatool.store.unit_state import UnitState, read_own_state, read_unit_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import polars
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.per_unit.select import SelectedTensor
    from cnatool.store.store import Split

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP = 10
# Labels of more values are hardly classes, and sums of each would be too many.
MOST_CLASSES = 4096
_NO_LABELS: NDArray[np.int64] = np.empty(0, np.int64)
_NO_AXES: Mapping[str, int | str | None] = MappingProxyType({})


class Units:
    """The units of a store's tensors.

    Attributes
    ----------
    result : UnitsResult
        Results for each tensor: dead and constant units, shares of zeros and of positive values.
    """

    def __init__(self, result: UnitsResult, columns: Mapping[str, Sequence[UnitColumns]]) -> None:
        self.result = result
        self._columns = columns

    def __repr__(self) -> str:
        return repr(self.result)

    def frame(self) -> polars.DataFrame:
        """Return a table with one row per unit.

        Columns are ``split``, ``tensor``, ``unit`` (from 0), ``count`` (of finite values), ``nan``,
        ``infinite``, ``mean``, ``deviation``, ``skewness``, ``min``, ``max``, a column for each
        quantile, such as ``q0.05``, ``zeros`` and ``positives`` (shares), ``dead``, ``constant``,
        ``class`` (the label with the highest mean; null if several labels share it, as for a
        constant unit), ``class_name``, ``class_mean`` (the highest mean) and ``ccmas``. Four
        columns are lists over the samples that excite the unit most: ``top_values``, ``top_ids``,
        ``top_rows`` and ``top_positions`` (indices along the axes that units do not lie along).
        Undefined values are null.
        """
        import polars as pl

        return pl.concat([pl.DataFrame(schema=self.schema()), *self.frames()])

    def frames(self) -> Iterator[polars.DataFrame]:
        """Yield the rows of `frame`, tensor by tensor."""
        for split, columns in self._columns.items():
            for tensor in columns:
                yield tensor_frame(split, tensor, self.schema())

    def schema(self) -> dict[str, Any]:
        """Return the names and types of the columns of `frame`."""
        return unit_schema(self.result.quantiles)


def units(
    store: str | Path | Store,
    *,
    tensors: str | Sequence[str] = (),
    splits: str | Sequence[str] = (),
    axes: Mapping[str, int | str | None] = _NO_AXES,
    quantiles: Sequence[float] = QUANTILES,
    top: int = TOP,
    observer: Observer | None = None,
) -> Units:
    """Measure what each unit of a store's tensors does over all samples of a split.

    A unit is a channel of a map (C, H, W), a feature of tokens (T, D), or an element of a vector
    (D,); its values are those for all samples and positions. Values that are not finite are counted
    but otherwise ignored. Each tensor is read once, in bounded memory, or several times if it has
    very many units.

    Parameters
    ----------
    store : str, Path or Store
        The store, with full activations, or with what ``dump(units=True)`` measured.
    tensors : str or sequence of str
        Names or globs of tensors and outputs; a leading ``!`` excludes them. By default the layers,
        and tensors whose units the dump measured; if there are none, everything that is stored.
    splits : str or sequence of str
        Names of splits; all by default.
    axes : mapping of str to int or "element"
        By name or glob of tensors, the axis of one sample's shape that the units lie along, or
        ``"element"`` if each element is a unit. By default the only axis of (D,), the last one of
        (T, D), and the first one of (C, H, W) and longer shapes, but never one along which samples
        differ in length.
    quantiles : sequence of float
        Quantiles between 0 and 1, computed from a histogram with fixed bins: their error is at most
        1/64 of the values that they lie between. Without quantiles, tensors of very many units need
        only one pass.
    top : int
        Number of samples to list for each unit, those that excite it most: those whose largest
        values are the largest. If several are equal, the first in the store.
    observer : Observer, optional
        Receives progress.

    Returns
    -------
    Units
        Results for tensors are in ``result``, those for units in ``frame()``.

    Raises
    ------
    UsageError
        If a pattern matches no tensor, or a parameter is out of range.
    MetricError
        If the store has no such split, or nothing whose units can be measured.
    NotAStoreError, StoreDamagedError, StoreVersionError, StoreAccessError
        If the store cannot be read.
    """
    quantiles, top = check_quantiles(quantiles), check_whole_number("top", top, 1)
    opened = store if isinstance(store, Store) else open_store(store)
    observer = observer or Silent()
    patterns = [tensors] if isinstance(tensors, str) else list(tensors)
    selected, left_out = select_tensors(opened, patterns, axes)
    names = [splits] if isinstance(splits, str) else list(splits)
    chosen = {name: opened.splits[name] for name in names or opened.splits}
    check_has_rows(opened)
    empty = find_empty(chosen, named=bool(names))
    chosen = {name: split for name, split in chosen.items() if name not in empty}
    said = (
        f"skipped because they have no rows: {list_names(empty)}" if empty else None,
        describe_missing_rows(opened),
        describe_padding(selected),
        describe_axes(opened, selected),
    )
    notes = [note for note in said if note]
    for note in notes:
        observer.note(note)
    columns, results = {}, {}
    for name, split in chosen.items():
        measured = read_measured(split, selected, top)
        classes, labels = None, _NO_LABELS
        if not all(each.measured for each in selected):
            classes, labels, problem = find_classes(split)
            notes += [problem] if problem else []
        counted = [
            make_columns(
                each,
                measured.take(each.tensor.number, top),
                measured.labels,
                quantiles,
                "statistics",
            )
            if measured is not None and each.measured
            else _count_tensor(
                split, each, classes, labels, quantiles, top, observer, (place, selected)
            )
            for place, each in enumerate(selected)
        ]
        add_names(split, counted)
        columns[name] = counted
        results[name] = SplitUnits(
            samples=len(split) if measured is None else measured.rows,
            complete=split.record.complete,
            rows=split.record.rows,
            classes=len(labels if measured is None else measured.labels),
            tensors=tuple(each.summary() for each in counted),
        )
    notes += _list_notes(results)
    result = UnitsResult(
        schema="cnatool.units/1",
        store=str(opened.path),
        dead_means=DEAD,
        constant_means=CONSTANT,
        quantiles=quantiles,
        quantile_error=RELATIVE_ERROR,
        top=top,
        splits=results,
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
    return Units(result, columns)


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Return quantiles as floats; UsageError unless all are from 0 to 1, each once."""
    try:
        if isinstance(quantiles, str):
            raise TypeError
        numbers = tuple(map(float, quantiles))
    except (TypeError, ValueError):
        raise UsageError(
            f"`quantiles={quantiles!r}` is not a list of numbers from 0 to 1, such as [0.1, 0.5]."
        ) from None
    for q in numbers:
        if not 0 <= q <= 1:
            raise UsageError(f"`quantiles={q}` is not between 0 and 1, such as 0.5 for the median.")
    if len(set(numbers)) < len(numbers):
        raise UsageError("`quantiles` has the same number twice.")
    return numbers


def find_empty(splits: Mapping[str, Split], *, named: bool) -> list[str]:
    """Return the splits that are complete without a row, as in one of the parts of a dump.

    Raises MetricError if they were named, or if there are no others.
    """
    empty = [name for name, split in splits.items() if split.record.complete and not len(split)]
    if empty and (named or len(empty) == len(splits)):
        raise MetricError(f"{splits[empty[0]].path}: split {empty[0]!r} has no rows.")
    return empty


def read_measured(split: Split, selected: Sequence[SelectedTensor], top: int) -> UnitState | None:
    """Read what was measured of units while a split was dumped; None if nothing of it is needed."""
    units = split.store.record.units
    if not units or not any(each.measured for each in selected):
        return None
    if top > units.top:
        raise UsageError(
            f"`top={top}`: the dump of {split.path} kept {units.top} samples of each unit, and "
            f"not the values themselves. Use at most {units.top}, or dump again with a larger "
            "`units_top`."
        )
    # Of a part of a dump, rows are counted from its first, as ids are.
    state = read_own_state(split) if split.store.parts is None else read_unit_state(split)
    if state is None:
        raise MetricError(
            f"{split.path}: nothing of the units of split {split.name!r} is committed yet. "
            "Continue the dump with `resume=True`."
        )
    return state


def find_classes(
    split: Split,
) -> tuple[NDArray[np.int16] | None, NDArray[np.int64], str | None]:
    """Return the class of each sample, the label of each class, and a note where there are none.

    Classes take 2 bytes a sample.
    """
    stored = split.sample_labels
    if stored is None or not len(split):
        return None, _NO_LABELS, None
    labels = _NO_LABELS
    for _, block in stored.blocks():
        labels = np.union1d(labels, block)
        if len(labels) > MOST_CLASSES:
            problem = (
                f"{split.name} has more than {MOST_CLASSES:,} different labels, which are "
                "therefore not treated as classes: there are no class means and no class "
                "selectivity"
            )
            return None, _NO_LABELS, problem
    classes = np.empty(len(split), np.int16)
    for start, block in stored.blocks():
        classes[start : start + len(block)] = np.searchsorted(labels, block)
    return classes, labels.astype(np.int64), None


def _count_tensor(
    split: Split,
    selected: SelectedTensor,
    classes: NDArray[np.int16] | None,
    labels: NDArray[np.int64],
    quantiles: Sequence[float],
    top: int,
    observer: Observer,
    place: tuple[int, Sequence[SelectedTensor]],
) -> UnitColumns:
    """Count the units of one tensor, the place of which among others tells progress."""
    tensor, axis = selected.tensor, selected.axis
    array = split.outputs(tensor.output) if tensor.output is not None else None
    if array is None:
        array = split.activations(tensor.name)
    number, every = place
    sizes = [max(1, int(np.prod(each.tensor.shape))) * len(split) for each in every]
    done, whole = sum(sizes[:number]), max(1, sum(sizes))

    def report(values: int) -> None:
        nonlocal done
        done = min(done + values, sum(sizes[: number + 1]))
        observer.progress(split.name, len(split) * done // whole, len(split))

    parts = [
        make_columns(selected, statistics, labels, quantiles)
        for statistics in gather_units(
            array,
            tensor,
            axis,
            k=top,
            classes=classes,
            histogram=bool(quantiles),
            progress=report,
        )
    ]
    return UnitColumns.join(parts)


def add_names(split: Split, counted: Sequence[UnitColumns]) -> None:
    """Look up the names of classes, and the ids of all samples that excite a unit."""
    rows = np.unique(np.concatenate([each.top_rows.reshape(-1) for each in counted]))
    rows = rows[rows >= 0]
    ids: list[str] = []
    for start, block in split.ids.blocks():
        inside = rows[(rows >= start) & (rows < start + len(block))] - start
        ids += [str(value) for value in block[inside]]
    ids_by_row = dict(zip(rows.tolist(), ids, strict=True))
    names = dict(enumerate(split.record.classes or ()))
    for each in counted:
        each.ids, each.names = ids_by_row, names


def _list_notes(results: Mapping[str, SplitUnits]) -> Iterator[str]:
    """Yield notes on values that are not finite, and on undefined selectivity."""
    for name, split in results.items():
        broken = [each for each in split.tensors if each.nan or each.infinite]
        if broken:
            nan, infinite = sum(t.nan for t in broken), sum(t.infinite for t in broken)
            kinds = [f"{nan:,} NaN"] * bool(nan) + [f"{infinite:,} infinite"] * bool(infinite)
            yield (
                f"{name}: {' and '.join(kinds)} values of {list_names(t.tensor for t in broken)} "
                "are excluded from all other statistics"
            )
        undefined = [t for t in split.tensors if not t.ccmas_units]
        if split.classes > 1 and undefined:
            yield (
                f"{name}: class selectivity is undefined for "
                f"{count_text(len(undefined), 'tensor')}: it needs the means of at least two "
                "classes, none of them negative and not all 0. It is meant for activations, such "
                "as those after a ReLU"
            )
