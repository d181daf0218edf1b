"""Measures of the training and the test split together: gaps, CNA-A, margin, CNA-M."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool.metrics.area import area_between, sort_splits
from cnatool.metrics.area_resampling import (
    ResampledAreas,
    add_interval,
    chance_area,
    relabel_areas,
    resample_areas,
)
from cnatool.metrics.area_stretches import (
    WHOLE,
    cut_stretches,
    relabel_stretches,
    resample_stretches,
)
from cnatool.metrics.estimate import ChanceArea, Estimate, ResampledEstimate
from cnatool.metrics.margin import margin_estimate, resample_margins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.area import Curve
    from cnatool.metrics.convention import ConventionFields, Gap
    from cnatool.metrics.performance import OutputKind
    from cnatool.scoring.performance import Performance
    from cnatool.scoring.split import ScoredSplit

TRAIN, TEST = "train", "test"
UNNAMED = "all"  # the split of a store that was dumped without names


@dataclass(frozen=True, slots=True)
class TrainTestScores:
    """The measures of a result that need both splits, or the training split alone."""

    gaps: Mapping[Gap, Estimate]  # both forms of the generalisation gap
    area: ResampledEstimate  # CNA-A, γ and CNA-M
    margin: Estimate
    product: ResampledEstimate
    chance: ChanceArea  # CNA-A of splits that do not differ
    stretches: bool = False  # whether resamples are put together from stretches of a few


def score_train_test(
    splits: Mapping[str, ScoredSplit], fields: ConventionFields, observer: Observer
) -> TrainTestScores:
    """Compute the measures of the splits called train and test; undefined if one is missing."""
    train, test = splits.get(TRAIN), splits.get(TEST)
    margin = _margin(splits, fields)
    if train is None or test is None:
        missing = " or ".join(name for name in (TRAIN, TEST) if name not in splits)
        absent = Estimate.undefined(f"no split called {missing}")
        return TrainTestScores(
            gaps=dict.fromkeys(_GAPS, absent),
            area=_without_interval(absent),
            margin=margin,
            product=_without_interval(_product(margin, absent)),
            chance=ChanceArea.unknown(f"no split called {missing}"),
        )
    curves = _sort_curves(train, test, fields.window)
    if isinstance(curves, str):
        area, stretched = Estimate.undefined(curves), None
    else:
        form, window, points = fields.area, fields.window, fields.points
        area = area_between(*curves, form=form, window=window, points=points)
        stretched = _cut(curves, fields)
    del curves
    product = _product(margin, area)
    area_interval, product_interval = _add_intervals(
        train, test, area, product, fields, stretched, observer
    )
    return TrainTestScores(
        gaps={form: _gap(train, test, form) for form in _GAPS},
        area=area_interval,
        margin=margin,
        product=product_interval,
        chance=_chance(train, test, area, fields, stretched, observer),
        stretches=stretched is not None,
    )


def _sort_curves(train: ScoredSplit, test: ScoredSplit, window: int) -> tuple[Curve, Curve] | str:
    """Sort both splits by α, or return why they have no CNA-A."""
    for split in (train, test):
        if split.split_beta.rounding is None and split.split_beta.reason is not None:
            return split.split_beta.reason
    # Scaled to 0 … 1, a difference by rounding would look like any other.
    if train.split_beta.alike(test.split_beta):
        return "β is the same all over both splits but for rounding"
    return sort_splits(
        train.pair,
        test.pair,
        window,
        (train.ranked.order, test.ranked.order),
    )


class _Stretched(NamedTuple):
    """Both splits of many samples by rising α, and where stretches of α begin."""

    first: Curve
    second: Curve
    starts: NDArray[np.float64]


def _cut(curves: tuple[Curve, Curve], fields: ConventionFields) -> _Stretched | None:
    starts = cut_stretches(*curves, fields.area, fields.window) if fields.area_resamples else None
    return None if starts is None else _Stretched(*curves, starts)


def _gap(train: ScoredSplit, test: ScoredSplit, form: Gap) -> Estimate:
    mean, distance = _GAPS[form]
    first, second = mean(train.performance), mean(test.performance)
    if first is None or second is None:
        missing = [name for name, value in ((TRAIN, first), (TEST, second)) if value is None]
        without = (train if first is None else test).performance
        reason = without.reason or without.scores_reason
        return Estimate.undefined(f"{' and '.join(missing)}: {reason or f'no {form}'}")
    return Estimate(distance(first, second))


# Accuracies are subtracted as fractions and rounded once: equal gaps are the same float64 number,
# a tie for rank correlations.
_GAPS: Mapping[Gap, tuple[Callable[[Performance], Any], Callable[[Any, Any], float]]] = {
    "accuracy": (lambda measured: measured.accuracy(), lambda train, test: float(train - test)),
    "loss": (lambda measured: measured.loss(), lambda train, test: abs(train - test)),
}


def _margin(splits: Mapping[str, ScoredSplit], fields: ConventionFields) -> Estimate:
    split = splits.get(fields.margin_split)
    if split is None:
        return Estimate.undefined(f"no split called {fields.margin_split}")
    measured = split.performance
    if measured.margins is None or measured.kind is None:
        return Estimate.undefined(measured.margin_reason or "no outputs")
    return margin_estimate(measured.margins, measured.kind, fields)


def _product(margin: Estimate, area: Estimate) -> Estimate:
    if margin.value is None:
        return Estimate.undefined(f"the margin is undefined: {margin.reason}")
    if area.value is None:
        return Estimate.undefined(f"CNA-A is undefined: {area.reason}")
    return Estimate(margin.value * area.value)


def _without_interval(estimate: Estimate) -> ResampledEstimate:
    reason = None if estimate.value is None else "no resamples are drawn"
    return ResampledEstimate(estimate.value, interval_reason=reason, reason=estimate.reason)


def _add_intervals(
    train: ScoredSplit,
    test: ScoredSplit,
    area: Estimate,
    product: Estimate,
    fields: ConventionFields,
    stretched: _Stretched | None,
    observer: Observer,
) -> tuple[ResampledEstimate, ResampledEstimate]:
    """Resample both splits if there is an area."""
    if area.value is None or not fields.area_resamples:
        return _without_interval(area), _without_interval(product)
    of = {TRAIN: train, TEST: test}[fields.margin_split]
    measured = of.performance
    progress = partial(observer.progress, "interval of CNA-A")
    if stretched is None:
        values = resample_areas(
            train.pair,
            test.pair,
            form=fields.area,
            window=fields.window,
            points=fields.points,
            margins=np.empty((len(of.pair[0]), 0))
            if measured.margins is None
            else of.paired(measured.margins),
            margin=partial(_margin_value, measured.kind, fields),
            margin_of_second=of is test,
            resamples=fields.area_resamples,
            seed=fields.resample_seed,
            progress=progress,
        )
    else:
        areas = resample_stretches(
            *stretched,
            window=fields.window,
            resamples=fields.area_resamples,
            seed=fields.resample_seed,
            progress=progress,
        )
        margins = np.full_like(areas, np.nan)
        if product.value is not None and measured.margins is not None and measured.kind is not None:
            margins = resample_margins(measured.margins, measured.kind, fields, areas.size)
        values = ResampledAreas(areas, areas * margins)
    return (
        add_interval(area, values.area, fields.level, bounds=(0.0, 1.0)),
        _without_interval(product)
        if product.value is None
        else add_interval(
            product,
            values.area_and_margin,
            fields.level,
            bounds=_sign_bounds(values.area_and_margin),
        ),
    )


def _chance(
    train: ScoredSplit,
    test: ScoredSplit,
    area: Estimate,
    fields: ConventionFields,
    stretched: _Stretched | None,
    observer: Observer,
) -> ChanceArea:
    if area.value is None:
        return ChanceArea.unknown(f"CNA-A is undefined: {area.reason}")
    if not fields.area_resamples:
        return ChanceArea.unknown("no relabellings are drawn")
    progress = partial(observer.progress, "CNA-A by chance")
    if stretched is None:
        values = relabel_areas(
            train.pair,
            test.pair,
            form=fields.area,
            window=fields.window,
            points=fields.points,
            relabellings=fields.area_resamples,
            seed=fields.resample_seed,
            progress=progress,
        )
        return chance_area(area.value, values)
    values = relabel_stretches(
        *stretched,
        window=fields.window,
        relabellings=fields.area_resamples,
        seed=fields.resample_seed,
        progress=progress,
    )
    return chance_area(area.value, values, whole=WHOLE)


def _sign_bounds(products: NDArray[np.float64]) -> tuple[float, float]:
    """Bound an interval by 0 if all resamples have one sign, which is the margin's."""
    return -math.inf if (products < 0).any() else 0.0, math.inf if (products > 0).any() else 0.0


def _margin_value(
    kind: OutputKind | None, fields: ConventionFields, rows: NDArray[np.float64]
) -> float | None:
    return margin_estimate(rows, kind, fields).value if kind is not None and rows.size else None
