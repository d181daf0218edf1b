"""Correlation coefficients of α and β over a split, with Fisher's interval (docs/metrics.md)."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import MetricError
from cnatool.metrics.estimate import Correlation, MinibatchCna
from cnatool.metrics.kendall_resampling import kendall_tau
from cnatool.metrics.ranks import dense_ranks, share_ranks
from cnatool.metrics.smoothing import smooth_curve
from cnatool.metrics.sums import inner_product

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cnatool.metrics.convention import CnaOrder
    from cnatool.metrics.ranks import RankedPair

_NAMES = ("α", "β")
_POINTS = 10  # of a smoothed curve
_BLOCK = 1 << 16  # values of minibatches that are correlated at a time
# Sums of the same numbers in another order are this many units in the last place apart at most.
ROUNDING_UNITS = 64


def pearson(
    a: ArrayLike, b: ArrayLike, names: tuple[str, str] = _NAMES, *, level: float = 0.95
) -> Correlation:
    """Return Pearson's correlation of `a` and `b` (paper eq. 2–3), with its interval.

    The interval is Fisher's: tanh(artanh r ± z / sqrt(n − 3)), for n of at least 4. `names` are
    those of `a` and `b` in a reason.

    Undefined, with the reason, for fewer than two samples, where `a` or `b` is constant, and where
    either holds a number that is not finite. Raises `MetricError` unless both are vectors of one
    length.
    """
    columns = _check_columns(a, b, names)
    if isinstance(columns, str):
        return Correlation.undefined(columns)
    r = _product_moment(*map(standardise, columns))
    return Correlation(r, _fisher(r, len(columns[0]), level, spread=1.0, lost=3))


def spearman(
    a: ArrayLike,
    b: ArrayLike,
    names: tuple[str, str] = _NAMES,
    *,
    level: float = 0.95,
    ranked: RankedPair | None = None,
) -> Correlation:
    """Return Spearman's ρ: Pearson's correlation of the ranks, equal values sharing their mean.

    Parameters, reasons and errors are those of `pearson`. The interval is Fisher's with the
    variance (1 + ρ²/2) / (n − 3) (Bonett & Wright 2000). `ranked` is the `rank_pair` of `a` and
    `b`, where that is known.
    """
    columns = _check_columns(a, b, names)
    if isinstance(columns, str):
        return Correlation.undefined(columns)
    dense = map(dense_ranks, columns) if ranked is None else ranked[:2]
    rho = _product_moment(*(standardise(share_ranks(each)) for each in dense))
    spread = math.sqrt(1 + rho * rho / 2)
    return Correlation(rho, _fisher(rho, len(columns[0]), level, spread=spread, lost=3))


def kendall(
    a: ArrayLike,
    b: ArrayLike,
    names: tuple[str, str] = _NAMES,
    *,
    level: float = 0.95,
    ranked: RankedPair | None = None,
) -> Correlation:
    """Return Kendall's τ-b.

    τ-b = (C − D) / sqrt(P_a P_b), with C concordant and D discordant pairs of samples, and P_a, P_b
    the pairs that differ in `a` and in `b`. Parameters, reasons and errors are those of `spearman`.
    The interval is Fisher's with the variance 0.437 / (n − 4) (Fieller, Hartley & Pearson 1957).
    """
    columns = _check_columns(a, b, names)
    if isinstance(columns, str):
        return Correlation.undefined(columns)
    n = columns[0].size
    tau = kendall_tau(*columns, ranked)
    return Correlation(tau, _fisher(tau, n, level, spread=math.sqrt(0.437), lost=4))


def smoothed_pearson(
    alpha: ArrayLike,
    beta: ArrayLike,
    *,
    window: int,
    ranked: RankedPair | None = None,
) -> Correlation:
    """Return Pearson's correlation of the smoothed curves: running means, by rising α.

    Without an interval, as the points of a smoothed curve are not independent. Undefined as
    `pearson` is, and for a curve of fewer than 10 points: two would always lie on a line. `ranked`
    is as in `spearman`.
    """
    columns = _check_columns(alpha, beta, _NAMES)
    if isinstance(columns, str):
        return Correlation.undefined(columns)
    n = columns[0].size
    if n - window + 1 < _POINTS:
        few = f"{n} sample{'' if n == 1 else 's'} are too few for a curve by windows of {window}"
        return Correlation.undefined(f"{few}: it needs {window + _POINTS - 1}")
    with np.errstate(over="ignore", invalid="ignore"):
        curve = smooth_curve(*columns, window, ranked)
    for name, values in zip(_NAMES, curve, strict=True):
        if not np.isfinite(values).all():
            return Correlation.undefined(f"{name} is too large for float64")
        if is_constant(values):
            return Correlation.undefined(f"{name} is the same all along the smoothed curve")
    return Correlation(_product_moment(*map(standardise, curve)))


def minibatch_pearson(
    alpha: ArrayLike, beta: ArrayLike, *, rows: int, order: CnaOrder = "rows", seed: int = 0
) -> MinibatchCna:
    """Return mean and deviation of Pearson's correlation over minibatches.

    Minibatches are of neighbouring rows, or of rows in a random order; a shorter one at the end is
    left out. Undefined, with the reason, where no minibatch has a correlation.
    """
    columns = _check_columns(alpha, beta, _NAMES)
    if isinstance(columns, str):
        return MinibatchCna(None, None, 0, 0, columns)
    count = columns[0].size // rows
    if not count:
        reason = f"{count_text(columns[0].size, 'sample')} do not fill a minibatch of {rows}"
        return MinibatchCna(None, None, 0, 0, reason)
    n = columns[0].size
    permutation = np.random.default_rng([seed, n]).permutation(n) if order == "random" else None
    step = max(1, _BLOCK // rows)
    r = np.concatenate(
        [
            _correlations(columns, permutation, start, min(start + step, count), rows)
            for start in range(0, count, step)
        ]
    )
    undefined = count - len(r)
    if undefined == count:
        return MinibatchCna(None, None, 0, count, "α or β is the same all through each minibatch")
    if len(r) == 1:
        return MinibatchCna(float(r[0]), None, 1, undefined, "one minibatch has no deviation")
    return MinibatchCna(float(r.mean()), float(r.std()), len(r), undefined)


def _correlations(
    columns: tuple[NDArray[np.float64], NDArray[np.float64]],
    permutation: NDArray[np.int64] | None,
    start: int,
    stop: int,
    rows: int,
) -> NDArray[np.float64]:
    """Return Pearson's correlation of a range of minibatches, without those that have none."""
    part = slice(start * rows, stop * rows)
    batches = [
        (values[part] if permutation is None else values[permutation[part]]).reshape(
            stop - start, rows
        )
        for values in columns
    ]
    defined = np.all([~is_constant(batch) for batch in batches], axis=0)
    first, second = (standardise(batch[defined]) for batch in batches)
    r: NDArray[np.float64] = (first * second).sum(axis=1)
    return r


