"""Rows of detections, and the column of whole numbers that says which sample each is of.

NonMaxSuppression and what follows it return the rows of all samples behind one another. A column
is accepted as their index only by what runs show: with the samples in other groups and orders, and
beside other ones, the rows that it gives to a sample are the same, and only its own numbers change.
A column that numbers only the samples with rows, or the rows themselves, may look the same. So
either some run has a sample without rows before one with some, which the column has to skip, or
the column comes from an operator that defines it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.probe.closeness import same_values
from cnatool.backend.probe.index_origin import numbers_samples
from cnatool.records.row_index import RowIndex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# Wider tensors are searched for an index in their first columns only.
_MOST_COLUMNS = 64


# The values of the inputs decide how many rows there are.
_COUNTING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
# Stands for a sample that is none of the first run.
FOREIGN = -1


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run returned for rows of detections."""

    samples: NDArray[np.intp]  # the sample at each place of the batch; FOREIGN for another one
    values: Mapping[str, NDArray[Any]]


class RowEvidence:
    """The rows of tensors in several runs of the same samples, in different groups and orders.

    The first run has all samples, each at the place that is its number. Tensors in ``by_sample``
    have the samples along their first axis. Rows that come from tensors in ``competing`` are never
    those of samples.
    """

    def __init__(
        self,
        graph: Graph,
        names: Sequence[str],
        by_sample: Collection[str],
        competing: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._by_sample = by_sample
        self._sources = _find_sources(graph, names)
        self._names = tuple(n for n in names if self._sources[n].isdisjoint(competing))
        self._runs: list[_Run] = []

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, samples: NDArray[np.intp], values: Mapping[str, Any]) -> None:
        """Add what a run of these samples returned."""
        rows = {name: np.asarray(values[name]) for name in self._names}
        self._runs.append(_Run(samples, rows))

    @property
    def empty(self) -> set[str]:
        """Tensors that have no row in any run."""
        return {n for n in self._names if not any(run.values[n].size for run in self._runs)}

    def find(self) -> dict[str, RowIndex]:
        """Find the tensors whose rows are those of samples, and the index of each."""
        names = [n for n in self._names if len({run.values[n].ndim for run in self._runs}) == 1]
        indices = []
        for name in names:
            for column in _list_columns([run.values[name] for run in self._runs]):
                places = self._read_index(name, column)
                if places is not None:
                    indices.append((RowIndex(name, column), places))
        sources = self._sources
        found: dict[str, RowIndex] = {}
        for name in names:
            own = sources[name]
            related = [pair for pair in indices if sources[pair[0].tensor] & own]
            # Its own column first, then one of the same counts.
            related.sort(key=lambda pair: (pair[0].tensor != name, sources[pair[0].tensor] != own))
            for index, places in related:
                columns_of_places = self._match_rows(name, places)
                if columns_of_places is not None:
                    found[name] = RowIndex(index.tensor, index.column, columns_of_places)
                    break
        return found

    def _read_index(self, name: str, column: int | None) -> list[NDArray[np.intp]] | None:
        """Read the places of samples from a column, by run; None where it holds something else.

        Each sample must come equally often in every run, wherever its place is, and the column has
        to number samples surely.
        """
        read: list[NDArray[np.intp]] = []
        counts: NDArray[np.intp] | None = None
        moved = skipped = False
        for run in self._runs:
            size, known = len(run.samples), run.samples != FOREIGN
            places = read_places(run.values[name], column, size)
            if places is None:
                return None
            here = np.bincount(places, minlength=size)
            counts = here if counts is None else counts
            if not np.array_equal(here[known], counts[run.samples[known]]):
                return None
            moved = moved or bool(here[known & (run.samples != np.arange(size))].any())
            # A number that no row has, before one that a row has.
            skipped = skipped or len(np.unique(places)) <= places.max(initial=-1)
            read.append(places)
        return read if moved and (skipped or self._is_defined(name, column)) else None

    def _is_defined(self, name: str, column: int | None) -> bool:
        """Whether an operator defines that a column numbers samples."""
        shapes = {each: value.shape for each, value in self._runs[0].values.items()}
        return numbers_samples(self._graph, self._by_sample, shapes, name, column)

    def _match_rows(self, name: str, places: Sequence[NDArray[np.intp]]) -> tuple[int, ...] | None:
        """Whether each sample's rows of a tensor are the same in every run.

        If so, return the columns that hold the sample's place, which are left out of it.
        """
        values = [run.values[name] for run in self._runs]
        if any(len(rows) != len(own) for rows, own in zip(values, places, strict=True)):
            return None
        columns = _find_columns(values, places)
        whole: list[NDArray[Any]] = []
        for run, rows, own in zip(self._runs, values, places, strict=True):
            by_sample = split_rows(clear_columns(rows, columns), own, len(run.samples))
            whole = whole or by_sample
            known = np.flatnonzero(run.samples != FOREIGN)
            expected = np.concatenate([whole[run.samples[place]] for place in known])
            if not same_values(expected, np.concatenate([by_sample[place] for place in known])):
                return None
        return columns


def _find_sources(graph: Graph, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """Find, for each tensor, the tensors that count first what its rows are."""
    sources: dict[str, frozenset[str]] = {}
    counted = graph.data_shaped.union(names)
    for node in graph.nodes:
        before = [sources[name] for name in node.input if name in sources]
        for name in counted.intersection(node.output):
            own = [] if before and node.op_type not in _COUNTING else [frozenset({name})]
            sources[name] = frozenset[str]().union(*before, *own)
    return sources


def read_places(rows: NDArray[Any], column: int | None, samples: int) -> NDArray[np.intp] | None:
    """Read the places of samples in a batch from a column; None where it holds something else."""
    values = rows if column is None else rows[:, column]
    with np.errstate(invalid="ignore"):
        places = values.astype(np.intp)
    fits = (places == values) & (places >= 0) & (places < samples)
    return places if fits.all() else None


def split_rows(rows: NDArray[Any], places: NDArray[np.intp], samples: int) -> list[NDArray[Any]]:
    """Split rows by the sample that each is of; the rows of a sample keep their order."""
    ends = np.cumsum(np.bincount(places, minlength=samples))
    return np.split(rows[np.argsort(places, kind="stable")], ends[:-1])


def clear_columns(rows: NDArray[Any], columns: Sequence[int]) -> NDArray[Any]:
    """Set columns that hold the places of samples to 0, as in a run of each sample alone."""
    if not columns:
        return rows
    if rows.ndim == 1:
        return np.zeros_like(rows)
    cleared = rows.copy()
    cleared[:, list(columns)] = 0
    return cleared


def _find_columns(
    values: Sequence[NDArray[Any]], places: Sequence[NDArray[np.intp]]
) -> tuple[int, ...]:
    """Find the columns of a tensor that hold the place of a row's sample in every run."""
    tables = [rows[:, None] if rows.ndim == 1 else rows for rows in values]
    return tuple(
        column or 0
        for column in _list_columns(values)
        if all((t[:, column or 0] == own).all() for t, own in zip(tables, places, strict=True))
    )


def _list_columns(values: Sequence[NDArray[Any]]) -> Iterator[int | None]:
    """Yield the columns of a tensor that may hold numbers of places; None for that of a vector."""
    if values[0].dtype.kind == "b":
        return
    if values[0].ndim == 1:
        yield None
    elif values[0].ndim == 2:
        yield from range(min(_MOST_COLUMNS, *(rows.shape[1] for rows in values)))
