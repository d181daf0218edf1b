"""Writing results to a folder: tables as Parquet and CSV, a JSON document, and checksums."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cnatool._util.spreadsheets import write_csv
from cnatool._util.text import one_line
from cnatool.errors import CnatoolError, StoreWriteError, UsageError
from cnatool.store.format_table import find_store_around
from cnatool.studying.checksums import checksum_list, list_name
from cnatool.studying.replace import finish_replacing, replaced_results
from cnatool.studying.statistics.weighted import COEFFICIENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import polars

    from cnatool.studying.checksums import ResultKind
    from cnatool.studying.results import StudyEstimate, StudyResult


def check_folder(folder: Path) -> None:
    """Create a folder for results, and finish a replacement that a killed process left.

    Raises
    ------
    UsageError
        If the path is not a folder, or is a store or lies in one.
    StoreWriteError
        If something else is in the way, or the operating system refuses.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: this is no folder. Name another path.")
    if (folder / "zarr.json").exists():
        raise UsageError(f"-o {folder}: this is a Zarr store. Name another folder.")
    if (store := find_store_around(folder)) is not None:
        raise UsageError(f"-o {folder}: {store} is a store. Name a folder outside of it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish_replacing(folder)
    except CnatoolError:
        raise
    except OSError as error:
        raise _refused(folder, error.strerror or str(error)) from error


def write_results(
    folder: Path, tables: Mapping[str, polars.DataFrame], kind: ResultKind, document: str
) -> None:
    """Write frames as ``<key>.parquet`` and ``<key>.csv``, and a document as ``<kind>.json``.

    The list of their checksums is ``<kind>.sha256``. However this ends, the folder never mixes
    files of an earlier result with those of this one.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
    writers: dict[str, Callable[[Path], object]] = {}
    for key, table in tables.items():
        writers[f"{key}.parquet"] = table.write_parquet
        writers[f"{key}.csv"] = partial(write_csv, table)
    writers[f"{kind}.json"] = lambda path: path.write_text(document, "utf-8", newline="")
    name = ""
    try:
        with replaced_results(folder, kind) as new:
            for name, write in writers.items():
                write(new / name)
            name = list_name(kind)
            written = checksum_list({each: new / each for each in writers})
            (new / name).write_text(written, "utf-8", newline="")
    except CnatoolError:
        raise
    except Exception as error:  # polars raises its own kinds for what the system refuses
        why = error.strerror if isinstance(error, OSError) else None
        raise _refused(folder / name, why or one_line(error)) from error


def _refused(path: Path, why: str) -> StoreWriteError:
    return StoreWriteError(f"{path} cannot be written: {why}. Name another folder with -o.")


def write_study(networks: polars.DataFrame, result: StudyResult, folder: Path) -> None:
    """Write a study's files."""
    import polars as pl

    tables = {
        "networks": networks,
        "correlations": pl.DataFrame(list(_correlations(result)), schema=_CORRELATIONS),
        "hyperparameters": pl.DataFrame(list(_hyperparameters(result)), schema=_HYPERPARAMETERS),
        "differences": pl.DataFrame(list(_differences(result)), schema=_DIFFERENCES),
        "bins": _bins(result),
        "not-scored": pl.DataFrame(
            [(one.path, one.reason) for one in result.not_scored],
            schema={"path": pl.String, "reason": pl.String},
            orient="row",
        ),
    }
    write_results(folder, tables, "study", result.to_json())


_ESTIMATE = {"value": float, "low": float, "high": float, "reason": str, "interval_reason": str}
_CORRELATIONS = {
    "group": str,
    "target": str,
    "measure": str,
    "kind": str,
    "networks": int,
    "clusters": int,
    "coefficient": str,
    **_ESTIMATE,
}
_HYPERPARAMETERS = {
    "target": str,
    "measure": str,
    "kind": str,
    "networks": int,
    "statistic": str,
    "hyperparameter": str,
    **_ESTIMATE,
}
_DIFFERENCES = {
    "target": str,
    "first": str,
    "second": str,
    "coefficient": str,
    "networks": int,
    "clusters": int,
    "of": str,
    **_ESTIMATE,
}


def _estimate(found: StudyEstimate) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {
        "value": found.value,
        "low": low,
        "high": high,
        "reason": found.reason,
        "interval_reason": found.interval_reason,
    }


def _correlations(result: StudyResult) -> Iterator[dict[str, Any]]:
    for one in result.correlations:
        head = {name: getattr(one, name) for name in list(_CORRELATIONS)[:6]}
        for name in COEFFICIENTS:
            yield {**head, "coefficient": name, **_estimate(getattr(one, name))}
        fit = one.quadratic
        yield {**head, "coefficient": "quadratic_r2", "value": fit.r_squared, "reason": fit.reason}


def _hyperparameters(result: StudyResult) -> Iterator[dict[str, Any]]:
    for one in result.hyperparameters:
        head = {name: getattr(one, name) for name in list(_HYPERPARAMETERS)[:4]}
        yield {**head, "statistic": "psi", **_estimate(one.psi)}
        for name, part in one.psi_axes.items():
            yield {
                **head,
                "statistic": "psi",
                "hyperparameter": name,
                "value": part.value,
                "reason": part.reason,
            }
        yield {
            **head,
            "statistic": "information",
            "value": one.information.value,
            "reason": one.information.reason,
        }
        for axis, errors in ((None, one.sign_error), *one.sign_error_axes.items()):
            for name in ("mean", "percentile_90", "max"):
                yield {
                    **head,
                    "statistic": f"sign_error_{name}",
                    "hyperparameter": axis,
                    "value": getattr(errors, name),
                    "reason": errors.reason,
                }


def _differences(result: StudyResult) -> Iterator[dict[str, Any]]:
    for one in result.differences:
        head = {name: getattr(one, name) for name in list(_DIFFERENCES)[:6]}
        yield {**head, "of": "value", **_estimate(one.difference)}
        yield {**head, "of": "magnitude", **_estimate(one.magnitude)}


def _bins(result: StudyResult) -> polars.DataFrame:
    import polars as pl

    names = list(result.bins[0].means) if result.bins else []
    return pl.DataFrame(
        [
            {"bin": number, "networks": one.networks, "test.accuracy": one.accuracy, **one.means}
            for number, one in enumerate(result.bins)
        ],
        schema={"bin": int, "networks": int, "test.accuracy": float, **dict.fromkeys(names, float)},
    )
