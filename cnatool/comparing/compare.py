"""Comparison of the tensors, outputs and scores of two stores of one network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnatool._util.text import count_text
from cnatool.comparing.agreement import find_added_noise
from cnatool.comparing.differences import (
    ComparedValues,
    compare_statistics,
    compare_values,
    share_of_equal_rows,
    share_of_same_predictions,
    sums_agreement,
)
from cnatool.comparing.match_tensors import match_tensors
from cnatool.comparing.notes import (
    note_matches,
    note_missing_rows,
    note_other_samples,
    note_other_splits,
)
from cnatool.comparing.results import (
    ArraysCompared,
    Comparison,
    ScoreCompared,
    SplitCompared,
    TensorCompared,
)
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.scoring.score import score_store
from cnatool.store.missing_rows import check_has_rows, explain_missing_rows
from cnatool.store.reader import open_store
from cnatool.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool.comparing.match_tensors import Match, Pair
    from cnatool.records.store import ArrayRecord
    from cnatool.scoring.results import ScoreResult
    from cnatool.store.store import Split

TOLERANCE = 1e-4


def compare(
    store: str | Path | Store,
    store2: str | Path | Store,
    *,
    split: str | None = None,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare two stores of the same network and the same samples, in the same order.

    Tensors are matched by name if every layer of one store has its namesakes in the other.
    Otherwise, layers are matched by the stems of their names, without what optimisers and
    quantisers add, and by size, longest path from the input, shortcut and order. A layer that could
    match several others is not compared, and quantised codes are not compared with values; notes
    name both.

    Parameters
    ----------
    store, store2 : str, Path or Store
        The stores.
    split : str, optional
        Compare only this split; by default all splits that both stores have.
    convention, overrides
        Of the scores, as in `cnatool.score`.
    tolerance : float
        Largest relative difference that counts as equal; 0 requires equal values.

    Returns
    -------
    Comparison

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If there is no store, or it is broken.
    MetricError
        If the stores have no split in common, or one has no rows yet.
    UsageError
        If the convention or a field does not exist, or the tolerance is negative.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"`tolerance={tolerance}`: it must be 0 or above.")
    named = Convention.named(convention, overrides)
    first, second = (
        each if isinstance(each, Store) else open_store(each) for each in (store, store2)
    )
    common = _common_splits(first, second, split)
    names = _splits_with_rows(first, second, common)
    empty = [name for name in common if name not in names]
    match = match_tensors(
        first, second, sums_agreement(first.splits[names[0]], second.splits[names[0]])
    )
    splits = {
        name: _compare_split(first.splits[name], second.splits[name], match, tolerance)
        for name in names
    }
    scores, reason = compare_scores(first, second, names, named)
    relative = _list_differences(splits, scores, tolerance)
    differences = [
        *_structural_differences(match, splits, empty, first, second),
        *(what for what, _, wrong in relative if wrong),
    ]
    undefined = next((what for what, size, _ in relative if size is None), None)
    largest = max(
        ((size, what) for what, size, _ in relative if size is not None), default=(None, "nothing")
    )
    return Comparison(
        schema="cnatool.compare/1",
        store=str(first.path),
        store2=str(second.path),
        tolerance=tolerance,
        same=not differences,
        largest=largest[0] if undefined is None else None,
        largest_of=largest[1] if undefined is None else undefined,
        differences=tuple(differences),
        matched=match.by,
        unmatched=tuple(match.left),
        unmatched2=tuple(match.left2),
        splits=splits,
        convention=named,
        scores=tuple(scores),
        scores_reason=reason,
        notes=(
            *note_missing_rows(first, second, empty),
            *(note_other_splits(first, second) if split is None else ()),
            *(note_other_samples(splits) if differences else ()),
            *note_matches(match, first, second, named.fields),
        ),
    )


def _common_splits(first: Store, second: Store, split: str | None) -> list[str]:
    check_has_rows(first)
    check_has_rows(second)
    common = [name for name in first.splits if name in second.splits]
    if split is not None and split not in common:
        lacking = first if split not in first.splits else second
        raise MetricError(
            f"{lacking.path} has no split {split!r}; it has {', '.join(lacking.splits)}."
        )
    if not common:
        raise MetricError(
            f"{first.path} has the splits {', '.join(first.splits)}, and {second.path} "
            f"{', '.join(second.splits)}: there is none to compare."
        )
    return common if split is None else [split]


def _splits_with_rows(first: Store, second: Store, splits: Sequence[str]) -> list[str]:
    """Return the splits of which both stores have rows."""
    names = [name for name in splits if len(first.splits[name]) and len(second.splits[name])]
    if not names:
        unfinished = [
            store
            for store in (first, second)
            if not all(
                store.splits[name].record.complete or len(store.splits[name]) for name in splits
            )
        ]
        if unfinished:
            raise MetricError(" ".join(map(explain_missing_rows, unfinished)))
        raise MetricError(
            f"there is nothing to compare: {first.path} and {second.path} do not both have rows of "
            f"{' or '.join(splits)}."
        )
    return names


def _compare_split(split: Split, split2: Split, match: Match, tolerance: float) -> SplitCompared:
    rows = min(len(split), len(split2))
    labels, labels2 = split.labels, split2.labels
    marks = split.fingerprint, split2.fingerprint
    tensors = _compare_tensors(split, split2, match.pairs, rows)
    adding = [tensor for tensor in tensors if tensor.added_noise]
    return SplitCompared(
        rows=len(split),
        rows2=len(split2),
        same_data=None if None in marks else marks[0] == marks[1],
        ids=share_of_equal_rows(split.ids, split2.ids, rows),
        labels=None
        if labels is None or labels2 is None
        else share_of_equal_rows(labels, labels2, rows),
        tensors=tensors,
        outputs=tuple(_compare_outputs(split, split2, rows)),
        first_apart=next((t.name for t in tensors if _is_apart(t, tolerance)), None),
        by_added_noise=tuple(
            tensor.name for tensor in sorted(adding, key=lambda t: -(t.added_noise or 0))
        ),
    )


def _compare_tensors(
    split: Split, split2: Split, pairs: Sequence[Pair], rows: int
) -> tuple[TensorCompared, ...]:
    statistics = compare_statistics(split, split2, pairs, rows)
    values = [_compare_activations(split, split2, pair, rows) for pair in pairs]
    noise = {
        pair.first.number: compared.agreement.noise
        for pair, compared in zip(pairs, values, strict=True)
        if compared.agreement.noise is not None and not pair.first.reduction
    }
    added = find_added_noise(split.store.tensors, noise)
    return tuple(
        TensorCompared(
            name=pair.first.name,
            name2=pair.second.name,
            layer=pair.layer,
            layer2=pair.layer2,
            stands_for=pair.stands_for,
            statistics=differences,
            activations=compared.difference,
            worst=None
            if compared.difference.row is None
            else str(split.ids[compared.difference.row]),
            agreement=compared.agreement,
            added_noise=added.get(pair.first.number),
        )
        for pair, differences, compared in zip(pairs, statistics, values, strict=True)
    )


def _compare_outputs(split: Split, split2: Split, rows: int) -> Iterator[ArraysCompared]:
    outputs, outputs2 = split.store.record.outputs, split2.store.record.outputs
    for number, number2 in _match_outputs(outputs, outputs2):
        first, second = split.outputs(number), split2.outputs(number2)
        values = compare_values(first, second, rows)
        yield ArraysCompared(
            name=outputs[number].name,
            name2=outputs2[number2].name,
            values=values.difference,
            agreement=values.agreement,
            predictions=share_of_same_predictions(first, second, rows),
        )


def _match_outputs(
    outputs: Sequence[ArrayRecord], outputs2: Sequence[ArrayRecord]
) -> list[tuple[int, int]]:
    """Match outputs of the same name, then those of the same shape in order."""
    names = {output.name: number for number, output in enumerate(outputs2)}
    pairs = {n: names[output.name] for n, output in enumerate(outputs) if output.name in names}
    for number, output in enumerate(outputs):
        alike = (n for n, output2 in enumerate(outputs2) if output2.shape == output.shape)
        other = next((n for n in alike if n not in pairs.values()), None)
        if number not in pairs and other is not None:
            pairs[number] = other
    return sorted(pairs.items())


def _compare_activations(split: Split, split2: Split, pair: Pair, rows: int) -> ComparedValues:
    for each, tensor in ((split, pair.first), (split2, pair.second)):
        if tensor.stored is None and tensor.output is None:
            return ComparedValues.missing(f"{each.path} holds statistics of {tensor.name!r} alone")
    first, second = split.activations(pair.first.name), split2.activations(pair.second.name)
    return compare_values(first, second, rows)


def _list_differences(
    splits: Mapping[str, SplitCompared], scores: Sequence[ScoreCompared], tolerance: float
) -> list[tuple[str, float | None, bool]]:
    """List relative differences: what differs, by how much, and whether that is too much."""
    sizes: list[tuple[str, float | None]] = []
    for name, split in splits.items():
        for tensor in split.tensors:
            sizes += [(f"{what} of {tensor.name}, {name}", size) for what, size in _sizes(tensor)]
        sizes += [(f"output {o.name}, {name}", o.values.max_relative) for o in split.outputs]
    sizes += [(score.name, score.relative) for score in scores]
    return [
        (
            f"{what}: {'undefined' if size is None else f'{size:.2g}'}",
            size,
            not _within(size, tolerance),
        )
        for what, size in sizes
    ]


def _sizes(tensor: TensorCompared) -> Iterator[tuple[str, float | None]]:
    """Yield the relative difference of each statistic, and that of values."""
    for statistic, difference in tensor.statistics.items():
        yield statistic, difference.max_relative
    values = tensor.activations
    if values.max_abs is not None or "finite" in (values.reason or ""):
        yield "values", values.max_relative


def _is_apart(tensor: TensorCompared, tolerance: float) -> bool:
    return not all(_within(size, tolerance) for _, size in _sizes(tensor))


def _within(size: float | None, tolerance: float) -> bool:
    return size is not None and size <= tolerance


def _structural_differences(
    match: Match,
    splits: Mapping[str, SplitCompared],
    empty: Sequence[str],
    first: Store,
    second: Store,
) -> Iterator[str]:
    """Yield what only one of the stores has; `empty` splits are not compared."""
    for names, where in ((match.left, "first"), (match.left2, "second")):
        if names:
            yield f"layers of the {where} store alone: {', '.join(names)}"
    for name, split in splits.items():
        if not split.outputs and (first.record.outputs or second.record.outputs):
            yield f"split {name}: no output could be matched"
        if split.rows != split.rows2:
            yield _rows_text(name, split.rows, split.rows2)
        if split.labels not in (None, 1.0):
            yield f"labels of {name}: {split.labels:.2%} are the same"
        if not split.tensors:
            yield f"split {name}: no tensor could be matched"
    for name in empty:
        rows, rows2 = len(first.splits[name]), len(second.splits[name])
        if rows != rows2:
            yield _rows_text(name, rows, rows2)


def _rows_text(split: str, rows: int, rows2: int) -> str:
    return f"split {split} has {count_text(rows, 'row')} and {rows2:,}"


def compare_scores(
    store: Store, store2: Store, splits: Sequence[str], convention: Convention
) -> tuple[list[ScoreCompared], str | None]:
    """Score both stores, and compare their scores; or return why there are none."""
    # Intervals and p-values are not compared.
    convention = convention.without_resamples(keep_overrides=False)
    try:
        results = [score_store(each, None, convention).result() for each in (store, store2)]
    except (DataError, MetricError) as error:
        return [], str(error)
    numbers, numbers2 = (dict(_list_scores(result, splits)) for result in results)
    return [
        ScoreCompared(name, value, value2, _relative_difference(value, value2, max(scale, scale2)))
        for (name, (value, scale)), (value2, scale2) in zip(
            numbers.items(), numbers2.values(), strict=True
        )
    ], None


def _list_scores(
    result: ScoreResult, splits: Sequence[str]
) -> Iterator[tuple[str, tuple[float | None, float]]]:
    """Yield each score with the least scale of its relative difference."""
    for name in splits:
        split = result.splits[name]
        where = f"splits.{name}"
        yield f"{where}.accuracy", (split.accuracy, 1.0)
        yield f"{where}.loss", (split.loss, 0.0)
        yield f"{where}.alpha.mean", (split.alpha.mean, 0.0)
        yield f"{where}.beta.mean", (split.beta.mean, split.beta.std or 0.0)
        yield f"{where}.cna", (split.cna.value, 1.0)
    if len(splits) < 2:
        return
    # A difference of accuracies is as large as they are.
    yield "gap", (result.gap.value, 1.0)
    yield "margin", (result.margin.value, 0.0)
    if result.convention.fields.area == "reference":
        return
    yield "cna_area", (result.cna_area.value, 0.0)
    yield "cna_margin", (result.cna_margin.value, 0.0)


def _relative_difference(first: float | None, second: float | None, least: float) -> float | None:
    if first is None or second is None:
        return 0.0 if first is second else None
    scale = max(abs(first), abs(second), least)
    return abs(first - second) / scale if scale else 0.0
