"""Statistics of whole values, with which those computed in a graph are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.probe.probed_tensor import ProbedTensor
    from cnatool.records.choices import Statistic


def reference_of_parts(
    tensors: Sequence[ProbedTensor],
    values: Mapping[str, NDArray[Any]],
    statistics: Sequence[Statistic],
) -> dict[str, dict[Statistic, NDArray[np.float64]]]:
    """Compute the statistics of those tensors that may be summed in parts, by name."""
    return {
        tensor.name: reference_statistics(values[tensor.name], statistics)
        for tensor in tensors
        if statistics and tensor.is_summed_in_parts
    }


def reference_statistics(
    values: NDArray[np.float32], statistics: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    """Compute those statistics of a tensor in which digits can be lost, and its absolute sum."""
    reference = _sums(values.reshape(len(values), -1), statistics)
    if all(np.isfinite(sums).all() for sums in reference.values()):
        return reference
    # Pairwise float32 sums are fast and close enough, but have the range of float32.
    return _sums(values.reshape(len(values), -1).astype(np.float64), statistics)


def _sums(
    rows: NDArray[np.floating[Any]], statistics: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    sums: dict[Statistic, NDArray[np.float64]] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        sums["abs_sum"] = np.abs(rows).sum(axis=1).astype(np.float64)
        if "sum" in statistics:
            sums["sum"] = rows.sum(axis=1).astype(np.float64)
        if "positive_sum" in statistics:
            sums["positive_sum"] = np.maximum(rows, 0).sum(axis=1).astype(np.float64)
    return sums
