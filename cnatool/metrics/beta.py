"""β: the growth of a sample's activation over depth (docs/metrics.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import MetricError
from cnatool.metrics.sums import inner_product

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.metrics.convention import Aggregate


def sum_activations(block: NDArray[Any]) -> NDArray[np.float64]:
    """Sum each sample's elements of one layer, (n, …), in float64: z_d(x), (n,)."""
    flat = block.reshape(block.shape[0], math.prod(block.shape[1:]))
    with np.errstate(invalid="ignore", over="ignore"):
        sums: NDArray[np.float64] = flat.sum(axis=1, dtype=np.float64)
    return sums


def aggregate(
    sums: NDArray[np.float64], shape: Sequence[int], how: Aggregate
) -> NDArray[np.float64]:
    """Turn sums over a layer's elements into one number per sample.

    The sum is the paper's; the mean over C channels, then the sum, is the sum / C. `shape` is that
    of the layer for one sample, channels first.
    """
    return sums / _DIVISORS[how](shape)


def _channels(shape: Sequence[int]) -> int:
    return shape[0] if shape else 1


_DIVISORS: Mapping[str, Callable[[Sequence[int]], int]] = {
    "sum": lambda shape: 1,
    "mean": math.prod,
    "channel-mean": _channels,
    "channel-mean-spatial": lambda shape: _channels(shape) if len(shape) > 1 else 1,
}


def slope_coefficients(depths: ArrayLike) -> NDArray[np.float64]:
    """Return c_d = (d − mean d) / Σ (d − mean d)², the weights of the least-squares slope, (L,).

    Raises `MetricError` for fewer than two layers, and for layers that all have the same depth.
    """
    d = np.asarray(depths, np.float64)
    if d.size < 2:
        raise MetricError(
            f"β needs at least two layers, and the convention selects {d.size}: "
            "`overrides={'include_output': True}` adds the output layer, and "
            "`overrides={'layers': 'all'}` selects every tensor."
        )
    if np.ptp(d) == 0:
        raise MetricError(
            f"β needs layers at different depths, and all {d.size} are at depth {d[0]:g}: "
            "use `depth='index'`."
        )
    centred: NDArray[np.float64] = d - d.mean()
    centred /= inner_product(centred, centred)
    return centred


def slopes(z: NDArray[np.float64], depths: ArrayLike) -> NDArray[np.float64]:
    """Return β of each sample, (n,): the slope of the points (d, z_d), β = Σ_d c_d z_d.

    `z` has shape (n, L), one column per depth; β is not finite where `z` is not. Raises
    `MetricError` as `slope_coefficients`, and if the numbers of columns and depths differ.
    """
    coefficients = slope_coefficients(depths)
    if z.shape[1:] != coefficients.shape:
        raise MetricError(
            f"β needs one depth per layer: {coefficients.size} depths for activations of shape "
            f"{z.shape}."
        )
    # Not a matrix product: a row's sum must not depend on the rows beside it.
    with np.errstate(invalid="ignore", over="ignore"):
        beta: NDArray[np.float64] = np.sum(z * coefficients, axis=1)
        return beta


def slope_line(z: ArrayLike, depths: ArrayLike, beta: float) -> NDArray[np.float64]:
    """Return the least-squares line of the points (d, z_d) at each depth, (L,), from its slope β.

    The points are one sample's, or means over samples.
    """
    d = np.asarray(depths, np.float64)
    line: NDArray[np.float64] = np.mean(np.asarray(z, np.float64)) + beta * (d - d.mean())
    return line
