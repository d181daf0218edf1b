"""Quadratic fit, and bins of networks by test accuracy (paper Fig. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool.metrics.correlation import is_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

BIN = 25  # networks
# Networks that do not fill two bins are divided into this many smaller ones.
_SMALL_BINS = 5
_TERMS = 3


class QuadraticFit(msgspec.Struct, frozen=True):
    """The least-squares parabola of a target over a measure, or the reason why there is none.

    Attributes
    ----------
    coefficients : (float, float, float) or None
        c0, c1, c2 of target = c0 + c1 · measure + c2 · measure².
    r_squared : float or None
        Share of the target's variance that the fit explains.
    reason : str or None
        Why there is no fit; None where there is one.
    """

    coefficients: tuple[float, float, float] | None
    r_squared: float | None
    reason: str | None = None


def quadratic_fit(measure: NDArray[np.float64], target: NDArray[np.float64]) -> QuadraticFit:
    """Fit target = c0 + c1 · measure + c2 · measure²."""
    distinct = len(np.unique(measure))
    if len(measure) <= _TERMS or distinct < _TERMS:
        return QuadraticFit(
            None,
            None,
            f"a parabola needs more than {_TERMS} networks and {_TERMS} different values, and "
            f"there are {len(measure)} and {distinct}",
        )
    if is_constant(measure) or is_constant(target):
        return QuadraticFit(None, None, "the measure or the target does not vary")
    fit = np.polynomial.Polynomial.fit(measure, target, deg=2)
    terms = fit.convert().coef
    coefficients = np.zeros(_TERMS)
    coefficients[: len(terms)] = terms
    if not np.isfinite(coefficients).all():
        return QuadraticFit(None, None, "the values are too large for a parabola")
    residual = float(((target - fit(measure)) ** 2).sum())
    total = float(((target - target.mean()) ** 2).sum())
    c0, c1, c2 = map(float, coefficients)
    return QuadraticFit((c0, c1, c2), 1 - residual / total)


def evaluate_fit(
    fit: QuadraticFit, low: float, high: float, points: int = 60
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate a fit at points between two values of the measure; none if there is no fit."""
    if fit.coefficients is None:
        return np.empty(0), np.empty(0)
    measure = np.linspace(low, high, points)
    c0, c1, c2 = fit.coefficients
    return measure, c0 + measure * (c1 + measure * c2)


def bin_size(networks: int) -> int:
    """Return the size of bins: 25 as in the paper, or a fifth of fewer than 50 networks."""
    return BIN if networks >= 2 * BIN else max(1, -(-networks // _SMALL_BINS))


def split_into_bins(order: NDArray[np.float64], size: int = BIN) -> list[NDArray[np.intp]]:
    """Return the indices of each bin, by rising `order`; equal values keep their order."""
    ordered = np.argsort(order, kind="stable")
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
