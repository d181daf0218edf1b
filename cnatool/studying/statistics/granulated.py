"""Granulated Kendall Ψ: rank agreement of measure and target, one hyperparameter at a time.

Source: Jiang, Neyshabur, Mobahi, Krishnan and Bengio, Fantastic Generalization Measures and Where
to Find Them, ICLR 2020, arXiv 1912.02178, "granulated Kendall's coefficient".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.studying.statistics.weighted import concordance

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CoupledPairs:
    """The P pairs of networks that differ in one hyperparameter and agree in all others."""

    first: NDArray[np.intp]  # (P,) network
    second: NDArray[np.intp]  # (P,) network

    def __len__(self) -> int:
        return len(self.first)


def find_coupled_pairs(levels: NDArray[np.intp], axis: int) -> CoupledPairs:
    """Find the pairs of networks that differ in hyperparameter `axis` alone."""
    pairs = [np.empty((2, 0), np.intp)]
    for cell in _cells(levels, axis):
        first, second = np.triu_indices(len(cell), k=1)
        inside = np.stack([cell[first], cell[second]])
        pairs.append(inside[:, levels[inside[0], axis] != levels[inside[1], axis]])
    return CoupledPairs(*np.concatenate(pairs, axis=1))


def _cells(levels: NDArray[np.intp], axis: int) -> list[NDArray[np.intp]]:
    """Return the networks of each cell: each choice of all hyperparameters but `axis`."""
    return _group_rows(np.delete(levels, axis, axis=1))


def _group_rows(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the positions of each distinct row of an (n, H) array."""
    if rows.shape[1]:
        codes = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    else:
        codes = np.zeros(len(rows), np.intp)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def granulated_kendall(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    levels: NDArray[np.intp],
    weights: NDArray[np.float64],
    *,
    held: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute Ψ and its parts ψ_i under each weighting of n networks.

    ψ_i is the mean over the cells of axis i of Kendall's τ-a, taken over the pairs that differ in
    hyperparameter i (Jiang et al. 2020). Networks that agree in all hyperparameters, such as those
    of other seeds, form no pair. Ψ is the mean of the ψ_i that are defined.

    Parameters
    ----------
    measure, target : (n,) float64 array
    levels : (n, H + held) array of int
        Level of each hyperparameter, then of each tag that is held fixed.
    weights : (B, n) float64 array
        Whole numbers.
    held : int
        Columns of `levels` at the end that are not hyperparameters.

    Returns
    -------
    (B,) float64 array, (B, H) float64 array
        Ψ and ψ_i; NaN where undefined.
    """
    axes = levels.shape[1] - held
    parts = np.full((len(weights), axes), np.nan)
    for axis in range(axes):
        total, defined_cells = np.zeros((2, len(weights)))
        for cell in _cells(levels, axis):
            agreement, pairs = _agreement_between_groups(
                measure[cell], target[cell], levels[cell, axis], weights[:, cell]
            )
            total += np.divide(agreement, pairs, out=np.zeros_like(pairs), where=pairs > 0)
            defined_cells += pairs > 0
        np.divide(total, defined_cells, out=parts[:, axis], where=defined_cells > 0)
    defined = ~np.isnan(parts)
    with np.errstate(invalid="ignore"):
        whole = np.where(defined, parts, 0).sum(axis=1) / defined.sum(axis=1)
    return whole, parts


def _agreement_between_groups(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    groups: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 2 (C − D) and twice the number of pairs between groups, under each weighting.

    C and D count concordant and discordant pairs. Both numbers are those of all pairs less those
    within the groups.
    """
    members = _group_rows(groups[:, None])
    if len(members) < 2:
        return np.zeros(len(weights)), np.zeros(len(weights))
    agreement = concordance(measure, target, weights)
    pairs = weights.sum(axis=1) ** 2
    for group in members:
        if len(group) > 1:
            agreement -= concordance(measure[group], target[group], weights[:, group])
        pairs -= weights[:, group].sum(axis=1) ** 2
    return agreement, pairs
