"""Checkpoints → series: scored as a study scores, in the order of training (paper Fig. 4, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.observer import Silent
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.studying.collect import collect, known_tags
from cnatool.studying.frame import networks_frame
from cnatool.studying.results import (
    RunResult,
    StepResult,
    StepSplit,
    TrajectoryResult,
)
from cnatool.studying.series import NO_TAG_NOTE, no_place, series_of
from cnatool.studying.write import check_folder, write_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import polars

    from cnatool._util.observer import Observer
    from cnatool.metrics.estimate import Cna, ResampledEstimate
    from cnatool.scoring.results import ScoreResult, SplitResult
    from cnatool.studying.collect import ScoredNetwork
    from cnatool.studying.series import Placed, Series


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Checkpoints of one or more runs, in order.

    Attributes
    ----------
    steps : polars.DataFrame
        One row a checkpoint: ``run``, ``step``, the columns of a study's networks, and the
        edges of intervals where some were asked for, as in ``test.cna.low``.
    error_by_alpha : polars.DataFrame
        One row for each checkpoint, split and group of samples by α: ``run``, ``step``, ``id``,
        ``split``, ``group`` (from 1, by rising α), ``samples``, ``alpha_min``, ``alpha_mean``,
        ``alpha_max``, ``error``, ``loss``; null where undefined.
    result : TrajectoryResult
        The same as typed records, with all reasons.
    reused : int
        Checkpoints whose scores had been kept.
    """

    steps: polars.DataFrame
    error_by_alpha: polars.DataFrame
    result: TrajectoryResult
    reused: int


def trajectory(
    stores: str | Path | Iterable[str | Path],
    *,
    order: str | None = None,
    by: str | None = None,
    folder: str | Path | None = None,
    test: str | Path | None = None,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    strict: bool = False,
    observer: Observer | None = None,
) -> Trajectory:
    """Score checkpoints along training, and put their numbers in order (paper Fig. 4, 6).

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores, and folders of stores. One that is missing, unfinished or broken is left out and
        listed in the result, with the reason.
    order : str, optional
        The tag whose number is the step. By default, of the tags other than ``seed``, the only one
        whose number differs from store to store within a run; where there is none, the order in
        which the stores are given, where one that is left out keeps its place.
    by : str, optional
        The tag that tells runs apart.
    folder : str or Path, optional
        Where scores are kept, the same as for `cnatool.study`, and all results are written.
    test, convention, overrides, output, inputs, strict, observer
        As of `cnatool.study`.

    Returns
    -------
    Trajectory

    Raises
    ------
    UsageError
        If a tag, the convention or a field does not exist, or the order is not clear.
    DataError
        If no store could be scored, or no run has two checkpoints.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be scored, and `strict`.
    """
    places = [stores] if isinstance(stores, str | Path) else list(stores)
    every = known_tags(places)

    def excluded(tags: Mapping[str, str]) -> str | None:
        return no_place(tags, every.values(), order=order, by=by)

    known = {name: tags for name, tags in every.items() if excluded(tags) is None}
    if len(known) > 1:
        # An order that is not clear is refused before the first store is scored.
        series_of(list(known), list(known.values()), order=order, by=by)
    where = None if folder is None else Path(folder)
    if where is not None:
        check_folder(where)
    collection = collect(
        places,
        folder=where,
        test=test,
        convention=Convention.named(convention, overrides),
        output=output,
        observer=Silent() if observer is None else observer,
        inputs=inputs,
        strict=strict,
        excluded=excluded,
    )
    networks = collection.networks
    if not networks:
        raise collection.omissions.too_few("no network could be scored")
    known |= {one.id: one.tags for one in networks}
    # Stores that are left out count for the order too, so that no step of the others changes.
    names = [name for name in collection.ids if name in known or name not in every]
    placed = series_of(names, [known.get(name) for name in names], order=order, by=by)
    numbers = {name: number for number, name in enumerate(names)}
    series = placed.among([numbers[one.id] for one in networks])
    runs = tuple(_run_results(networks, series))
    result = TrajectoryResult(
        schema="cnatool.trajectory/1",
        convention=collection.convention,
        order=series.order,
        by=by,
        runs=runs,
        not_scored=collection.not_scored,
        notes=tuple(_notes(networks, series)),
    )
    found = Trajectory(
        _steps_frame(networks, series.placed),
        _error_by_alpha_frame(runs),
        result,
        collection.reused,
    )
    if where is not None:
        tables = {"steps": found.steps, "error_by_alpha": found.error_by_alpha}
        write_results(where, tables, "trajectory", result.to_json())
    return found


