"""Principal components of few points in very many dimensions, from their products alone.

K points v_k with mean μ have the Gram matrix G of the v_k − μ, K × K. With G = U S² Uᵀ the j-th
principal axis is p_j = Σ_k (U_kj / s_j) (v_k − μ), the coordinate of v_k along it s_j U_kj, and the
variance along it goes as s_j². That is the singular value decomposition itself and no approximation
of it, it reads the points once, and it never holds an axis, which is as long as a point. A
randomised decomposition would read them several times, to be spared a K × K eigenproblem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Axes of the plane.
_AXES = 2
# An axis whose standard deviation is less, relative to the first one's, is rounding: products have
# twice the digits of what they are of.
_FLAT = 1e-7


class Plane(NamedTuple):
    """The plane of the first two principal components of K points.

    Attributes
    ----------
    shares : (K − 1,) float64 array
        Share of the variance along each component, the largest first.
    coordinates : (K, 2) float64 array
        Of each point, from the mean.
    weights : (2, K) float64 array
        p_j = Σ_k weights[j, k] (v_k − μ); so for any linear f, f(p_j) is this sum of f(v_k) − f(μ).
    captured : (K,) float64 array
        Share of each point's squared distance from the mean that lies in the plane; NaN for a
        point that is the mean.
    """

    shares: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    weights: NDArray[np.float64]
    captured: NDArray[np.float64]

    def images(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Give f(μ), f(p_1) and f(p_2) for a linear f, from its values at the points.

        Parameters
        ----------
        values : (K, …) float64 array
            f(v_k).
        """
        mean = values.mean(axis=0)
        return mean, *np.tensordot(self.weights, values - mean, axes=1)


def check_points(points: int) -> None:
    """Refuse points that are too few for a plane."""
    if points <= _AXES:
        raise MetricError(f"a plane needs at least three checkpoints, and there are {points}.")


def centred_products(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part that some columns have in the Gram matrix of the centred points."""
    with np.errstate(invalid="ignore", over="ignore"):
        block -= block.mean(axis=0)
        return block @ block.T


def principal_plane(gram: NDArray[np.float64]) -> Plane:
    """Return the plane of the first two principal components.

    An axis points to where the coordinate that is largest in magnitude is positive.
    """
    points = len(gram)
    check_points(points)
    values, vectors = np.linalg.eigh(gram)
    # Of K centred points no more than K − 1 are independent.
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
