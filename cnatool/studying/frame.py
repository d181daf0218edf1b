"""The frame of networks: one row each, from stores, from elsewhere, or from both."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.spreadsheets import from_spreadsheet
from cnatool._util.text import list_names, one_line
from cnatool.errors import DataError, UsageError
from cnatool.studying.checksums import checked_bytes, listing_of
from cnatool.studying.columns import TAG, TEXTS, tag_column
from cnatool.studying.replace import check_finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from cnatool.studying.collect import ScoredNetwork


def networks_frame(networks: Sequence[ScoredNetwork]) -> polars.DataFrame:
    """Make the frame of scored networks."""
    import polars as pl

    tags = sorted({tag for one in networks for tag in one.tags})
    columns = list(dict.fromkeys(column for one in networks for column in one.values))
    data: dict[str, polars.Series] = {
        name: pl.Series(name, [getattr(one, name) for one in networks], pl.String) for name in TEXTS
    }
    for tag in tags:
        name = tag_column(tag)
        data[name] = pl.Series(name, [one.tags.get(tag) for one in networks], pl.String)
    for name in columns:
        data[name] = pl.Series(name, [one.values.get(name) for one in networks], pl.Float64)
    return pl.DataFrame(data)


def frame_from(source: str | Path | polars.DataFrame) -> polars.DataFrame:
    """Read a frame of networks from elsewhere, with the columns that a study knows.

    Numbers are measures, everything else is a tag: a column ``arch`` of text becomes
    ``tag.arch``. A tag in numbers must be called so: ``tag.lr``.
    """
    import polars as pl

    name = "--from"
    if isinstance(source, pl.DataFrame):
        frame = source
    else:
        path = Path(source)
        name = f"--from {path}"
        if path.suffix not in (".parquet", ".csv"):
            raise UsageError(f"{name}: the name must end in .parquet or .csv.")
        given = _given(path, name)
        try:
            # A name such as a[1].csv is no pattern.
            frame = pl.read_parquet(given, glob=False) if path.suffix == ".parquet" else _csv(given)
        except Exception as error:  # polars raises its own kinds for what it cannot read
            raise DataError(f"{name} cannot be read: {one_line(error)}.") from error
    if "id" not in frame.columns:
        raise DataError(
            f"{name} has no column id, which names the networks; it has "
            f"{list_names(frame.columns)}."
        )
    if frame["id"].null_count():
        raise DataError(f"{name}: {frame['id'].null_count()} rows have no id.")
    columns = [_known(column) for column in frame.iter_columns()]
    twice = [name for name, count in Counter(one.name for one in columns).items() if count > 1]
    if twice:
        raise DataError(
            f"{name}: the columns {twice[0].removeprefix(TAG)} and {twice[0]} are both a tag, and "
            "the same one."
        )
    frame = frame.select(columns)
    double = frame.filter(frame["id"].is_duplicated())["id"].unique(maintain_order=True)
    if len(double):
        raise DataError(f"{name}: the id {list_names(double[:1])} is there more than once.")
    return frame


def _given(path: Path, name: str) -> Path | BytesIO:
    """Give what polars should read: the path, or the checked bytes of a file that is listed."""
    try:
        check_finished(path.parent)
        listing = listing_of(path)
        return path if listing is None else BytesIO(checked_bytes(path, *listing))
    except DataError as error:
        raise DataError(
            f"{name}: {error} To use a file that you changed on purpose, give it another name."
        ) from error


def _csv(source: Path | BytesIO) -> polars.DataFrame:
    """Read CSV, and undo the quoting of `write_csv`; ``nan`` and ``inf`` are numbers."""
    import polars as pl

    frame = from_spreadsheet(pl.read_csv(source, infer_schema_length=None, glob=False))
    for name in frame.columns:
        column = frame[name]
        if column.dtype == pl.String:
            numbers = column.cast(pl.Float64, strict=False)
            if numbers.null_count() == column.null_count():
                frame = frame.with_columns(numbers)
    return frame


def _known(column: polars.Series) -> polars.Series:
    """Give a column under the name and of the type that a study has it."""
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
            f"--from: column {name!r} holds {column.dtype}; a number or a text a row is needed."
        )
    return column.cast(pl.String).alias(tag_column(name))


def joined(scored: polars.DataFrame, other: polars.DataFrame) -> polars.DataFrame:
    """Join two frames of networks by id.

    Where both have a value of one column, that of `other` replaces that of `scored`; networks that
    only one has are kept.
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
                f"--from: column {name!r} holds {other[name].dtype}, and the scored networks have "
                f"{scored[name].dtype} there."
            )
    together = together.with_columns(
        pl.coalesce(f"{name}{new}", name).alias(name) for name in both
    ).drop(f"{name}{new}" for name in both)
    texts = [name for name in TEXTS if name in together.columns]
    tags = [name for name in together.columns if name.startswith(TAG)]
    numbers = [name for name in together.columns if name not in (*texts, *tags)]
    return together.select(*texts, *tags, *numbers)
