"""Robust sign error: how often a measure orders two networks wrongly, in the worst environments.

An environment is two configurations that differ in one hyperparameter; its pairs are all networks
of one with all of the other.

Source: Dziugaite, Drouin, Neal, Rajkumar, Caballero, Wang, Mitliagkas and Roy, In Search of Robust
Measures of Generalization, NeurIPS 2020, arXiv 2010.11924.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.studying.statistics.granulated import CoupledPairs

_LEAST_WEIGHT = 0.5
_PERCENTILE = 90


class SignError(msgspec.Struct, frozen=True):
    """The sign error over environments, or the reason why there is none.

    A measure that rises with the target in every pair has 0, one that falls with it 1, chance ½.

    Attributes
    ----------
    mean, percentile_90, max : float or None
        Over the environments, each in both directions.
    environments : int
        Environments with enough pairs, each in both directions.
    left_out : int
        Environments with too few, each in both directions.
    reason : str or None
        Why there are no numbers; None where there are.
    """

    mean: float | None
    percentile_90: float | None
    max: float | None
    environments: int
    left_out: int
    reason: str | None = None


def hoeffding_weight(difference: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """Compute the confidence that two accuracies, or gaps, differ as measured, from 0 to 1.

    max(0, 1 − 2 exp(−2 n (Δ/2)²))² for n samples, by Hoeffding's inequality for each of the two
    (Dziugaite et al. 2020).
    """
    phi = 2 * np.exp(-2 * samples * (difference / 2) ** 2)
    weight: NDArray[np.float64] = np.maximum(0, 1 - phi) ** 2
    return weight


def sign_errors(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    levels: NDArray[np.intp],
    axes: Mapping[str, CoupledPairs],
    *,
    samples: int | None,
    least_pairs: float,
) -> dict[str | None, SignError]:
    """Compute the sign error over all environments, under None, and over those of each axis.

    The sign error of a pair is (1 − sgn Δmeasure · sgn Δtarget) / 2; that of an environment is
    the mean over its pairs, each with weight max(0, w − ½), w the `hoeffding_weight`. An
    environment counts where its effective number of pairs, (Σ weight)² / Σ weight², is at least
    `least_pairs`.
    """
    losses: dict[str | None, NDArray[np.float64]] = {}
    left_out: dict[str | None, int] = {}
    hyperparameters = levels[:, : len(axes)]
    configurations = np.unique(hyperparameters, axis=0, return_inverse=True)[1].ravel()
    for name, pairs in axes.items():
        losses[name], left_out[name] = _environment_losses(
            measure, target, configurations, pairs, samples, least_pairs
        )
    losses[None] = np.concatenate([np.empty(0), *losses.values()])
    left_out[None] = sum(left_out.values())
    return {name: _summarise(losses[name], left_out[name], least_pairs) for name in (None, *axes)}


def _environment_losses(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    configurations: NDArray[np.intp],
    pairs: CoupledPairs,
    samples: int | None,
    least_pairs: float,
) -> tuple[NDArray[np.float64], int]:
    """Return the sign error of each environment of an axis, and how many have too few pairs."""
    if not len(pairs):
        return np.empty(0), 0
    gap = target[pairs.first] - target[pairs.second]
    error = (1 - np.sign(measure[pairs.first] - measure[pairs.second]) * np.sign(gap)) / 2
    if samples is None:
        weight = np.ones(len(gap))
    else:
        weight = np.maximum(0, hoeffding_weight(gap, samples) - _LEAST_WEIGHT)
    low, high = np.sort([configurations[pairs.first], configurations[pairs.second]], axis=0)
    number = int(configurations.max()) + 1
    environments = np.unique(low * number + high, return_inverse=True)[1]
    total, squares, wrong = (
        np.bincount(environments, weights) for weights in (weight, weight**2, weight * error)
    )
    with np.errstate(invalid="ignore"):
        effective = np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1), 0)
    enough = (total > 0) & ((effective > least_pairs) | np.isclose(effective, least_pairs))
    return wrong[enough] / total[enough], int(np.count_nonzero(~enough))


def _summarise(losses: NDArray[np.float64], left_out: int, least_pairs: float) -> SignError:
    if not losses.size:
        reason = (
            f"none of {2 * left_out} environments has {least_pairs:g} effective pairs of networks"
            if left_out
            else "no two networks differ in one hyperparameter alone"
        )
        return SignError(None, None, None, 0, 2 * left_out, reason)
    # Each in both directions, as in the paper; this moves the percentile a little.
    both = np.repeat(losses, 2)
    return SignError(
        float(both.mean()),
        float(np.percentile(both, _PERCENTILE)),
        float(both.max()),
        len(both),
        2 * left_out,
    )
