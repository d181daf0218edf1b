"""Groups of samples by quantiles of α (paper Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.metrics.ranks import dense_ranks, share_ranks
from cnatool.metrics.sums import inner_product

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.metrics.ranks import Ranks

_MOST_INT16 = np.iinfo(np.int16).max
_LEAST = 10  # changes of class that a random order would have


def quantile_groups(
    alpha: NDArray[np.float64], groups: int, ranks: Ranks | None = None
) -> NDArray[np.signedinteger[Any]]:
    """Return each sample's group, 0 … groups − 1 by rising α, (n,); int16 if that suffices.

    A sample belongs where the middle of the ranks of its α lies, so that equal α are never divided:
    with many equal ones groups are of unequal size, and some may be empty. `ranks` are the dense
    ranks of `alpha`, where these are known.
    """
    share = share_ranks(dense_ranks(alpha) if ranks is None else ranks)
    share -= 0.5
    share /= max(1, alpha.size)
    share *= groups
    return share.astype(np.int16 if groups <= _MOST_INT16 else np.int64)


def lie_in_blocks(labels: NDArray[np.signedinteger[Any]]) -> bool:
    """Whether rows of one class lie together: at most half the changes of a random order."""
    shares = np.unique(labels, return_counts=True)[1] / max(1, labels.size)
    expected = (labels.size - 1) * (1 - inner_product(shares, shares))
    changes = int(np.count_nonzero(labels[1:] != labels[:-1]))
    return expected >= _LEAST and changes <= expected / 2
