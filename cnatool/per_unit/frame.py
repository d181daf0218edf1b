"""The table of units: a row for each, made and written tensor by tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars
    from numpy.typing import NDArray

    from cnatool.per_unit.columns import UnitColumns


def unit_schema(quantiles: Sequence[float]) -> dict[str, Any]:
    """Return the names and types of the table's columns."""
    import polars as pl

    numbers = ("mean", "deviation", "skewness", "min", "max", *map(quantile_name, quantiles))
    return {
        "split": pl.String,
        "tensor": pl.String,
        "unit": pl.Int64,
        "count": pl.Int64,
        "nan": pl.Int64,
        "infinite": pl.Int64,
        **dict.fromkeys(numbers, pl.Float64),
        "zeros": pl.Float64,
        "positives": pl.Float64,
        "dead": pl.Boolean,
        "constant": pl.Boolean,
        "class": pl.Int64,
        "class_name": pl.String,
        "class_mean": pl.Float64,
        "ccmas": pl.Float64,
        "top_values": pl.List(pl.Float64),
        "top_ids": pl.List(pl.String),
        "top_rows": pl.List(pl.Int64),
        "top_positions": pl.List(pl.List(pl.Int64)),
    }


def quantile_name(q: float) -> str:
    """Return the name of a quantile's column, such as ``q0.05``; each number has its own."""
    return f"q{np.format_float_positional(q, trim='-')}"


def tensor_frame(split: str, columns: UnitColumns, schema: Mapping[str, Any]) -> polars.DataFrame:
    """Return the rows of one tensor's units; undefined is null, and never NaN."""
    import polars as pl
    import polars.selectors as cs

    units = len(columns.count)
    with np.errstate(invalid="ignore", divide="ignore"):
        zeros, positives = columns.zeros / columns.count, columns.positives / columns.count
    data: dict[str, Any] = {
        "split": [split] * units,
        "tensor": [columns.selected.tensor.name] * units,
        "unit": np.arange(units),
        "count": columns.count,
        "nan": columns.nan,
        "infinite": columns.infinite,
        "mean": columns.mean,
        "deviation": columns.deviation,
        "skewness": columns.skewness,
        "min": columns.minimum,
        "max": columns.maximum,
        **{
            name: columns.quantiles[:, place]
            for place, name in enumerate(name for name in schema if _is_quantile(name))
        },
        "zeros": zeros,
        "positives": positives,
        "dead": columns.dead,
        "constant": columns.constant,
        "class": pl.Series(columns.label, dtype=pl.Int64).set(pl.Series(~columns.labelled), None),
        "class_name": [
            columns.names.get(label) if known else None
            for label, known in zip(columns.label.tolist(), columns.labelled.tolist(), strict=True)
        ],
        "class_mean": columns.class_mean,
        "ccmas": columns.ccmas,
        **_list_top(columns),
    }
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    return pl.DataFrame(data, schema=dict(schema)).with_columns(finite)


def _is_quantile(name: str) -> bool:
    return name.startswith("q")


def _list_top(columns: UnitColumns) -> dict[str, list[list[Any]]]:
    """Return the samples that excite each unit most, as lists that end where there are no more."""
    lengths = (columns.top_rows >= 0).sum(axis=1)

    def cut(values: NDArray[Any]) -> Iterator[list[Any]]:
        listed = values.tolist()
        return (entry[:length] for entry, length in zip(listed, lengths.tolist(), strict=True))

    rows = list(cut(columns.top_rows))
    return {
        "top_values": list(cut(columns.top_values)),
        "top_ids": [[columns.ids[row] for row in entry] for entry in rows],
        "top_rows": rows,
        "top_positions": list(cut(columns.top_positions)),
    }


def flatten_lists(frame: polars.DataFrame) -> polars.DataFrame:
    """Turn lists into text, for CSV: entries with ``; `` between them, positions with ``,``.

    Units of vectors have no positions.
    """
    import polars as pl

    positions = pl.col("top_positions")
    joined = frame.with_columns(
        positions.list.eval(pl.element().cast(pl.List(pl.String)).list.join(","))
    ).with_columns(
        pl.col(name).cast(pl.List(pl.String)).list.join("; ")
        for name in ("top_values", "top_ids", "top_rows", "top_positions")
    )
    return joined.with_columns(pl.when(positions.str.contains("[^; ]")).then(positions))
