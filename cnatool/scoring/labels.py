"""The class that each column of scores stands for, and labels that the model predicts itself.

Many classifiers output labels beside scores. Only these tell that the scores of a binary support
vector machine have the opposite sign, that one-against-one scores are not scores of classes, or
that column 0 is not class 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.metrics.compact import compact
from cnatool.store.ragged import as_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.compact import Integers
    from cnatool.scoring.output import ScoredOutput
    from cnatool.store.store import Split, Store

# Share of samples on which scores and labels may disagree because two scores are nearly equal.
_TRACE = 1e-3
# With less agreement, the columns are not the scores of the classes.
_LEAST_AGREEMENT = 0.9
# Words in the names of label outputs, and the operators that produce them.
_NAMES = ("label", "class", "pred")
_OPERATORS = frozenset(
    {"ArgMax", "ArrayFeatureExtractor", "LinearClassifier", "SVMClassifier"}
    | {"TreeEnsembleClassifier"}
)
_LISTED = 6
_BLOCK = 1 << 17  # labels that are mapped at a time


@dataclass(frozen=True, slots=True)
class ClassMapping:
    """How scores and the model's own labels stand for the labels of the data."""

    # Number of the output that holds the model's own predictions; None where the greatest score
    # predicts
    labels_from: int | None = None
    # Label in the data for each value of that output; None where they are the same
    values: Mapping[int, int] | None = None
    # Label in the data for each column of scores, None for one that is not known; None where column
    # k stands for label k
    columns: tuple[int | None, ...] | None = None
    # Why the scores have no loss and no margin, although there are predictions
    scores_reason: str | None = None
    # Lines for the report, such as a disagreement between scores and labels
    notes: tuple[str, ...] = ()

    def predictions(self, split: Split) -> Iterator[NDArray[np.int64]]:
        """Read the model's own predictions as labels of the data, block by block."""
        assert self.labels_from is not None, "there is an output of labels"
        for _, block in as_plain(split.outputs(self.labels_from)).blocks():
            labels = block.reshape(-1).astype(np.int64)
            yield labels if self.values is None else _replace(labels, self.values)

    def predicted_labels(self, best: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn columns of the greatest score into labels of the data; −1 where unknown."""
        if self.columns is None:
            return best
        return np.array([-1 if label is None else label for label in self.columns])[best]

    def columns_of(self, labels: Integers) -> Integers | None:
        """Turn labels of the data into columns of scores; None if one of them has no column."""
        if self.columns is None:
            return labels
        columns = {label: place for place, label in enumerate(self.columns) if label is not None}
        if not set(np.unique(labels).tolist()) <= set(columns):
            return None
        starts = range(0, len(labels), _BLOCK)
        return compact(_replace(labels[start : start + _BLOCK], columns) for start in starts)


COLUMNS_ARE_CLASSES = ClassMapping()


def _replace(values: Integers, table: Mapping[int, int]) -> NDArray[np.int64]:
    """Look values up in a table; −1 for those that it lacks."""
    distinct, places = np.unique(values, return_inverse=True)
    replacements = np.array([table.get(int(value), -1) for value in distinct], np.int64)
    return replacements[places.reshape(-1)]


@dataclass(frozen=True, slots=True)
class _Counts:
    """How often column c has the greatest score where the model gives label v: (c, v, times)."""

    columns: NDArray[np.int64]
    values: NDArray[np.int64]
    times: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.times.sum())

    def agreement(self, table: Mapping[int, int]) -> float:
        """Return the share of samples whose greatest score stands for the label, by a table."""
        same = [table.get(int(c)) == v for c, v in zip(self.columns, self.values, strict=True)]
        return float(self.times[same].sum() / self.total)

    def usual(self) -> dict[int, int]:
        """Return the most frequent label of each column that ever has the greatest score."""
        order = np.argsort(self.times, kind="stable")
        return {int(self.columns[i]): int(self.values[i]) for i in order}


def map_classes(
    store: Store, splits: Sequence[Split], output: ScoredOutput, *, named: bool
) -> ClassMapping:
    """Compare scores with the model's own labels, and find the class of each column.

    `named` says that the user named the output of scores.
    """
    splits = [split for split in splits if len(split)]
    if (
        not splits
        or splits[0].sample_labels is None
        or output.number is None
        or output.name is None
    ):
        return COLUMNS_ARE_CLASSES
    number = _find_label_output(store, splits[0], output)
    if number is None or (named and output.kind is None):
        return COLUMNS_ARE_CLASSES
    own = store.record.outputs[number].name
    data_labels = _distinct_labels(splits, None)
    if output.kind is None:
        values = set(_distinct_labels(splits, number).tolist())
        by_name = _map_by_name(splits, values)
        if by_name is None and not values & set(data_labels.tolist()):
            return COLUMNS_ARE_CLASSES
        return ClassMapping(
            number,
            by_name,
            scores_reason=output.reason,
            notes=(f"accuracy is that of the model's own labels, output {own!r}",),
        )
    counts = _count_pairs(splits, output, output.number, number)
    # One unit tells class 1 from class 0.
    columns = max(2, math.prod(store.record.outputs[output.number].shape))
    declared = {place: place for place in range(columns)}
    values = set(np.unique(counts.values).tolist())
    table, share = _map_columns(
        counts, columns, _as_model_labels(splits, values, data_labels), declared
    )
    if table != declared or share >= 1 - _TRACE:
        values |= set(table.values())
    by_name = _map_by_name(splits, values)
    if by_name is None and not _same_numbers(values, data_labels):
        return _map_by_position(own, output, values, data_labels, columns, table)
    labels_from: int | None = number
    notes, reason = [], None
    if share < 1 - _TRACE:
        differ = (
            f"the greatest score of {output.name!r} and the model's own label output {own!r} "
            f"disagree on {1 - share:.1%} of the samples"
        )
        if named:
            labels_from = None
            notes.append(f"{differ}: accuracy is that of the scores, as `output` asks for")
        else:
            notes.append(f"{differ}: accuracy is that of the label output")
            if share < _LEAST_AGREEMENT:
                reason = f"{differ}, so its columns are not taken for scores of the classes"
    elif table != declared:
        notes.append(_columns_text(output.name, own, counts, table, declared))
    labels = tuple(
        None if place not in table else (by_name or {}).get(table[place], table[place])
        for place in range(columns)
    )
    return ClassMapping(
        labels_from,
        by_name,
        None if labels == tuple(range(columns)) else labels,
        reason,
        tuple(notes),
    )


def _find_label_output(store: Store, split: Split, output: ScoredOutput) -> int | None:
    """Find the output of whole numbers that holds the model's own labels."""
    for number, record in enumerate(store.record.outputs):
        whole = np.dtype(record.dtype).kind in "iu" and record.shape in ((), (1,))
        if not whole or (number == output.number and output.kind is not None):
            continue
        name = record.name.lower()
        if split.output_operator(number) in _OPERATORS or any(word in name for word in _NAMES):
            return number
    return None


def _distinct_labels(splits: Sequence[Split], number: int | None) -> NDArray[np.int64]:
    """List the distinct labels of the data, or the distinct values of an output."""
    labels = [np.empty(0, np.int64)]
    for split in splits:
        array = split.sample_labels if number is None else as_plain(split.outputs(number))
        if array is not None:
            labels += [np.unique(block).astype(np.int64) for _, block in array.blocks()]
    return np.unique(np.concatenate(labels))


def _count_pairs(
    splits: Sequence[Split], output: ScoredOutput, scores: int, number: int
) -> _Counts:
    total: dict[tuple[int, int], int] = {}
    for split in splits:
        own = as_plain(split.outputs(number))
        for start, block in as_plain(split.outputs(scores)).blocks():
            best = output.predictions(block)
            label = own[start : start + len(block)].reshape(-1).astype(np.int64)
            pairs, times = np.unique(np.stack([best, label]), axis=1, return_counts=True)
            for (column, value), count in zip(pairs.T.tolist(), times.tolist(), strict=True):
                total[column, value] = total.get((column, value), 0) + count
    columns, values = np.array(sorted(total), np.int64).reshape(-1, 2).T
    return _Counts(columns, values, np.array([total[key] for key in sorted(total)], np.int64))


def _map_columns(
    counts: _Counts, width: int, labels: set[int], declared: Mapping[int, int]
) -> tuple[dict[int, int], float]:
    """Return the model label of each column of scores where known, and the share that agrees."""
    usual = counts.usual()
    share = counts.agreement(usual)
    distinct = len(set(usual.values())) == len(usual)
    if share < 1 - _TRACE or not distinct or usual.items() <= declared.items():
        return dict(declared), counts.agreement(declared)
    missing = [place for place in range(width) if place not in usual]
    left = sorted(labels - set(usual.values()))
    # Classifiers sort their classes.
    ordered = sorted({*usual.values(), *left})
    if len(missing) == len(left) == 1:
        usual[missing[0]] = left[0]
    elif len(ordered) == width and all(ordered[k] == value for k, value in usual.items()):
        usual = dict(enumerate(ordered))
    elif width == 2 and len(missing) == 1 and set(usual.values()) <= {0, 1}:
        usual[missing[0]] = 1 - next(iter(usual.values()))
    return usual, share


def _as_model_labels(
    splits: Sequence[Split], values: set[int], labels: NDArray[np.int64]
) -> set[int]:
    """Return the labels of the data as model labels, by class name where the names are numbers."""
    names = splits[0].record.classes
    if names is None or not {str(value) for value in values} <= set(names):
        return set(labels.tolist())
    return {int(name) for name in names if name.lstrip("-").isdecimal()}


def _map_by_name(splits: Sequence[Split], values: set[int]) -> dict[int, int] | None:
    """Map model labels to data labels by class name; None where a label is not a class name."""
    names = splits[0].record.classes
    if names is None or not {str(value) for value in values} <= set(names):
        return None
    return {value: names.index(str(value)) for value in sorted(values)}


def _same_numbers(values: set[int], data_labels: NDArray[np.int64]) -> bool:
    """Whether the model's labels and those of the data can be the same numbers."""
    labels = set(data_labels.tolist())
    return labels <= values or values <= labels


def _map_by_position(
    own: str,
    output: ScoredOutput,
    values: set[int],
    labels: NDArray[np.int64],
    width: int,
    table: Mapping[int, int],
) -> ClassMapping:
    """Take columns in order where labels count classes; else there is neither loss nor margin."""
    ranges = (
        f"the model's own label output {own!r} gives {_list_values(values)} and the labels are "
        f"{_list_values(set(labels.tolist()))}"
    )
    ordered = [table[place] for place in sorted(table)]
    if len(labels) and labels.min() >= 0 and labels.max() < width and ordered == sorted(ordered):
        return ClassMapping(
            notes=(
                f"{ranges}: the labels are taken for places of the classes, so that the first "
                f"column of {output.name!r} is class 0",
            )
        )
    unknown: tuple[int | None, ...] = (None,) * width
    return ClassMapping(
        columns=unknown, scores_reason=f"{ranges}: how they correspond is not known"
    )


def _columns_text(
    name: str, own: str, counts: _Counts, table: Mapping[int, int], declared: Mapping[int, int]
) -> str:
    if len(declared) == 2 and set(table.values()) <= {0, 1}:
        share = 1 - counts.agreement(declared)
        return (
            f"the scores of {name!r} have the opposite sign: on {share:.1%} of the samples "
            f"they contradict the model's own label output {own!r}, which is used"
        )
    pairs = ", ".join(f"{place} is {value}" for place, value in sorted(table.items())[:_LISTED])
    more = ", …" if len(table) > _LISTED else ""
    return f"columns of {name!r} by the model's own label output {own!r}: {pairs}{more}"


def _list_values(values: set[int]) -> str:
    shown = ", ".join(map(str, sorted(values)[:_LISTED]))
    return f"{shown}, …" if len(values) > _LISTED else shown
