"""What a page shows of a study: its networks, and how measures correlate with the targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import polars as pl

from cnatool._util.documents import Document
from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text, printable, shorten
from cnatool.page.facts import Fact
from cnatool.page.packed import Packed, pack
from cnatool.page.samples import SEED
from cnatool.studying.columns import TAG, measure_kind
from cnatool.studying.results import StudyEstimate
from cnatool.studying.titles import is_percentage, measure_title

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.studying.results import StudyResult
    from cnatool.studying.study import Study

_LONGEST_ID = 120


class Column(msgspec.Struct, frozen=True):
    """One column of numbers of the networks.

    Attributes
    ----------
    name, title : str
        Of the column, and what readers call it.
    kind : str
        ``measure``, ``norm``, ``trivial``, or ``target``.
    share : bool
        Whether it is read in per cent.
    values : Packed
        NaN where a network has none.
    """

    name: str
    title: str
    kind: str
    share: bool
    values: Packed


class ColumnCorrelation(msgspec.Struct, frozen=True):
    """How a measure correlates with a target over all networks.

    Attributes
    ----------
    target, measure : str
        Their columns.
    networks : int
        That have both.
    pearson, spearman, kendall : StudyEstimate
        Pearson's r, Spearman's ρ and Kendall's τ-b.
    """

    target: str
    measure: str
    networks: int
    pearson: StudyEstimate
    spearman: StudyEstimate
    kendall: StudyEstimate


class StudyView(Document, frozen=True):
    """One study on a page.

    Attributes
    ----------
    kind : str
        ``study``.
    name, convention : str or None
        Its name on the page, and the convention behind the numbers.
    facts : tuple of Fact
        What was studied.
    total : int
        Networks of the study, of which the page may show some.
    ids : tuple of str
        The networks.
    stores : tuple of int or None
        The view of each network's store on the same page; None where it has none.
    tags : dict of str to tuple of str or None
        Tags of the networks by name.
    cluster : str or None
        The tag whose values are the clusters.
    columns : tuple of Column
        Numbers of the networks.
    targets : tuple of str
        The columns that measures are correlated with.
    correlations : tuple of ColumnCorrelation
        Over all networks.
    notes : tuple of str
        Remarks on the results.
    """

    kind: Literal["study"]
    name: str
    convention: str | None
    facts: tuple[Fact, ...]
    total: int
    ids: tuple[str, ...]
    stores: tuple[int | None, ...]
    tags: dict[str, tuple[str | None, ...]]
    cluster: str | None
    columns: tuple[Column, ...]
    targets: tuple[str, ...]
    correlations: tuple[ColumnCorrelation, ...]
    notes: tuple[str, ...]


def view_study(study: Study, name: str, views: Mapping[Path, int], most: int) -> StudyView:
    """Collect what the page shows of a study.

    Parameters
    ----------
    study : Study
        The study.
    name : str
        Its name on the page.
    views : mapping of Path to int
        The views of the stores on the same page.
    most : int
        Most networks to show, chosen at random, the same ones each time.
    """
    result = study.result
    frame = study.networks
    if len(frame) > most:
        drawn = np.random.default_rng(SEED).choice(len(frame), most, replace=False)
        frame = frame[np.sort(drawn)]
    paths = frame["path"].to_list() if "path" in frame.columns else [None] * len(frame)
    return StudyView(
        kind="study",
        name=name,
        convention=None if result.convention is None else str(result.convention),
        facts=tuple(Fact(*fact) for fact in _list_facts(study)),
        total=len(study.networks),
        ids=tuple(shorten(printable(network), _LONGEST_ID) for network in frame["id"]),
        stores=tuple(None if path is None else views.get(real_path(Path(path))) for path in paths),
        tags={
            printable(column.removeprefix(TAG)): tuple(
                None if value is None else shorten(printable(value), _LONGEST_ID)
                for value in frame[column]
            )
            for column in frame.columns
            if column.startswith(TAG)
        },
        cluster=None if result.settings.cluster is None else printable(result.settings.cluster),
        columns=tuple(_list_columns(frame, result)),
        targets=result.settings.targets,
        correlations=tuple(
            ColumnCorrelation(
                row.target, row.measure, row.networks, row.pearson, row.spearman, row.kendall_b
            )
            for row in result.correlations
            if row.group is None
        ),
        notes=(
            *result.notes,
            *(f"left out: {printable(s.path)}: {s.reason}" for s in result.not_scored),
        ),
    )


def _list_columns(frame: pl.DataFrame, result: StudyResult) -> Iterator[Column]:
    for column in frame.iter_columns():
        if column.dtype != pl.Float64 or not column.count():
            continue
        yield Column(
            name=column.name,
            title=measure_title(column.name),
            kind=_column_kind(column.name, result.settings.targets),
            share=is_percentage(column.name, result.convention),
            values=pack(column.fill_null(np.nan).to_numpy(), "f8"),
        )


def _column_kind(column: str, targets: tuple[str, ...]) -> str:
    return (None if column in targets else measure_kind(column)) or "target"


def _list_facts(study: Study) -> Iterator[tuple[str, str]]:
    result = study.result
    settings = result.settings
    yield "networks", f"{result.networks:,}"
    if settings.cluster is not None:
        yield "clusters", f"{count_text(result.clusters, 'value')} of {printable(settings.cluster)}"
    if settings.hyperparameters:
        yield "hyperparameters", ", ".join(map(printable, settings.hyperparameters))
    estimates = [row.pearson for row in result.correlations]
    if any(estimate.interval is not None for estimate in estimates):
        yield "intervals", f"{100 * settings.level:g} %, {settings.resamples:,} resamples"
    else:
        reasons = (estimate.interval_reason for estimate in estimates)
        why = next(filter(None, reasons), "there are no correlations")
        yield "intervals", f"none: {printable(why)}"
