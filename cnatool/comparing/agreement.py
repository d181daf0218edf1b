"""How well the values of a tensor agree in two stores, and in which tensors disagreement arises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.comparing.results import Agreement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.store import TensorRecord

# Elements that are converted to float64 at once: few enough to stay in the cache.
_AT_ONCE = 1 << 16


class AgreementSums:
    """Sums over values of two arrays, from which their agreement follows."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._signal2 = 0.0
        self._product = 0.0
        self._noise = 0.0

    def add(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Add values of the two arrays, which have the same shape."""
        left, right = np.ravel(first), np.ravel(second)
        for start in range(0, left.size, _AT_ONCE):
            x = left[start : start + _AT_ONCE].astype(np.float64)
            y = right[start : start + _AT_ONCE].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                self._signal += float(x @ x)
                self._signal2 += float(y @ y)
                self._product += float(x @ y)
                y -= x
                self._noise += float(y @ y)

    def agreement(self) -> Agreement:
        """Compute SQNR, cosine similarity and the share of noise."""
        sums = (self._signal, self._signal2, self._product, self._noise)
        if not all(map(math.isfinite, sums)):
            return Agreement(None, None, None, "sums of squares are not finite")
        if not self._signal:
            return Agreement(None, None, None, "all values are 0 in the first store")
        noise = self._noise / self._signal
        length = math.sqrt(self._signal) * math.sqrt(self._signal2)
        reason = None if self._noise else "the values are equal"
        return Agreement(
            sqnr=-10 * math.log10(noise) if noise else None,
            cosine=max(-1.0, min(1.0, self._product / length)) if length else None,
            noise=noise,
            reason=reason if length else "all values are 0 in the second store",
        )


def find_added_noise(
    tensors: Sequence[TensorRecord], noise: Mapping[int, float]
) -> dict[int, float]:
    """Find how much of the noise in each tensor is not in those that it is computed from.

    Parameters
    ----------
    tensors : sequence of TensorRecord
        All tensors of a store, in execution order.
    noise : mapping of int to float
        Noise as a share of the signal, by number of the tensors for which it is known.

    Returns
    -------
    dict of int to float
        For these, what is left of it without the largest share among the nearest of them that the
        tensor is computed from; at least 0. Where the store does not say what that is, it is the
        one before in execution order.
    """
    added: dict[int, float] = {}
    nearest: dict[int, frozenset[int]] = {}
    last: frozenset[int] = frozenset()
    for tensor in tensors:
        number = tensor.number
        before = last
        if isinstance(tensor.sources, tuple):
            before = frozenset[int]().union(*(nearest[source] for source in tensor.sources))
        if number in noise:
            known = max((noise[source] for source in before), default=0.0)
            added[number] = max(0.0, noise[number] - known)
            before = last = frozenset((number,))
        nearest[number] = before
    return added
