"""How far apart the distributions of activations are in two sets of samples of one network."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.html import shown_by
from cnatool._util.observer import Silent
from cnatool._util.text import count_text
from cnatool.comparing.drift.frame import units_frame
from cnatool.comparing.drift.meaning import explain_numbers
from cnatool.comparing.drift.numbers import NumberDifferences, known
from cnatool.comparing.drift.results import (
    Comparisons,
    DriftResult,
    DriftSide,
    NumberDrift,
    TensorDrift,
    UnitsDrift,
)
from cnatool.comparing.drift.score_drift import compare_scores
from cnatool.comparing.drift.sides import select_sides
from cnatool.comparing.drift.tensor_means import compare_means
from cnatool.comparing.drift.tensor_units import compare_all_units
from cnatool.comparing.drift.unit_drift import UnitDifferences
from cnatool.errors import UsageError
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.metrics.drift import CORRECTIONS, adjust_p_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import polars
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.comparing.drift.score_drift import ScoreDrift
    from cnatool.comparing.drift.sides import TensorPair
    from cnatool.metrics.drift import Correction
    from cnatool.store.store import Split, Store

_NO_AXES: Mapping[str, int | str | None] = MappingProxyType({})


class Drift:
    """How far apart two sets of samples are in one network.

    Attributes
    ----------
    result : DriftResult
        Tensors in order of their drift, and α and β.
    """

    def __init__(self, result: DriftResult, units: polars.DataFrame) -> None:
        self.result = result
        self._units = units

    def __repr__(self) -> str:
        return repr(self.result)

    def frame(self) -> polars.DataFrame:
        """Return a table with one row per unit, with tensors in execution order.

        Columns are ``tensor``, ``layer``, ``unit` (from 0). Over all its values, in the reference
        and in the other set (names ending in 2), there are `count` (of finite values),
        `nonfinite``, ``mean` and `std`; then the standardised difference `smd` and the
        Kolmogorov–Smirnov distance, which lies between `ks` and `ks_high`. Over means across the
        positions of a sample, there are `samples``, ``smd_samples``, ``tested` (how many were
        tested), their distance `ks_samples``, ``p_value` and `p_adjusted`. Undefined numbers are
        null.
        """
        return self._units

    _repr_html_ = shown_by("cnatool.comparing.drift.html", "found_html")


def drift(
    store: str | Path | Store,
    store2: str | Path | Store | None = None,
    *,
    splits: str | Sequence[str] = (),
    tensors: str | Iterable[str] = (),
    axes: Mapping[str, int | str | None] = _NO_AXES,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    level: float = 0.05,
    correction: str = "benjamini-hochberg",
    inputs: str | Path | Iterable[str | Path] = (),
    observer: Observer | None = None,
) -> Drift:
    """Compare the distributions of activations in two splits, or in two stores of one model.

    Unlike in `cnatool.compare`, samples need not correspond. For each unit, the Kolmogorov–Smirnov
    distance and the standardised difference of all its values show how large a drift is. Whether
    chance alone could explain it is tested on one number per sample, the unit's mean over the
    positions, because the values of one sample are not independent.

    Parameters
    ----------
    store : str, Path or Store
        The store of the reference.
    store2 : str, Path or Store, optional
        A store of other samples of the same model; by default both splits are in ``store``.
    splits : str or sequence of str
        The reference split and the other split; a single name means the split of that name in both
        stores. By default the only two splits of one store, or the only split of each of two
        stores.
    tensors : str or iterable of str
        Names or globs of tensors; a leading ``!`` excludes them. By default hidden layers and
        outputs, or all tensors of a store without layers.
    axes : mapping of str to int or "element"
        By name or glob of tensors, the axis of one sample's shape that the units lie along, as in
        `cnatool.units`.
    convention, overrides
        Of α and β, as in `cnatool.score`.
    level : float
        Significance level that adjusted p-values are compared with.
    correction : {"benjamini-hochberg", "benjamini-yekutieli", "bonferroni"}
        How p-values are adjusted for the number of comparisons.
    inputs : str, Path or iterable of these
        Stores that contain the raw inputs of other stores, if they have moved since those were
        dumped.
    observer : Observer, optional
        Receives notes and progress.

    Returns
    -------
    Drift
        Results for tensors are in ``result``, those for units in ``frame()``.

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If there is no store, or it is broken.
    MetricError
        If a split does not exist or has no rows, or the stores are of different models.
    UsageError
        If it is not clear which two splits are meant, no such tensor is stored, or the level, the
        correction, the convention or a field does not exist.
    """
    if not 0 < level < 1:
        raise UsageError(f"`level={level}`: must be between 0 and 1.")
    named = Convention.named(convention, overrides)
    chosen = _find_correction(correction)
    observer = observer or Silent()
    names = [splits] if isinstance(splits, str) else list(splits)
    sides = select_sides(store, store2, names, tensors, axes, inputs)
    means = compare_means(sides)
    units = compare_all_units(sides, observer)
    scores = compare_scores(sides, named.fields, observer)
    adjust = partial(_adjust, correction=chosen)
    adjusted_units = adjust(
        [each.samples.p for each in units.values() if isinstance(each, UnitDifferences)]
    )
    (adjusted_means,) = adjust([means.p])
    adjusted_scores = adjust([each.p for each in scores if isinstance(each, NumberDifferences)])
    of_units = iter(adjusted_units)
    adjusted = {
        name: next(of_units) for name, each in units.items() if isinstance(each, UnitDifferences)
    }
    described = [
        _describe_tensor(
            pair,
            means.describe(number, adjusted_means[number]),
            units[pair.first.name],
            adjusted.get(pair.first.name, np.empty(0)),
            level,
        )
        for number, pair in enumerate(sides.pairs)
    ]
    by_units = all(tensor.units is not None for tensor in described)
    of_scores = iter(adjusted_scores)
    alpha, beta = (_describe_score(score, of_scores) for score in scores)
    families = [_count(each, level) for each in (adjusted_units, [adjusted_means], adjusted_scores)]
    result = DriftResult(
        schema="cnatool.drift/1",
        reference=_describe_side(sides.first),
        other=_describe_side(sides.second),
        level=level,
        correction=chosen,
        units=families[0],
        tensors=families[1],
        scores=families[2],
        ordered_by="units" if by_units else "means",
        drift=tuple(sorted(described, key=partial(_order, by_units=by_units))),
        alpha=alpha,
        beta=beta,
        convention=named,
        meaning_notes=tuple(explain_numbers(families[0], families[1], chosen, level)),
        notes=(*sides.notes(), *_note_tensors(described, units)),
    )
    frame = units_frame(
        (pair.first.name, pair.layer, each, adjusted[pair.first.name])
        for pair in sides.pairs
        if isinstance(each := units[pair.first.name], UnitDifferences)
    )
    return Drift(result, frame)


def _find_correction(name: str) -> Correction:
    """Return the correction of a name; UsageError if there is none."""
    for each in CORRECTIONS:
        if each == name:
            return each
    raise UsageError(f"`correction={name!r}`: there are {', '.join(CORRECTIONS)}.")


def _adjust(
    families: list[NDArray[np.float64]], correction: Correction
) -> list[NDArray[np.float64]]:
    """Adjust the p-values of several arrays together."""
    if not families:
        return []
    adjusted = adjust_p_values(np.concatenate(families), correction)
    return np.split(adjusted, np.cumsum([len(each) for each in families])[:-1])


def _count(adjusted: list[NDArray[np.float64]], level: float) -> Comparisons:
    return Comparisons(
        comparisons=sum(int((~np.isnan(each)).sum()) for each in adjusted),
        drifting=sum(int((each <= level).sum()) for each in adjusted),
    )


def _describe_side(split: Split) -> DriftSide:
    return DriftSide(str(split.path), split.name, len(split))


def _describe_score(score: ScoreDrift, adjusted: Iterable[NDArray[np.float64]]) -> NumberDrift:
    if isinstance(score, str):
        nothing = (None,) * 6
        return NumberDrift(0, 0, *nothing, 0, 0, None, None, score)
    return score.describe(0, next(iter(adjusted))[0])


def _describe_tensor(
    pair: TensorPair,
    means: NumberDrift,
    units: UnitDifferences | str,
    adjusted: NDArray[np.float64],
    level: float,
) -> TensorDrift:
    tensor = pair.first
    described = None if isinstance(units, str) else _describe_units(pair, units, adjusted, level)
    return TensorDrift(
        name=tensor.name,
        operator=tensor.operator,
        layer=pair.layer,
        shape=tensor.shape,
        means=means,
        units=described,
        units_reason=units if isinstance(units, str) else None,
    )


def _describe_units(
    pair: TensorPair, units: UnitDifferences, adjusted: NDArray[np.float64], level: float
) -> UnitsDrift:
    defined = np.flatnonzero(~np.isnan(units.ks))
    farthest = int(defined[units.ks[defined].argmax()]) if len(defined) else None
    tested = int((~np.isnan(adjusted)).sum())
    untested = np.flatnonzero(np.isnan(adjusted))
    return UnitsDrift(
        units=len(adjusted),
        unit_axis=pair.axis,
        ks_mean=_mean(units.ks),
        ks_high_mean=_mean(units.ks_high),
        ks_max=None if farthest is None else known(units.ks[farthest]),
        farthest=farthest,
        smd_mean=_mean(np.abs(units.smd)),
        comparisons=tested,
        drifting=int((adjusted <= level).sum()),
        reason=None if not len(untested) else units.samples.reason(int(untested[0])),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return known(defined.mean()) if len(defined) else None


def _order(tensor: TensorDrift, by_units: bool) -> float:
    distance = tensor.units.ks_mean if by_units and tensor.units else tensor.means.ks
    return np.inf if distance is None else -distance


def _note_tensors(
    described: Sequence[TensorDrift], units: Mapping[str, UnitDifferences | str]
) -> Iterable[str]:
    """Yield what tensors lack, and values that distances leave out."""
    without = [tensor for tensor in described if tensor.units is None]
    if without:
        yield (
            f"{count_text(len(without), 'tensor')} without units, first {without[0].name!r}: "
            f"{without[0].units_reason}"
        )
    for name, each in units.items():
        if isinstance(each, UnitDifferences):
            first, second = int(each.nonfinite.sum()), int(each.nonfinite2.sum())
            if first or second:
                yield (
                    f"{name}: {count_text(first, 'value')} of the reference and {second:,} of the "
                    "other set are not finite, and left out of all distances"
                )
            if rounded := int(each.rounded.sum()):
                yield (
                    f"{name}: the sets differ by no more than rounding can cause in "
                    f"{count_text(rounded, 'unit')}, where KS or that of means counts as 0"
                )
