"""Granulated Kendall Ψ (Jiang et al. 2019): rank agreement, one hyperparameter at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.studying.statistics.weighted import concordance

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    """Find the pairs of networks that differ in hyperparameter `axis` alone."""
    found: list[NDArray[np.intp]] = []
    for cell in _cells(levels, axis):
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


def _cells(levels: NDArray[np.intp], axis: int) -> list[NDArray[np.intp]]:
    """Give the networks of each choice of all hyperparameters but `axis`."""
    return _members(np.delete(levels, axis, axis=1))


def _members(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Give where each different row of (n, H) numbers is."""
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
    """Return Ψ and its parts ψ_i under each weighting of the networks.

    ψ_i is the mean over the cells of axis i of Kendall's τ-a, taken over the pairs that differ in
    hyperparameter i. Networks that agree in all hyperparameters, such as other seeds, make no pair
    with each other. Ψ is the mean of the ψ_i that are defined.
    """
    axes = levels.shape[1] - held
    parts = np.full((len(weights), axes), np.nan)
    for axis in range(axes):
        total, present = np.zeros((2, len(weights)))
        for cell in _cells(levels, axis):
            agreeing, pairs = _between(
                measure[cell], target[cell], levels[cell, axis], weights[:, cell]
            )
            total += np.divide(agreeing, pairs, out=np.zeros_like(pairs), where=pairs > 0)
            present += pairs > 0
        np.divide(total, present, out=parts[:, axis], where=present > 0)
    defined = ~np.isnan(parts)
    with np.errstate(invalid="ignore"):
        whole = np.where(defined, parts, 0).sum(axis=1) / defined.sum(axis=1)
    return whole, parts


def _between(
    measure: NDArray[np.float64],
    target: NDArray[np.float64],
    groups: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give twice C − D and twice the number of pairs of different groups, by each weighting.

    They are those of all pairs less those within the groups, both from products of matrices.
    """
    members = _members(groups[:, None])
    if len(members) < 2:
        return np.zeros(len(weights)), np.zeros(len(weights))
    agreeing = concordance(measure, target, weights)
    pairs = weights.sum(axis=1) ** 2
    for one in members:
        if len(one) > 1:
            agreeing -= concordance(measure[one], target[one], weights[:, one])
        pairs -= weights[:, one].sum(axis=1) ** 2
    return agreeing, pairs
