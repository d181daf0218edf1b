"""What the columns of a study are called in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.report.style import inert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.metrics.convention import Gap
    from cnatool.results import ConventionResult

__all__ = ["COEFFICIENT_NAMES", "gap_title", "is_share", "measure_name"]

COEFFICIENT_NAMES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "kendall_a": "Kendall's τ-a",
    "kendall_b": "Kendall's τ-b",
}
_WHOLE: Mapping[str, str] = {
    "cna_area": "CNA-A",
    "cna_margin": "CNA-M",
    "margin": "margin γ",
    "gap": "generalisation gap",
    "gap_accuracy": "gap of accuracy",
    "gap_loss": "gap of loss (nats)",
    "log.l2": "ln L2",
    "log.spectral": "ln spectral norm",
    "log.l2_path": "ln L2-path",
    "log.bound_2018": "ln 2018 bound",
    "log.bound_2018_from_zero": "ln 2018 bound from 0",
    "log.parameter_norm": "ln parameter norm",
    "log.l1": "ln L1 norm",
    "log.distance": "ln distance from start",
    "log.parameters": "ln parameters",
    "log.depth": "ln depth",
}
_OF_SPLIT: Mapping[str, str] = {
    "cna": "CNA",
    "alpha.mean": "mean α",
    "alpha.std": "deviation of α",
    "beta.mean": "mean β",
    "beta.std": "deviation of β",
    "accuracy": "accuracy",
    "loss": "loss in nats",
}
_FORMS = ("pearson", "spearman", "kendall", "smoothed", "minibatches")
_GAPS: Mapping[Gap, str] = {
    "accuracy": "gap = accuracy(train) − accuracy(test)",
    "loss": "gap = |loss(train) − loss(test)| in nats",
}


def measure_name(column: str) -> str:
    """Name a column for people; one that is from elsewhere keeps its own name."""
    if column in _WHOLE:
        return _WHOLE[column]
    split, _, rest = column.partition(".")
    if rest in _OF_SPLIT:
        return f"{_OF_SPLIT[rest]} ({inert(split)})"
    if rest.removeprefix("cna.") in _FORMS and rest.startswith("cna."):
        return f"{rest.removeprefix('cna.')} CNA ({inert(split)})"
    return inert(column)


def gap_title(convention: ConventionResult | None) -> str:
    """Name the gap, in the form of the convention where that is known."""
    return "" if convention is None else _GAPS[convention.fields.gap]


def is_share(column: str, convention: ConventionResult | None) -> bool:
    """Say whether a column is a share, read in per cent."""
    if column == "gap":
        return convention is not None and convention.fields.gap == "accuracy"
    return column.endswith(".accuracy") or column == "gap_accuracy"
