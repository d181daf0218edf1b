"""Frames of networks, one row per network, from stores and from elsewhere."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.spreadsheets import from_spreadsheet
from cnatool._util.text import list_names, one_line
from cnatool.errors import DataError, UsageError
from cnatool.studying.checksums import find_list, read_checked
from cnatool.studying.columns import TAG, TEXTS, tag_column
from cnatool.studying.replace import check_finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from cnatool.studying.collect import ScoredNetwork


def build_frame(networks: Sequence[ScoredNetwork]) -> polars.DataFrame:
    """Build the frame of scored networks."""
    import polars as pl

    tags = sorted({tag for network in networks for tag in network.tags})
    columns = list(dict.fromkeys(column for network in networks for column in network.values))
    data: dict[str, polars.Series] = {
        name: pl.Series(name, [getattr(network, name) for network in networks], pl.String)
        for name in TEXTS
    }
    for tag in tags:
        name = tag_column(tag)
        data[name] = pl.Series(name, [network.tags.get(tag) for network in networks], pl.String)
    for name in columns:
        data[name] = pl.Series(name, [network.values.get(name) for network in networks], pl.Float64)
    return pl.DataFrame(data)


def read_networks(source: str | Path | polars.DataFrame) -> polars.DataFrame:
    """Read a frame of networks, and name its columns as a study does.

    Columns of numbers are measures, all others are tags: a column ``arch`` of text becomes
    ``tag.arch``. A tag that holds numbers must have the prefix: ``tag.lr``.
    """
    import polars as pl

    name = "`frame`"
    if isinstance(source, pl.DataFrame):
        frame = source
    else:
        path = Path(source)
        name = f"`frame` {path}"
        if path.suffix not in (".parquet", ".csv"):
            raise UsageError(f"{name}: the name must end in .parquet or .csv.")
        readable = _check_source(path, name)
        try:
            # A name such as a[1].csv is not a pattern.
            frame = (
                pl.read_parquet(readable, glob=False)
                if path.suffix == ".parquet"
                else _read_csv(readable)
            )
        except Exception as error:  # polars has its own exceptions
            raise DataError(f"{name} cannot be read: {one_line(error)}.") from error
    if "id" not in frame.columns:
        raise DataError(
            f"{name} has no column id, which names the networks; it has "
            f"{list_names(frame.columns)}."
        )
    if frame["id"].null_count():
        raise DataError(f"{name}: {frame['id'].null_count()} rows have no id.")
    columns = [_normalise(column) for column in frame.iter_columns()]
    repeated = [name for name, n in Counter(column.name for column in columns).items() if n > 1]
    if repeated:
        raise DataError(
            f"{name}: the columns {repeated[0].removeprefix(TAG)} and {repeated[0]} are the same "
            "tag. Rename one of them."
        )
    frame = frame.select(columns)
    repeated_ids = frame.filter(frame["id"].is_duplicated())["id"].unique(maintain_order=True)
    if len(repeated_ids):
        raise DataError(f"{name}: the id {list_names(repeated_ids[:1])} occurs more than once.")
    return frame


def _check_source(path: Path, name: str) -> Path | BytesIO:
    """Return the path, or the checked content of a file that a list of checksums has."""
    try:
        check_finished(path.parent)
        listing = find_list(path)
        return path if listing is None else BytesIO(read_checked(path, *listing))
    except DataError as error:
        raise DataError(
            f"{name}: {error} To use a file that you changed on purpose, give it another name."
        ) from error


def _read_csv(source: Path | BytesIO) -> polars.DataFrame:
    """Read CSV, and remove the quotes of `write_csv`; ``nan`` and ``inf`` are numbers."""
    import polars as pl

    frame = from_spreadsheet(pl.read_csv(source, infer_schema_length=None, glob=False))
    for name in frame.columns:
        column = frame[name]
        if column.dtype == pl.String:
            numbers = column.cast(pl.Float64, strict=False)
            if numbers.null_count() == column.null_count():
                frame = frame.with_columns(numbers)
    return frame


def _normalise(column: polars.Series) -> polars.Series:
    """Convert a column to the name and type that it has in a study."""
    import polars as pl

    name = column.name
    if name in TEXTS or name.startswith(TAG):
        return column.cast(pl.String)
    if column.dtype.is_numeric():
        values = column.cast(pl.Float64)
        return values.set(~values.is_finite(), None)
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if column.dtype.is_nested():
        raise DataError(
            f"`frame`: column {name!r} holds {column.dtype}; one number or text per row is needed."
        )
    return column.cast(pl.String).alias(tag_column(name))


def join_networks(scored: polars.DataFrame, other: polars.DataFrame) -> polars.DataFrame:
    """Join two frames of networks by id.

    Where both have a value, that of `other` replaces that of `scored`; networks that only one of
    them has are kept.
    """
    import polars as pl

    new = "\0new"
    together = scored.join(
        other, on="id", how="full", coalesce=True, suffix=new, maintain_order="left_right"
    )
    both = [name for name in other.columns if name in scored.columns and name != "id"]
    for name in both:
        if scored[name].dtype != other[name].dtype:
            raise DataError(
                f"`frame`: column {name!r} holds {other[name].dtype}, but that of the scored "
                f"networks holds {scored[name].dtype}."
            )
    together = together.with_columns(
        pl.coalesce(f"{name}{new}", name).alias(name) for name in both
    ).drop(f"{name}{new}" for name in both)
    texts = [name for name in TEXTS if name in together.columns]
    tags = [name for name in together.columns if name.startswith(TAG)]
    numbers = [name for name in together.columns if name not in (*texts, *tags)]
    return together.select(*texts, *tags, *numbers)
