"""Per-sample statistics of values that are at hand whole, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic


def row_statistics(
    values: NDArray[Any], names: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    """Give statistics over the elements of each row.

    Parameters
    ----------
    values : ndarray, shape (n, …)
        Floats, integers or booleans.
    names : sequence of Statistic
        Which. Of rows without elements the least value is ∞ and the largest −∞.

    Returns
    -------
    dict of str to ndarray, shape (n,)
    """
    rows = values.reshape(len(values), int(np.prod(values.shape[1:])))
    found: dict[Statistic, NDArray[np.float64]] = {}
    # What is not finite is a result like any other; whoever compares it must not be warned of it.
    with np.errstate(invalid="ignore", over="ignore"):
        for name in names:
            if name == "sum":
                found[name] = rows.sum(axis=1, dtype=np.float64)
            elif name == "abs_sum":
                found[name] = np.abs(rows.astype(np.float64)).sum(axis=1)
            elif name == "square_sum":
                found[name] = np.square(rows.astype(np.float64)).sum(axis=1)
            elif name == "positive_sum":
                found[name] = np.maximum(rows, 0).sum(axis=1, dtype=np.float64)
            elif name == "nonzero_count":
                found[name] = np.count_nonzero(rows, axis=1).astype(np.float64)
            elif name == "min":
                found[name] = rows.astype(np.float64).min(axis=1, initial=np.inf)
            else:
                found[name] = rows.astype(np.float64).max(axis=1, initial=-np.inf)
    return found


def magnitude(abs_sums: NDArray[np.float64]) -> float | None:
    """Give the mean of absolute sums; None where there are none, or it is not finite.

    To four digits, as the last ones are not the same on every processor.
    """
    with np.errstate(over="ignore"):
        mean = float(abs_sums.mean()) if abs_sums.size else np.inf
    return float(f"{mean:.4g}") if np.isfinite(mean) else None
