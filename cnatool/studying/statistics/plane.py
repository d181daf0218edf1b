"""Principal components of few points in very many dimensions, from their products alone.

K points v_k with mean μ have the Gram matrix G = U S² Uᵀ, K × K, of the v_k − μ. The j-th principal
axis is p_j = Σ_k (U_kj / s_j) (v_k − μ), the coordinate of v_k along it is s_j U_kj, and the
variance along it is proportional to s_j². This is the exact singular value decomposition; it reads
the points once and never holds an axis, which is as long as a point. A randomised decomposition
would read them several times only to avoid a K × K eigenproblem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.products import multiply
from cnatool.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Axes of the plane.
_AXES = 2
# An axis whose standard deviation, relative to that of the first, is smaller than this is rounding:
# the Gram matrix holds squares, so half of the digits are lost.
_FLAT = 1e-7


class Plane(NamedTuple):
    """The plane of the first two principal components of K points.

    Attributes
    ----------
    shares : (K − 1,) float64 array
        Share of the variance along each component, the largest first.
    coordinates : (K, 2) float64 array
        Coordinates of each point, from the mean.
    weights : (2, K) float64 array
        p_j = Σ_k weights[j, k] (v_k − μ), so that f(p_j) = Σ_k weights[j, k] (f(v_k) − f(μ)) for
        any linear f.
    captured : (K,) float64 array
        Share of each point's squared distance from the mean that lies in the plane; NaN for a
        point that is the mean.
    """

    shares: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    weights: NDArray[np.float64]
    captured: NDArray[np.float64]

    def images(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Compute f(μ), f(p_1) and f(p_2) for a linear f from its `values` f(v_k), (K, …)."""
        mean = values.mean(axis=0)
        flat = (values - mean).reshape(len(values), -1)
        return mean, *multiply(self.weights, flat).reshape(-1, *mean.shape)


def check_points(points: int) -> None:
    """Raise `MetricError` if there are too few points for a plane."""
    if points <= _AXES:
        raise MetricError(f"a plane needs at least three checkpoints, but there are {points}.")


def centred_gram(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute what some columns of the points, (K, columns), add to the centred Gram matrix."""
    with np.errstate(invalid="ignore", over="ignore"):
        block -= block.mean(axis=0)
        return multiply(block, block.T)


def principal_plane(gram: NDArray[np.float64]) -> Plane:
    """Compute the plane of the first two principal components.

    The sign of an axis is such that the coordinate of the largest magnitude is positive.
    """
    points = len(gram)
    check_points(points)
    values, vectors = np.linalg.eigh(gram)
    # At most K − 1 of K centred points are independent.
    squares, vectors = np.maximum(values[:0:-1], 0), vectors[:, :0:-1]
    deviations = np.sqrt(squares)
    if not deviations[0] > 0:
        raise MetricError(
            "the layers' activations are the same at all checkpoints, so there is no plane."
        )
    if deviations[1] <= _FLAT * deviations[0]:
        raise MetricError(
            "the layers' activations at all checkpoints lie on one line, so there is no plane."
        )
    axes = vectors[:, :_AXES]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, range(_AXES)])
    coordinates = axes * deviations[:_AXES]
    distances = np.diagonal(gram)
    captured = np.full(points, np.nan)
    inside = (coordinates**2).sum(axis=1)
    np.divide(inside, distances, out=captured, where=distances > 0)
    return Plane(
        shares=squares / squares.sum(),
        coordinates=coordinates,
        weights=(axes / deviations[:_AXES]).T,
        captured=captured.clip(0, 1),
    )
