"""Rounding errors of β and z_d, below which differences mean nothing (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.products import multiply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# The sum of a layer's elements is off by this share of the sum of their absolute values. In single
# and double precision the errors of long sums (a mean, a variance, the sum itself) are those of all
# elements alike: 8 units in the last place. Runtimes compute half precision in single and round
# each element once, to the nearest, up or down by chance, so that sums are off by far less.
_SHARES: Mapping[str, float] = MappingProxyType(
    {
        "float64": 8 * 2.0**-52,
        "float32": 8 * 2.0**-23,
        "float16": 2.0**-10 / 8,
        "bfloat16": 2.0**-7 / 8,
    }
)


def rounding_share(dtype: str) -> float:
    """Return the share of its absolute sum by which rounding can move a sum; default float32."""
    return _SHARES.get(dtype, _SHARES["float32"])


@dataclass(slots=True)
class Rounding:
    """Deviations of z_d and β between samples by rounding alone, summed block by block.

    A sample's z_d may be off by e_d = share_d · Σ|elements|, its β by Σ_d |c_d| e_d. The root mean
    square of both over samples is compared with a standard deviation. `coefficients` are the c_d,
    (L,), `shares` from `rounding_share`.
    """

    coefficients: NDArray[np.float64]
    shares: NDArray[np.float64]
    _rows: int = field(default=0, init=False)
    _of_beta: float = field(default=0.0, init=False)
    _of_layers: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._of_layers = np.zeros(self.shares.size)

    def add(self, magnitudes: NDArray[np.float64]) -> None:
        """Add rows of Σ|elements|, (rows, L), aggregated as z is."""
        with np.errstate(invalid="ignore", over="ignore"):
            errors = magnitudes * self.shares
            self._rows += len(errors)
            self._of_beta += float(np.square(multiply(errors, np.abs(self.coefficients))).sum())
            self._of_layers += np.square(errors).sum(axis=0)

    def of_beta(self) -> float:
        """Return the deviation of β that rounding alone can cause."""
        return float(np.sqrt(self._of_beta / max(1, self._rows)))

    def of_layers(self) -> NDArray[np.float64]:
        """Return the deviation of each z_d that rounding alone can cause, (L,)."""
        spread: NDArray[np.float64] = np.sqrt(self._of_layers / max(1, self._rows))
        return spread
