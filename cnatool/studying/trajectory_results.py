"""What a series of checkpoints gives: typed results, the same whether printed or as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool.metrics.convention import Convention
from cnatool.metrics.estimate import Cna, Estimate, ResampledEstimate
from cnatool.scoring.results import AlphaGroup
from cnatool.studying.results import NotScored


class StepSplit(msgspec.Struct, frozen=True):
    """A split at one step.

    Attributes
    ----------
    samples : int
        Rows that were scored.
    accuracy, loss : float or None
        Share of right predictions, and mean cross-entropy in nats; None where undefined.
    performance_reason : str or None
        Why there is no accuracy or no loss.
    cna : Cna
        Correlation of α and β, by the coefficient that the convention names; with an interval
        where one was asked for.
    alpha_groups : tuple of AlphaGroup
        The split by quantiles of α, lowest first (paper Fig. 6).
    """

    samples: int
    accuracy: float | None
    loss: float | None
    performance_reason: str | None
    cna: Cna
    alpha_groups: tuple[AlphaGroup, ...]


class StepResult(msgspec.Struct, frozen=True):
    """One checkpoint of a run (paper Fig. 4).

    Attributes
    ----------
    step : float
        Its place in the run.
    id, path : str
        Its name, and its store.
    model : str or None
        SHA-256 of the model's file.
    tags : dict of str to str
        The store's tags.
    splits : dict of str to StepSplit
        Its splits.
    gap : Estimate
        Generalisation gap, in the form that the convention names.
    cna_area : ResampledEstimate
        CNA-A between train and test.
    margin : Estimate
        γ of the training split.
    cna_margin : ResampledEstimate
        CNA-M = γ · CNA-A.
    """

    step: float
    id: str
    path: str
    model: str | None
    tags: dict[str, str]
    splits: dict[str, StepSplit]
    gap: Estimate
    cna_area: ResampledEstimate
    margin: Estimate
    cna_margin: ResampledEstimate


class RunResult(msgspec.Struct, frozen=True):
    """A run: its checkpoints in order.

    Attributes
    ----------
    name : str or None
        Value of the tag `by`; None where there is but one run.
    steps : tuple of StepResult
        By rising step.
    """

    name: str | None
    steps: tuple[StepResult, ...]


class TrajectoryResult(Document, frozen=True):
    """Everything `cnatool trajectory` says of checkpoints.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    convention : Convention
        What all stores were scored by.
    order : str or None
        The tag whose number is the step; None where steps are the places in which the stores were
        given, from 1.
    by : str or None
        The tag that tells runs apart.
    runs : tuple of RunResult
        The runs.
    not_scored : tuple of NotScored
        Stores that have no step.
    notes : tuple of str
        What a reader of these numbers should know beside them.
    """

    schema: Literal["cnatool.trajectory/1"]
    convention: Convention
    order: str | None
    by: str | None
    runs: tuple[RunResult, ...]
    not_scored: tuple[NotScored, ...]
    notes: tuple[str, ...]
