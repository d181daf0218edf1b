"""Titles of the columns of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.metrics.convention import Convention

_NAMES: Mapping[str, str] = {
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
_SPLIT_NAMES: Mapping[str, str] = {
    "cna": "CNA",
    "alpha.mean": "mean α",
    "alpha.std": "deviation of α",
    "beta.mean": "mean β",
    "beta.std": "deviation of β",
    "accuracy": "accuracy",
    "loss": "loss in nats",
    "samples": "samples",
}
_CNA_FORMS: Mapping[str, str] = {
    "pearson": "Pearson CNA",
    "spearman": "Spearman CNA",
    "kendall": "Kendall CNA",
    "smoothed": "smoothed CNA",
    "minibatches": "CNA of minibatches",
    "fixed_length": "CNA at fixed length",
}


def measure_title(column: str) -> str:
    """Name a column for readers; a column from elsewhere keeps its name."""
    if column in _NAMES:
        return _NAMES[column]
    split, _, rest = column.partition(".")
    if rest in _SPLIT_NAMES:
        return f"{_SPLIT_NAMES[rest]} ({printable(split)})"
    if (form := rest.removeprefix("cna.")) != rest and form in _CNA_FORMS:
        return f"{_CNA_FORMS[form]} ({printable(split)})"
    return printable(column)


def is_percentage(column: str, convention: Convention | None) -> bool:
    """Whether a column is a share, read in per cent."""
    if column == "gap":
        return convention is not None and convention.fields.gap == "accuracy"
    return column.endswith(".accuracy") or column == "gap_accuracy"
