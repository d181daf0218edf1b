"""Baselines from norms of weights and a margin, in logarithms: products of norms overflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cnatool.metrics.estimate import Estimate


class Baseline(msgspec.Struct, frozen=True):
    """One baseline, by itself and as its logarithm.

    Attributes
    ----------
    value : float or None
        Always finite; None where the measure is undefined or larger than a number can be.
    log : float or None
        Natural logarithm; None where the measure is undefined or zero.
    reason : str or None
        Why one of them is missing; None where both are there.
    log_norm : float or None
        Of a quotient by γ, the natural logarithm of what is divided, whatever γ is; None where
        that is undefined or zero, and for what is no quotient.
    """

    value: float | None
    log: float | None
    reason: str | None = None
    log_norm: float | None = None

    @classmethod
    def undefined(cls, reason: str) -> Baseline:
        """Return a baseline without value and logarithm, for this reason."""
        return cls(None, None, reason)


def from_log(log: float) -> Baseline:
    """Return the measure of this logarithm, −inf for zero."""
    if log == -math.inf:
        return Baseline(0.0, None, "it is 0, which has no logarithm")
    if not math.isfinite(log):
        return Baseline.undefined("the norms are not finite")
    try:
        value = math.exp(log)
    except OverflowError:
        return Baseline(None, log, "it is too large for float64; its logarithm is given")
    return Baseline(value, log)


def plain(value: float) -> Baseline:
    """Return a measure that is no product, from its value of at least 0."""
    if not math.isfinite(value):
        return Baseline.undefined("the norms are not finite")
    return Baseline(value, math.log(value)) if value else from_log(-math.inf)


def norm_product(norms: ArrayLike) -> float:
    """Return log ∏_l ‖W_l‖ of L norms."""
    with np.errstate(divide="ignore"):
        return float(np.log(np.asarray(norms, np.float64)).sum())


def spectral_bound(
    spectral: ArrayLike, distances: ArrayLike, units: ArrayLike, samples: int
) -> float:
    """Return the logarithm of the bound of Neyshabur et al. 2018, before division by γ.

    d · ∏_l σ_l · sqrt(Σ_l h_l ‖W_l − W_l⁰‖² / σ_l²) / √m, with d the number of layers, σ_l > 0 the
    largest singular values `spectral`, Frobenius `distances`, h_l the output `units`, and m
    `samples`.
    """
    with np.errstate(divide="ignore"):
        sigma = np.log(np.asarray(spectral, np.float64))
        distance = np.log(np.asarray(distances, np.float64))
        terms = np.log(np.asarray(units, np.float64)) + 2 * (distance - sigma)
    total = float(np.logaddexp.reduce(terms))
    return math.log(len(sigma)) + float(sigma.sum()) + 0.5 * total - 0.5 * math.log(samples)


def divide_by_margin(log: float, margin: Estimate) -> Baseline:
    """Divide a measure, given by its logarithm (−inf for zero), by γ of the training split.

    Undefined, with the reason, where γ is undefined or not positive; `log_norm` is given all the
    same.
    """
    quotient = _quotient(log, margin)
    return msgspec.structs.replace(quotient, log_norm=log if math.isfinite(log) else None)


def _quotient(log: float, margin: Estimate) -> Baseline:
    if margin.value is None:
        return Baseline.undefined(f"the margin is undefined: {margin.reason}")
    if margin.value <= 0:
        return Baseline.undefined(f"the margin is {margin.value:g}, and a divisor must be above 0")
    return from_log(log - math.log(margin.value))


def root_sum_of_squares(norms: ArrayLike) -> float:
    """Return the Frobenius norm of several matrices together, from that of each."""
    return math.hypot(*np.asarray(norms, np.float64).tolist())
