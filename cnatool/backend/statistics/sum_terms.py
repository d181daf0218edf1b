"""Sums of tensors as what they are made of: numbers read of a few tensors, and their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What is read of a tensor that sums are taken from; sizes for one sample.
Reading = Literal[
    "elements",  # all elements, (K,)
    "product",  # as elements, but the weighted sum is taken inside the graph
    "rows",  # sums along the last axis, one for each place on the others
    "planes",  # of a picture (C, H, W), the sum of each channel, (C,)
    "edges",  # of a picture, sums of each row (C, H), each column (C, W), the corners (C, 2, 2)
    "windows",  # of a picture, what a one-channel convolution gives, inside the graph: its kernel
]

# So few numbers leave the graph as they are.
FEW = 32


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is read of one tensor.

    Attributes
    ----------
    tensor : str
        The tensor.
    reading : Reading
        What of it.
    convolution : str
        For ``windows``, the result of the convolution whose strides and padding hold.
    """

    tensor: str
    reading: Reading
    convolution: str = ""


@dataclass(frozen=True, slots=True)
class LinearSum:
    """The sum of a tensor's elements: of each leaf's numbers times weights, plus a constant.

    Attributes
    ----------
    terms : dict of Leaf to ndarray
        Weights, float64, in the shape of what is read.
    constant : float
        What is added.
    """

    terms: dict[Leaf, NDArray[np.float64]]
    constant: float = 0.0

    def plus(self, other: LinearSum) -> LinearSum:
        """Give the sum of two sums."""
        terms = dict(self.terms)
        for leaf, weights in other.terms.items():
            terms[leaf] = terms[leaf] + weights if leaf in terms else weights
        return LinearSum(terms, self.constant + other.constant)

    def times(self, factor: float) -> LinearSum:
        """Give a multiple of a sum."""
        terms = {leaf: weights * factor for leaf, weights in self.terms.items()}
        return LinearSum(terms, self.constant * factor)


def direct_sum(tensor: str, shape: tuple[int, ...], *, whole: bool = False) -> LinearSum:
    """Give the sum of a float32 tensor as it is read of that tensor itself."""
    if len(shape) == 1:
        reading: Reading = "elements" if shape[0] <= FEW else "product"
        return LinearSum({Leaf(tensor, reading): np.ones(shape[0])})
    if len(shape) == 3 and not whole:
        # The runtime keeps the results of convolutions in a blocked layout of its own. It can pool
        # in that layout; for a sum it would first write the whole tensor anew.
        return LinearSum({Leaf(tensor, "planes"): np.ones(shape[0])})
    return LinearSum({Leaf(tensor, "rows"): np.ones(math.prod(shape[:-1]))})


def edges_from_planes(weights: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Give the weights of ``edges`` that say the same as weights of ``planes``."""
    channels, height, width = shape
    rows = np.repeat(weights[:, None], height, axis=1)
    return np.concatenate([rows.reshape(-1), np.zeros(channels * (width + 4))])


def edge_weights(
    kernel: NDArray[np.float64], down: NDArray[np.float64], across: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Give a weight for each row, column and corner of each channel; None where that cannot be.

    A place (h, w) counts with the sum over the taps that meet it. With ``u`` and ``v`` the taps
    that miss its row and its column, that is ``1 - u - v + u v`` of each tap; the last term must be
    zero but in the corners.
    """
    missed, missed_across = 1 - down, 1 - across
    height, width = down.shape[1], across.shape[1]
    if height < 2 or width < 2:
        return None
    inner_rows = missed[:, 1:-1].any()
    inner_columns = missed_across[:, 1:-1].any()
    if (inner_rows and missed_across.any()) or (inner_columns and missed.any()):
        return None
    rows = np.einsum("cij,ih->ch", kernel, down)
    columns = -np.einsum("cij,jw->cw", kernel, missed_across)
    ends = [0, -1]
    corners = np.einsum("cij,ih,jw->chw", kernel, missed[:, ends], missed_across[:, ends])
    return np.concatenate([part.reshape(-1) for part in (rows, columns, corners)])
