"""What each layer contributes to β and to CNA (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cnatool.metrics.correlation import ROUNDING_UNITS, is_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class LayerSums:
    """Sums of z_d and of z_d · α over samples, for each group and each of L layers, block by block.

    `groups` has the number of each sample's group, below `count`.
    """

    alpha: NDArray[np.float64]
    groups: NDArray[np.int64]
    count: int
    layers: int
    _centre: NDArray[np.float64] | None = field(default=None, init=False)
    _groups: NDArray[np.float64] = field(init=False)
    _squares: NDArray[np.float64] = field(init=False)
    _products: NDArray[np.float64] = field(init=False)
    _nonfinite: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._groups = np.zeros((self.count, self.layers))
        self._squares = np.zeros(self.layers)
        self._products = np.zeros(self.layers)
        self._nonfinite = np.zeros((self.count, self.layers), np.int64)

    def add(self, start: int, z: NDArray[np.float64]) -> None:
        """Add rows of z, (rows, L), from row `start` on.

        Values that are not finite make what they touch not finite.
        """
        if not len(z):
            return
        infinite, here = ~np.isfinite(z), self.groups[start : start + len(z)]
        if infinite.any():
            np.add.at(self._nonfinite, here, infinite)
        with np.errstate(invalid="ignore", over="ignore"):
            if self._centre is None:
                self._centre = z.mean(axis=0)
            centred = z - self._centre  # so that no digits go to a large mean
            stop = start + len(z)
            alpha = self.alpha[start:stop] - self.alpha.mean()
            self._squares += (centred * centred).sum(axis=0)
            self._products += (centred * alpha[:, None]).sum(axis=0)
            for layer in range(self.layers):
                self._groups[:, layer] += np.bincount(
                    self.groups[start:stop], centred[:, layer], self.count
                )

    def group_sizes(self) -> NDArray[np.int64]:
        """Return how many samples each group has, (groups,)."""
        sizes: NDArray[np.int64] = np.bincount(self.groups, minlength=self.count)
        return sizes

    def nonfinite(self) -> NDArray[np.int64]:
        """Return for how many samples of each group z_d is not finite, (groups, L)."""
        return self._nonfinite

    def means(self) -> NDArray[np.float64]:
        """Return the mean z_d over all samples, (L,)."""
        return self._origin() + self._shift()

    def deviations(self) -> NDArray[np.float64]:
        """Return the population's standard deviation of z_d, (L,)."""
        shift = self._shift()
        variance = self._squares / max(1, self.alpha.size) - shift * shift
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0))
        return deviation

    def group_means(self) -> NDArray[np.float64]:
        """Return the mean z_d over each group, (groups, L); NaN for a group without samples."""
        with np.errstate(invalid="ignore"):
            spread: NDArray[np.float64] = self._groups / self.group_sizes()[:, None]
            return self._origin() + spread

    def covariances(self) -> NDArray[np.float64]:
        """Return the covariance of α and z_d, (L,)."""
        # Σ (α − mean α) is 0, so that centring z_d changes nothing.
        covariance: NDArray[np.float64] = self._products / max(1, self.alpha.size)
        return covariance

    def correlations(self, rounding: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Pearson's correlation of α and z_d, (L,); NaN where one of them is constant.

        `rounding` is the deviation of each z_d that rounding can cause.
        """
        deviations = self.deviations()
        scale = np.maximum(np.abs(self._origin()), np.abs(self.means()))
        alpha = 0.0 if not self.alpha.size or is_constant(self.alpha) else float(self.alpha.std())
        least = np.maximum(
            ROUNDING_UNITS * np.spacing(scale), np.where(np.isfinite(rounding), rounding, 0)
        )
        varies = (deviations > least) & (alpha > 0)
        correlations = np.full(self.layers, np.nan)
        np.divide(self.covariances(), deviations * alpha, out=correlations, where=varies)
        return correlations.clip(-1, 1)

    def _shift(self) -> NDArray[np.float64]:
        shift: NDArray[np.float64] = self._groups.sum(axis=0) / max(1, self.alpha.size)
        return shift

    def _origin(self) -> NDArray[np.float64]:
        return np.zeros(self.layers) if self._centre is None else self._centre
