"""The scores of two stores, side by side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from cnatool.comparison_results import ScoreCompared
from cnatool.errors import DataError, MetricError
from cnatool.scoring import score_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.results import ScoreResult
    from cnatool.store.reader import Store

__all__ = ["compared_scores"]


def compared_scores(
    store: Store,
    store2: Store,
    splits: Sequence[str],
    convention: str,
    overrides: Mapping[str, object],
) -> tuple[list[ScoreCompared], str | None]:
    """Score both stores; give the scores, or why there are none.

    Parameters
    ----------
    store, store2 : Store
    splits : sequence of str
        Those that are compared; scores between splits are left out where one is missing.
    convention, overrides
        As of `cnatool.score`.
    """
    try:
        results = [_result(each, convention, overrides) for each in (store, store2)]
    except (DataError, MetricError) as error:
        return [], str(error)
    numbers, numbers2 = (dict(_scores(result, splits)) for result in results)
    return [
        ScoreCompared(name, value, value2, _relative(value, value2, max(scale, scale2)))
        for (name, (value, scale)), (value2, scale2) in zip(
            numbers.items(), numbers2.values(), strict=True
        )
    ], None


def _result(store: Store, convention: str, overrides: Mapping[str, object]) -> ScoreResult:
    """Score a store without intervals and p-values, which are not compared."""
    scored = score_all(store, convention=convention, overrides=overrides)
    fields = msgspec.structs.replace(
        scored.convention, resamples=0, area_resamples=0, permutations=0
    )
    return dataclasses.replace(scored, convention=fields).result()


def _scores(
    result: ScoreResult, splits: Sequence[str]
) -> Iterator[tuple[str, tuple[float | None, float]]]:
    """Give each score with the least size that a difference is a share of."""
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


def _relative(one: float | None, two: float | None, least: float) -> float | None:
    if one is None or two is None:
        return 0.0 if one is two else None
    scale = max(abs(one), abs(two), least)
    return abs(one - two) / scale if scale else 0.0
