"""The folder of a study, read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool.errors import DataError
from cnatool.studying.results import StudyResult
from cnatool.studying.study import Study
from cnatool.text import one_line

if TYPE_CHECKING:
    import polars

__all__ = ["is_study", "read_study"]

_NETWORKS, _RESULT = "networks.parquet", "study.json"


def is_study(place: str | Path) -> bool:
    """Say whether a folder looks like one that `cnatool.study` wrote."""
    return (Path(place) / _RESULT).is_file()


def read_study(folder: str | Path) -> Study:
    """Read what `cnatool.study` wrote into a folder.

    Raises
    ------
    DataError
        If a file is missing or is not what a study writes.
    """
    folder = Path(folder)
    path = folder / _RESULT
    try:
        result = msgspec.json.decode(path.read_bytes(), type=StudyResult)
        path = folder / _NETWORKS
        networks = _parquet(path)
    except Exception as error:  # polars raises its own kinds for what it cannot read
        why = error.strerror if isinstance(error, OSError) else None
        raise DataError(
            f"{path} cannot be read: {why or one_line(error)}. Run `cnatool study … -o {folder}` "
            "again."
        ) from error
    if len(networks) != result.networks or "id" not in networks.columns:
        raise DataError(
            f"{path} has {len(networks)} networks, and {_RESULT} beside it is of "
            f"{result.networks}. Run `cnatool study … -o {folder}` again."
        )
    return Study(networks, result, 0)


def _parquet(path: Path) -> polars.DataFrame:
    import polars as pl

    return pl.read_parquet(path)
