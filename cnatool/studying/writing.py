"""The files of a study: frames as Parquet and CSV, and the result as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool.studying.coefficients import COEFFICIENTS
from cnatool.studying.files import write_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars

    from cnatool.studying.results import StudyEstimate, StudyResult

__all__ = ["write_study"]


def write_study(networks: polars.DataFrame, result: StudyResult, folder: Path) -> None:
    """Write a study's files.

    Raises
    ------
    StoreWriteError
        If the operating system refuses.
    """
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
