"""The table of the samples of a scored store, made and written a block of rows at a time."""

from __future__ import annotations

from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.files import replace_atomically
from cnatool._util.frame_files import check_frame_path
from cnatool._util.spreadsheets import write_csv
from cnatool._util.write_failures import make_write_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import polars
    from numpy.typing import NDArray

    from cnatool.scoring.split import ScoredSplit


_NO_SPLITS: Mapping[str, ScoredSplit] = MappingProxyType({})


def sample_schema(splits: Mapping[str, ScoredSplit] = _NO_SPLITS) -> dict[str, Any]:
    """Return the names and types of the table's columns; more where tokens are scored."""
    import polars as pl

    of_tokens = any(split.performance.task is not None for split in splits.values())
    return {
        "split": pl.String,
        "id": pl.String,
        "label": pl.Int64,
        "prediction": pl.Int64,
        "alpha": pl.Float64,
        "beta": pl.Float64,
        "margin": pl.Float64,
        "length": pl.Int64,
        **({"tokens": pl.Int64, "loss": pl.Float64} if of_tokens else {}),
    }


def sample_frames(splits: Mapping[str, ScoredSplit]) -> Iterator[polars.DataFrame]:
    """Yield one row per sample of scored splits, in order; see `cnatool.score_samples`.

    Only ids are read from the store, a block at a time.
    """
    import polars as pl
    import polars.selectors as cs

    # Undefined is null, here as everywhere, and never NaN.
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    schema = sample_schema(splits)
    for name, split in splits.items():
        beta = split.beta if split.split_beta.reason is None else None
        performance = split.performance
        margins = None if performance.margins is None else performance.margins[:, 0]
        for start, ids in split.split.ids.blocks():
            rows = slice(start, start + len(ids))
            columns = {
                "split": [name] * len(ids),
                "id": [str(value) for value in ids],
                "label": _column_part(performance.labels, rows, np.int64),
                "prediction": _column_part(performance.predictions, rows, np.int64),
                "alpha": _column_part(split.alpha, rows, np.float64),
                "beta": _column_part(beta, rows, np.float64),
                "margin": _column_part(margins, rows, np.float64),
                "length": _column_part(split.lengths, rows, np.int64),
            }
            if "tokens" in schema:
                counts = None if performance.tokens is None else performance.tokens.counts
                losses = None if counts is None else performance.sample_losses
                columns["tokens"] = _column_part(counts, rows, np.int64)
                columns["loss"] = _column_part(losses, rows, np.float64)
            yield pl.DataFrame(columns, schema=schema).with_columns(finite)


def _column_part(
    values: NDArray[Any] | None, rows: slice, kind: type[np.number[Any]]
) -> NDArray[Any] | list[None]:
    """Return some rows of a column in its type; nulls if there is no such column."""
    return [None] * (rows.stop - rows.start) if values is None else values[rows].astype(kind)


def write_frames(
    frames: Iterable[polars.DataFrame], schema: Mapping[str, Any], path: Path, *, convention: str
) -> None:
    """Write blocks of a table of samples to a Parquet or CSV file, by its suffix."""
    check_frame_path(path)
    source = _Source(frames, schema)
    try:
        with replace_atomically(path) as partial:
            if path.suffix == ".parquet":
                _write_parquet(source, partial, convention)
            else:
                _write_csv(source, partial, convention)
    except Exception as error:  # polars raises its own kinds for what the system refuses
        if source.error is not None:
            raise source.error from None
        raise make_write_error(path, error) from error


class _Source:
    """Blocks of rows, and the error of computing them, which polars replaces by its own."""

    def __init__(self, frames: Iterable[polars.DataFrame], schema: Mapping[str, Any]) -> None:
        self._frames = frames
        self.schema = schema
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[polars.DataFrame]:
        try:
            yield from self._frames
        except BaseException as error:
            self.error = error
            raise


def _write_parquet(source: _Source, path: Path, convention: str) -> None:
    """Write blocks as they come, in row groups of the size that polars chooses."""
    from polars.io.plugins import register_io_source

    lazy = register_io_source(lambda *pushed_down: iter(source), schema=source.schema)
    lazy.sink_parquet(path, metadata={"cnatool.convention": convention})


def _write_csv(source: _Source, path: Path, convention: str) -> None:
    """Write the header, and blocks as they come."""
    import polars as pl

    blocks = iter(source)
    first = next(blocks, pl.DataFrame(schema=source.schema))
    with path.open("wb") as file:
        for number, frame in enumerate(chain([first], blocks)):
            named = frame.with_columns(pl.lit(convention).alias("convention"))
            write_csv(named, file, header=number == 0)
