"""Conditional mutual information K between the orders of a measure and of a target.

It tells whether the order of two networks by a measure still informs about their order by the
target once their hyperparameters are known.

Source: Jiang, Neyshabur, Mobahi, Krishnan and Bengio, Fantastic Generalization Measures and Where
to Find Them, ICLR 2020, arXiv 1912.02178, "conditional independence test".
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CONDITIONS = 2
_ELEMENTS = 1 << 22
_ROUNDING = 1e-12


class ConditionalInformation(msgspec.Struct, frozen=True):
    """K, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        Least of I(V_μ; V_g | U_S) / H(V_g | U_S) over sets S of at most two hyperparameters, from
        0 to 1.
    given : tuple of str or None
        The set S at which it is least.
    unconditional : float or None
        The same quotient for the empty set.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    given: tuple[str, ...] | None = None
    unconditional: float | None = None
    reason: str | None = None


def normalised_information(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    levels: NDArray[np.intp],
    names: tuple[str, ...],
) -> ConditionalInformation:
    """Compute K = min over S of I(V_μ; V_g | U_S) / H(V_g | U_S), |S| ≤ 2 (Jiang et al. 2020)."""
    quotients: dict[tuple[str, ...], float] = {}
    for size in range(min(_MOST_CONDITIONS, len(names)) + 1):
        for columns in combinations(range(len(names)), size):
            information, entropy = conditional_information(
                measure, target, levels[:, list(columns)]
            )
            if entropy > 0:
                # Rounding must not make an information of 0 negative.
                quotients[tuple(names[c] for c in columns)] = max(0.0, information / entropy)
    if not quotients:
        return ConditionalInformation(None, reason="the target is the same for all networks")
    least = min(quotients, key=quotients.__getitem__)
    return ConditionalInformation(quotients[least], least, quotients.get(()))


def conditional_information(
    measure: NDArray[np.float64], target: NDArray[np.float64], conditions: NDArray[np.intp]
) -> tuple[float, float]:
    """Compute I(V_μ; V_g | U_S) and H(V_g | U_S), in nats, over all ordered pairs of networks.

    V_μ and V_g are the signs of the differences of the measure and of the target between the two
    networks of a pair; U_S holds the values of the hyperparameters S, `conditions`, (n, S), of
    both.
    """
    n = len(measure)
    if conditions.shape[1]:
        codes = np.unique(conditions, axis=0, return_inverse=True)[1].ravel()
    else:
        codes = np.zeros(n, np.intp)
    number = int(codes.max()) + 1
    information = entropy = 0.0
    # One value of the first network at a time, so that memory grows with n and not with n².
    for code in range(number):
        rows = np.flatnonzero(codes == code)
        counts = np.zeros(number * 9)
        step = max(1, _ELEMENTS // n)
        for start in range(0, len(rows), step):
            first = rows[start : start + step, None]
            symbols = (
                3 * (np.sign(measure[first] - measure) + 1) + np.sign(target[first] - target) + 1
            )
            keys = codes * 9 + symbols.astype(np.intp)
            counts += np.bincount(keys[first != np.arange(n)], minlength=number * 9)
        table = counts.reshape(number, 3, 3)
        information += _entropy_sum(table.sum(axis=2)) + _entropy_sum(table.sum(axis=1))
        information -= _entropy_sum(table.reshape(number, 9))
        information -= _entropy_sum(table.sum(axis=(1, 2))[:, None])
        entropy += _entropy_sum(table.sum(axis=1))
        entropy -= _entropy_sum(table.sum(axis=(1, 2))[:, None])
    pairs = n * (n - 1)
    entropy /= pairs
    return information / pairs, entropy if entropy > _ROUNDING else 0.0


def _entropy_sum(counts: NDArray[np.float64]) -> float:
    """Compute −Σ c ln c."""
    present = counts[counts > 0]
    return -float((present * np.log(present)).sum())
