"""Results written to a folder: tables as Parquet and CSV, a JSON document, and checksums."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cnatool._util.spelling import spell
from cnatool._util.spreadsheets import write_csv
from cnatool._util.write_failures import make_write_error
from cnatool.errors import CnatoolError, UsageError
from cnatool.store.format_table import find_store_around
from cnatool.studying.checksums import list_checksums, list_name
from cnatool.studying.replace import finish_replacing, replace_results
from cnatool.studying.statistics.weighted import COEFFICIENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import polars

    from cnatool.studying.checksums import ResultKind
    from cnatool.studying.results import StudyEstimate, StudyResult


def check_folder(folder: Path) -> None:
    """Create a folder for results, and finish a replacement that a killed process left.

    Raise `UsageError` if the path is not a folder, or is a store or lies in one.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`folder` {folder}: not a folder. Name another path.")
    if (folder / "zarr.json").exists():
        raise UsageError(f"`folder` {folder}: this is a Zarr store. Name another folder.")
    if (store := find_store_around(folder)) is not None:
        raise UsageError(f"`folder` {folder}: {store} is a store. Name a folder outside of it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish_replacing(folder)
    except CnatoolError:
        raise
    except OSError as error:
        raise make_write_error(folder, error, "folder") from error


def write_results(
    folder: Path, tables: Mapping[str, polars.DataFrame], kind: ResultKind, document: str
) -> None:
    """Write frames as ``<key>.parquet`` and ``<key>.csv``, and a document as ``<kind>.json``.

    The list of their checksums is ``<kind>.sha256``. Even after a failure, the folder never mixes
    files of an earlier result with those of this one.
    """
    writers: dict[str, Callable[[Path], object]] = {}
    for key, table in tables.items():
        table = _spell_reasons(table)
        writers[f"{key}.parquet"] = table.write_parquet
        writers[f"{key}.csv"] = partial(write_csv, table)
    writers[f"{kind}.json"] = lambda path: path.write_text(document, "utf-8", newline="")
    name = ""
    try:
        with replace_results(folder, kind) as new:
            for name, write in writers.items():
                write(new / name)
            name = list_name(kind)
            written = list_checksums({each: new / each for each in writers})
            (new / name).write_text(written, "utf-8", newline="")
    except CnatoolError:
        raise
    except Exception as error:  # polars has its own exceptions
        raise make_write_error(folder / name, error, "folder") from error


def _spell_reasons(table: polars.DataFrame) -> polars.DataFrame:
    """Spell the parameters in a table's columns of reasons."""
    import polars as pl

    columns = [name for name in table.columns if name.endswith("reason")]
    return table.with_columns(
        table[name].cast(pl.String).map_elements(spell, return_dtype=pl.String) for name in columns
    )


def write_study(networks: polars.DataFrame, result: StudyResult, folder: Path) -> None:
    """Write the tables and the document of a study."""
    import polars as pl

    tables = {
        "networks": networks,
        "correlations": pl.DataFrame(list(_correlation_rows(result)), schema=_CORRELATIONS),
        "hyperparameters": pl.DataFrame(
            list(_hyperparameter_rows(result)), schema=_HYPERPARAMETERS
        ),
        "differences": pl.DataFrame(list(_difference_rows(result)), schema=_DIFFERENCES),
        "bins": _bins_frame(result),
        "not-scored": pl.DataFrame(
            [(store.path, store.reason) for store in result.not_scored],
            schema={"path": pl.String, "reason": pl.String},
            orient="row",
        ),
    }
    write_results(folder, tables, "study", result.to_json())


_ESTIMATE = {"value": float, "low": float, "high": float, "reason": str, "interval_reason": str}
_PLACE = {"target": str, "measure": str, "kind": str, "networks": int}
_CORRELATIONS = {"group": str, **_PLACE, "clusters": int, "coefficient": str, **_ESTIMATE}
_HYPERPARAMETERS = {**_PLACE, "statistic": str, "hyperparameter": str, **_ESTIMATE}
_DIFFERENCES = {
    **dict.fromkeys(("target", "first", "second", "coefficient"), str),
    **dict.fromkeys(("networks", "clusters"), int),
    "of": str,
    **_ESTIMATE,
}


def _fields(record: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _estimate(estimate: StudyEstimate) -> dict[str, Any]:
    low, high = estimate.interval or (None, None)
    return {"low": low, "high": high, **_fields(estimate, ("value", "reason", "interval_reason"))}


def _correlation_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    for correlation in result.correlations:
        head = _fields(correlation, ("group", *_PLACE, "clusters"))
        for name in COEFFICIENTS:
            yield {**head, "coefficient": name, **_estimate(getattr(correlation, name))}
        fit = correlation.quadratic
        yield {**head, "coefficient": "quadratic_r2", "value": fit.r_squared, "reason": fit.reason}


def _hyperparameter_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    for row in result.hyperparameters:
        head = _fields(row, _PLACE)
        yield {**head, "statistic": "psi", **_estimate(row.psi)}
        for axis, part in row.psi_axes.items():
            values = _fields(part, ("value", "reason"))
            yield {**head, "statistic": "psi", "hyperparameter": axis, **values}
        values = _fields(row.information, ("value", "reason"))
        yield {**head, "statistic": "information", **values}
        for sign_axis, errors in ((None, row.sign_error), *row.sign_error_axes.items()):
            for name in ("mean", "percentile_90", "max"):
                yield {
                    **head,
                    "statistic": f"sign_error_{name}",
                    "hyperparameter": sign_axis,
                    "value": getattr(errors, name),
                    "reason": errors.reason,
                }


def _difference_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    for row in result.differences:
        head = _fields(row, list(_DIFFERENCES)[:6])
        yield {**head, "of": "value", **_estimate(row.difference)}
        yield {**head, "of": "magnitude", **_estimate(row.magnitude)}


def _bins_frame(result: StudyResult) -> polars.DataFrame:
    import polars as pl

    names = list(result.bins[0].means) if result.bins else []
    return pl.DataFrame(
        [
            {"bin": number, "networks": row.networks, "test.accuracy": row.accuracy, **row.means}
            for number, row in enumerate(result.bins)
        ],
        schema={"bin": int, "networks": int, "test.accuracy": float, **dict.fromkeys(names, float)},
    )
