"""Per-sample statistics of whole arrays, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic
    from cnatool.records.ragged import Rows


def _as_float(rows: NDArray[Any]) -> NDArray[np.float64]:
    return rows.astype(np.float64)


# Of the elements of each row, (n, elements).
_STATISTICS: Mapping[Statistic, Callable[[NDArray[Any]], NDArray[np.float64]]] = {
    "sum": lambda rows: rows.sum(axis=1, dtype=np.float64),
    "abs_sum": lambda rows: np.abs(_as_float(rows)).sum(axis=1),
    "square_sum": lambda rows: np.square(_as_float(rows)).sum(axis=1),
    "positive_sum": lambda rows: np.maximum(rows, 0).sum(axis=1, dtype=np.float64),
    "nonzero_count": lambda rows: np.count_nonzero(rows, axis=1).astype(np.float64),
    "min": lambda rows: _as_float(rows).min(axis=1, initial=np.inf),
    "max": lambda rows: _as_float(rows).max(axis=1, initial=-np.inf),
}

# How statistics of the pieces of a row combine, and that of no piece; others are added.
_COMBINED: Mapping[Statistic, tuple[np.ufunc, float]] = {
    "min": (np.minimum, np.inf),
    "max": (np.maximum, -np.inf),
}


def row_statistics(
    values: Rows, names: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    """Compute statistics over the elements of each row of an array, (n, …); (n,) each.

    Of rows without elements, the minimum is ∞ and the maximum −∞.
    """
    if isinstance(values, Ragged):
        pieces = row_statistics(values.values, names)
        return {name: _combine(name, pieces[name], values.offsets) for name in names}
    rows = values.reshape(len(values), int(np.prod(values.shape[1:])))
    # Values that are not finite are results like others, without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        return {name: _STATISTICS[name](rows) for name in names}


def _combine(
    name: Statistic, pieces: NDArray[np.float64], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Combine a statistic of pieces of rows to that of the rows that begin at some offsets."""
    combine, none = _COMBINED.get(name, (np.add, 0.0))
    combined = np.full(len(offsets) - 1, none)
    filled = np.diff(offsets) > 0
    if filled.any():
        with np.errstate(invalid="ignore", over="ignore"):
            combined[filled] = combine.reduceat(pieces, offsets[:-1][filled])
    return combined


def magnitude(abs_sums: NDArray[np.float64]) -> float | None:
    """Compute the mean of absolute sums; None if there are none, or it is not finite.

    Rounded to four digits, since the last ones differ between processors.
    """
    with np.errstate(over="ignore"):
        mean = float(abs_sums.mean()) if abs_sums.size else np.inf
    return float(f"{mean:.4g}") if np.isfinite(mean) else None
