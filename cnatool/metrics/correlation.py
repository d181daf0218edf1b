"""CNA: the correlation of α and β over a split. METRICS.md, section "CNA"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import MetricError
from cnatool.metrics.estimate import Correlation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["is_constant", "pearson"]

_Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
_SAME = 1e-12  # values that differ by less, relative to the greatest, differ by rounding only


def pearson(a: ArrayLike, b: ArrayLike, names: tuple[str, str] = ("α", "β")) -> Correlation:
    """Return Pearson's correlation of `a` and `b` (paper eq. 2–3), with its 95 % interval.

    The interval is Fisher's: tanh(artanh r ± 1.96 / sqrt(n − 3)), for n of at least 4.

    Parameters
    ----------
    a, b : (n,) array
        One value a sample.
    names : (str, str)
        What to call `a` and `b` in a reason.

    Returns
    -------
    Correlation
        Undefined, with the reason, for fewer than two samples, where `a` or `b` is constant, and
        where either holds what is not a finite number.

    Raises
    ------
    MetricError
        Where `a` and `b` are not two vectors of one length.
    """
    columns = [np.asarray(values, np.float64) for values in (a, b)]
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise MetricError(
            f"A correlation needs two vectors of one length: {names[0]} has shape "
            f"{columns[0].shape}, {names[1]} {columns[1].shape}."
        )
    n = columns[0].size
    if n < 2:
        return Correlation.undefined(f"a correlation needs at least two samples, and there are {n}")
    for name, values in zip(names, columns, strict=True):
        broken = n - int(np.count_nonzero(np.isfinite(values)))
        if broken:
            return Correlation.undefined(f"{name} is not finite for {broken} of {n} samples")
    for name, values in zip(names, columns, strict=True):
        if is_constant(values):
            return Correlation.undefined(f"{name} is the same for all {n} samples")
    first, second = (_standardised(values) for values in columns)
    r = min(1.0, max(-1.0, float(first @ second)))
    return Correlation(r, _fisher_interval(r, n))


def is_constant(values: NDArray[np.float64]) -> bool:
    """Say whether finite values are all the same but for rounding."""
    greatest = np.abs(values).max()
    # Halved, so that values of opposite sign do not overflow.
    return bool(values.max() / 2 - values.min() / 2 <= _SAME / 2 * greatest)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre, and scale to length 1. Scaled before, so that no square over- or underflows."""
    centred: NDArray[np.float64] = values / np.abs(values).max()
    centred -= centred.mean()
    centred /= np.abs(centred).max()
    centred /= math.sqrt(centred @ centred)
    return centred


def _fisher_interval(r: float, n: int) -> tuple[float, float] | None:
    if n < 4:
        return None
    if abs(r) == 1:
        return r, r
    centre, half = math.atanh(r), _Z_95 / math.sqrt(n - 3)
    return math.tanh(centre - half), math.tanh(centre + half)
