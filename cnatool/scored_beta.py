"""β of each sample of a split, and whether its samples differ by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import MetricError
from cnatool.metrics.beta import slope_coefficients, slopes
from cnatool.metrics.correlation import is_constant
from cnatool.metrics.rounding import Rounding, rounding_share
from cnatool.scored_sums import magnitude_blocks, z_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention
    from cnatool.scored_layers import ScoredLayer
    from cnatool.store.reader import Split

__all__ = ["SplitBeta", "beta_rounding", "resolved", "split_beta"]

_ELEMENTS = 1 << 17  # of z that are summed at a time


@dataclass(frozen=True, slots=True)
class SplitBeta:
    """β of n samples.

    Attributes
    ----------
    values : (n,) float64 array
        One value for all where they differ by rounding only; NaN where the layers have no slope.
    rounding : float or None
        Where they do, the deviation that rounding can make.
    reason : str or None
        Why there is no β at all: it is 0 for every sample but for rounding, or the layers have no
        slope.
    """

    values: NDArray[np.float64]
    rounding: float | None = None
    reason: str | None = None

    def no_cna(self, alpha: NDArray[np.float64]) -> str | None:
        """Return why β has no correlation with α, where that is not for α's sake."""
        if self.rounding is None and self.reason is not None:
            return self.reason
        if self.rounding is None or is_constant(alpha):
            return None
        return f"β is the same for all {self.values.size} samples but for rounding"

    def no_moments(self) -> str | None:
        """Say why β has no mean or no deviation."""
        if self.reason is not None:
            return self.reason
        n = self.values.size
        broken = n - int(np.count_nonzero(np.isfinite(self.values)))
        if broken or not n:
            return f"β is not finite for {broken} of {n} samples" if n else "no samples"
        with np.errstate(over="ignore", invalid="ignore"):
            known = np.isfinite([self.values.mean(), self.values.std()]).all()
        return None if known else "β is too large for float64"

    def alike(self, other: SplitBeta) -> bool:
        """Say whether no more than rounding tells any sample of both from another."""
        if self.rounding is None or other.rounding is None:
            return False
        return bool(abs(self.values[0] - other.values[0]) <= self.rounding + other.rounding)


def split_beta(split: Split, layers: Sequence[ScoredLayer], fields: Convention) -> SplitBeta:
    """Give β of each sample of a split, block by block.

    Parameters
    ----------
    split : Split
    layers : sequence of ScoredLayer
        What β is computed over.
    fields : Convention

    Returns
    -------
    SplitBeta
        Without β, and with the reason, where there are too few layers: what a score says of α and
        of the outputs takes none.
    """
    depths = [layer.depth for layer in layers]
    try:
        slope_coefficients(depths)
    except MetricError as error:
        return SplitBeta(np.full(split.record.rows, np.nan), reason=str(error).rstrip("."))
    beta = np.empty(len(split))
    step = max(1, _ELEMENTS // len(layers))
    for start, z in z_blocks(split, layers, fields):
        for first in range(0, len(z), step):
            rows = z[first : first + step]
            beta[start + first : start + first + len(rows)] = slopes(rows, depths)
    return resolved(beta, beta_rounding(split, layers, fields))


def beta_rounding(split: Split, layers: Sequence[ScoredLayer], fields: Convention) -> Rounding:
    """Give what rounding can make of β and z; 0 where the store does not tell.

    Parameters are those of `split_beta`.
    """
    rounding = Rounding(
        slope_coefficients([layer.depth for layer in layers]),
        np.array([_share(split, layer) for layer in layers]),
    )
    for magnitudes in magnitude_blocks(split, layers, fields):
        rounding.add(magnitudes)
    return rounding


def resolved(beta: NDArray[np.float64], rounding: Rounding) -> SplitBeta:
    """Take β of several samples for one value where no more than rounding tells them apart."""
    bound = rounding.of_beta()
    if beta.size < 2:
        return SplitBeta(beta)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, deviation = float(beta.mean()), float(beta.std())
    # Both are NaN where β is not finite, and then neither holds.
    if not (0 < bound < np.inf and deviation <= bound):
        return SplitBeta(beta)
    if abs(mean) <= bound:
        reason = (
            f"the layers' sums give a β of 0 for all {beta.size} samples but for rounding "
            f"(deviation {deviation:.1g}, rounding up to {bound:.1g})"
        )
        return SplitBeta(np.zeros_like(beta), bound, reason)
    return SplitBeta(np.full_like(beta, mean) if deviation else beta, bound)


def _share(split: Split, layer: ScoredLayer) -> float:
    """Give the share of a layer's absolute sum that rounding can move its sum by."""
    tensor = layer.tensor
    known = "bfloat16" if tensor.onnx_type == "bfloat16" else tensor.dtype
    # Without stored sums z is that of the activations as they lie in the store.
    narrowed = known if split.has_statistic("sum") else tensor.stored or known
    return max(rounding_share(known), rounding_share(narrowed))
