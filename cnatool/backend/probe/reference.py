"""Statistics of values that were read whole: what those computed in a graph are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic


def reference_statistics(
    values: NDArray[np.float32], statistics: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    """Return those statistics of a tensor in which digits can be lost, and its absolute sum."""
    found = _sums(values.reshape(len(values), -1), statistics)
    if all(np.isfinite(sums).all() for sums in found.values()):
        return found
    # Pairwise float32 sums are fast and close enough, but reach no further than float32.
    return _sums(values.reshape(len(values), -1).astype(np.float64), statistics)


def _sums(
    rows: NDArray[np.floating[Any]], statistics: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    found: dict[Statistic, NDArray[np.float64]] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        found["abs_sum"] = np.abs(rows).sum(axis=1).astype(np.float64)
        if "sum" in statistics:
            found["sum"] = rows.sum(axis=1).astype(np.float64)
        if "positive_sum" in statistics:
            found["positive_sum"] = np.maximum(rows, 0).sum(axis=1).astype(np.float64)
    return found
