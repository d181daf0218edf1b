"""Granulated Kendall Ψ (Jiang et al. 2019): rank agreement, one hyperparameter at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CoupledPairs", "coupled_pairs", "granulated_kendall"]


_ELEMENTS = 1 << 22  # of a block of pairs


@dataclass(frozen=True, slots=True)
class CoupledPairs:
    """The pairs of networks that differ in one hyperparameter and agree in all others.

    Attributes
    ----------
    first, second : (P,) array of int
        The networks of each pair.
    starts : (C,) array of int
        Where the pairs of each cell begin: a cell is one choice of all other hyperparameters.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    starts: NDArray[np.intp]


def coupled_pairs(levels: NDArray[np.intp], axis: int) -> CoupledPairs:
    """Find the pairs of networks that differ in hyperparameter `axis` alone.

    Parameters
    ----------
    levels : (n, H) array of int
        The value of each hyperparameter of each network, as a number from 0 on.
    axis : int
        A column of `levels`.
    """
    others = np.delete(levels, axis, axis=1)
    if others.shape[1]:
        cells = np.unique(others, axis=0, return_inverse=True)[1].ravel()
    else:
        cells = np.zeros(len(levels), np.intp)
    order = np.argsort(cells, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)
    found: list[NDArray[np.intp]] = []
    for cell in members:
        one, other = np.triu_indices(len(cell), k=1)
        pairs = np.stack([cell[one], cell[other]])
        pairs = pairs[:, levels[pairs[0], axis] != levels[pairs[1], axis]]
        if pairs.shape[1]:
            found.append(pairs)
    if not found:
        nothing = np.empty(0, np.intp)
        return CoupledPairs(nothing, nothing, nothing)
    sizes = [pairs.shape[1] for pairs in found]
    first, second = np.concatenate(found, axis=1)
    return CoupledPairs(first, second, np.cumsum([0, *sizes[:-1]]))


def granulated_kendall(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    axes: Sequence[CoupledPairs],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Ψ and its parts ψ_i under each weighting of the networks.

    ψ_i is the mean over the cells of axis i of Kendall's τ-a, taken over the pairs that differ in
    hyperparameter i. Networks that agree in all hyperparameters, such as other seeds, make no pair
    with each other. Ψ is the mean of the ψ_i that are defined.

    Parameters
    ----------
    measure, target : (n,) float64 array
        One finite value a network.
    axes : sequence of CoupledPairs
        One a hyperparameter.
    weights : (B, n) float64 array
        How often each network counts.

    Returns
    -------
    (B,) float64 array
        Ψ; NaN where no axis has a pair.
    (B, H) float64 array
        ψ_i; NaN where the axis has no pair.
    """
    parts = np.full((len(weights), len(axes)), np.nan)
    for number, pairs in enumerate(axes):
        if not pairs.starts.size:
            continue
        signs = np.sign(measure[pairs.first] - measure[pairs.second])
        signs *= np.sign(target[pairs.first] - target[pairs.second])
        step = max(1, _ELEMENTS // len(signs))
        for start in range(0, len(weights), step):
            rows = slice(start, start + step)
            count = weights[rows][:, pairs.first] * weights[rows][:, pairs.second]
            total = np.add.reduceat(count, pairs.starts, axis=1)
            agreeing = np.add.reduceat(count * signs, pairs.starts, axis=1)
            present = total > 0
            with np.errstate(invalid="ignore"):
                of_cell = np.where(present, agreeing / np.where(present, total, 1), 0)
                parts[rows, number] = of_cell.sum(axis=1) / present.sum(axis=1)
    defined = ~np.isnan(parts)
    with np.errstate(invalid="ignore"):
        whole = np.where(defined, parts, 0).sum(axis=1) / defined.sum(axis=1)
    return whole, parts