def is_constant(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the finite values of each row, (…, n), are the same but for rounding.

    Rounding is measured by the spacing of floating-point numbers at the greatest value, never by a
    share of it: values that differ by 1e-13 of their size are not the same.
    """
    same: NDArray[np.bool_] = are_equal(values.min(axis=-1), values.max(axis=-1))
    return same


def are_equal(low: Any, high: Any) -> Any:
    """Whether values are constant, as `is_constant`, from their minimum and maximum."""
    # Halved, so that values of opposite sign do not overflow.
    unit = np.spacing(np.maximum(abs(low), abs(high)) / 2)
    return high / 2 - low / 2 <= ROUNDING_UNITS * unit


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre each row of (…, n) values, and scale it to length 1; no row is constant.

    Scaled by a power of two before, so that no square over- or underflows and no digit is lost.
    """
    _, exponents = np.frexp(_greatest_size(values))
    centred: NDArray[np.float64] = np.ldexp(values, -exponents)
    centred -= centred.mean(axis=-1, keepdims=True)
    # Once more: the mean of values that differ by little is rounded to about their differences.
    centred -= centred.mean(axis=-1, keepdims=True)
    centred /= _greatest_size(centred)
    centred /= np.sqrt((centred * centred).sum(axis=-1, keepdims=True))
    return centred


def _greatest_size(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maximum absolute value of each row."""
    greatest: NDArray[np.float64] = np.maximum(
        values.max(axis=-1, keepdims=True), -values.min(axis=-1, keepdims=True)
    )
    return greatest


def _check_columns(
    a: ArrayLike, b: ArrayLike, names: tuple[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | str:
    """Return both as float64, or the reason why they have no correlation."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise MetricError(
            f"A correlation needs two vectors of one length: {names[0]} has shape "
            f"{first.shape}, {names[1]} {second.shape}."
        )
    n = first.size
    if n < 2:
        return f"a correlation needs at least two samples, and there are {n}"
    for name, values in zip(names, (first, second), strict=True):
        broken = n - int(np.count_nonzero(np.isfinite(values)))
        if broken:
            return f"{name} is not finite for {broken:,} of {count_text(n, 'sample')}"
    for name, values in zip(names, (first, second), strict=True):
        if is_constant(values):
            return f"{name} is the same for all {count_text(n, 'sample')}"
    return first, second


def _product_moment(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of standardised values."""
    return min(1.0, max(-1.0, inner_product(a, b)))


def _fisher(
    r: float, n: int, level: float, *, spread: float, lost: int
) -> tuple[float, float] | None:
    """Return Fisher's interval tanh(artanh r ± z · spread / sqrt(n − lost))."""
    if n <= lost:
        return None
    if abs(r) == 1:
        return r, r
    centre = math.atanh(r)
    half = NormalDist().inv_cdf((1 + level) / 2) * spread / math.sqrt(n - lost)
    return math.tanh(centre - half), math.tanh(centre + half)