def _by_run(placed: Sequence[Placed]) -> dict[str | None, list[Placed]]:
    runs: dict[str | None, list[Placed]] = {}
    for one in placed:
        runs.setdefault(one.run, []).append(one)
    return runs


def _run_results(networks: Sequence[ScoredNetwork], series: Series) -> Iterator[RunResult]:
    for name, inside in _by_run(series.placed).items():
        yield RunResult(name, tuple(_step_result(networks[one.number], one.step) for one in inside))


def _step_result(network: ScoredNetwork, step: float) -> StepResult:
    score = network.score
    return StepResult(
        step=step,
        id=network.id,
        path=network.path,
        model=network.model,
        tags=network.tags,
        splits={name: _step_split(split) for name, split in score.splits.items()},
        gap=score.gap,
        cna_area=score.cna_area,
        margin=score.margin,
        cna_margin=score.cna_margin,
    )


def _step_split(split: SplitResult) -> StepSplit:
    return StepSplit(
        samples=split.samples,
        accuracy=split.accuracy,
        loss=split.loss,
        performance_reason=split.performance_reason,
        cna=split.cna,
        alpha_groups=split.alpha_groups,
    )


def _steps_frame(networks: Sequence[ScoredNetwork], placed: Sequence[Placed]) -> polars.DataFrame:
    import polars as pl

    frame = networks_frame([networks[one.number] for one in placed])
    run = pl.Series("run", [one.run for one in placed], pl.String)
    step = pl.Series("step", [one.step for one in placed], pl.Float64)
    edges = [_edges(networks[one.number].score) for one in placed]
    columns = [
        pl.Series(name, [one.get(name) for one in edges], pl.Float64)
        for name in dict.fromkeys(name for one in edges for name in one)
    ]
    return frame.select(run, step, pl.all(), *columns)


def _edges(score: ScoreResult) -> dict[str, float | None]:
    """Give the edges of each interval by column; None where there is no interval."""
    found: dict[str, Cna | ResampledEstimate] = {
        **{f"{name}.cna": split.cna for name, split in score.splits.items()},
        "cna_area": score.cna_area,
        "cna_margin": score.cna_margin,
    }
    return {
        f"{name}.{edge}": value
        for name, one in found.items()
        for edge, value in zip(("low", "high"), one.interval or (None, None), strict=True)
    }


def _error_by_alpha_frame(runs: Sequence[RunResult]) -> polars.DataFrame:
    import polars as pl

    numbers = ("alpha_min", "alpha_mean", "alpha_max", "error", "loss")
    return pl.DataFrame(
        [
            (
                *(run.name, one.step, one.id, name, number, group.samples),
                *(getattr(group, column) for column in numbers),
            )
            for run in runs
            for one in run.steps
            for name, split in one.splits.items()
            for number, group in enumerate(split.alpha_groups, start=1)
        ],
        schema={
            "run": pl.String,
            "step": pl.Float64,
            "id": pl.String,
            "split": pl.String,
            "group": pl.Int64,
            "samples": pl.Int64,
            **dict.fromkeys(numbers, pl.Float64),
        },
        orient="row",
    )


def _notes(networks: Sequence[ScoredNetwork], series: Series) -> Iterator[str]:
    if series.order is None:
        yield NO_TAG_NOTE
    for run, inside in _by_run(series.placed).items():
        where = "" if run is None else f"run {run}: "
        some = [networks[one.number] for one in inside]
        if len({one.score.layers for one in some}) > 1:
            yield f"{where}the layers that β is over are not the same at all steps"
        for name in dict.fromkeys(name for one in some for name in one.score.splits):
            data = {one.fingerprints.get(name) for one in some}
            if len(data) > 1:
                yield f"{where}the samples of split {name} are not the same at all steps"
