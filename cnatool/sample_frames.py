"""The table of the samples of a scored store, in blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars
    from numpy.typing import NDArray

    from cnatool.scored_splits import ScoredSplit

__all__ = ["sample_frames", "sample_schema"]


def sample_schema() -> dict[str, Any]:
    """Give the names and types of the table's columns."""
    import polars as pl

    return {
        "split": pl.String,
        "id": pl.String,
        "label": pl.Int64,
        "prediction": pl.Int64,
        "alpha": pl.Float64,
        "beta": pl.Float64,
        "margin": pl.Float64,
    }


def sample_frames(splits: Mapping[str, ScoredSplit]) -> Iterator[polars.DataFrame]:
    """Give one row per sample of scored splits, in order; see `cnatool.score_samples`.

    Only ids are read from the store, a block at a time.

    Parameters
    ----------
    splits : mapping of str to ScoredSplit

    Yields
    ------
    polars.DataFrame
        A block of rows, with the columns of `sample_schema`.
    """
    import polars as pl
    import polars.selectors as cs

    # Undefined is null, here as everywhere, and never NaN.
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    for name, split in splits.items():
        beta = split.beta if split.measured_beta.reason is None else None
        margins = None if split.margins is None else split.margins[:, 0]
        for start, ids in split.split.ids.blocks():
            rows = slice(start, start + len(ids))
            columns = {
                "split": [name] * len(ids),
                "id": [str(value) for value in ids],
                "label": _part(split.labels, rows, np.int64),
                "prediction": _part(split.predictions, rows, np.int64),
                "alpha": _part(split.alpha, rows, np.float64),
                "beta": _part(beta, rows, np.float64),
                "margin": _part(margins, rows, np.float64),
            }
            yield pl.DataFrame(columns, schema=sample_schema()).with_columns(finite)


def _part(
    values: NDArray[Any] | None, rows: slice, kind: type[np.number[Any]]
) -> NDArray[Any] | list[None]:
    """Give some rows of a column in its type; nulls if there is no such column."""
    return [None] * (rows.stop - rows.start) if values is None else values[rows].astype(kind)
