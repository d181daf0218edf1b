"""Checkpoints over training, scored and in order (paper Fig. 4, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.html import shown_by
from cnatool._util.observer import Silent
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.studying.collect import collect, read_tags
from cnatool.studying.frame import build_frame
from cnatool.studying.results import RunResult, StepResult, StepSplit, TrajectoryResult
from cnatool.studying.series import NO_TAG_NOTE, explain_exclusion, order_checkpoints
from cnatool.studying.write import check_folder, write_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import polars

    from cnatool._util.observer import Observer
    from cnatool.metrics.estimate import Cna, ResampledEstimate
    from cnatool.scoring.results import ScoreResult
    from cnatool.studying.collect import ScoredNetwork
    from cnatool.studying.series import Checkpoint, Series


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Checkpoints of one or more runs, in order.

    Attributes
    ----------
    steps : polars.DataFrame
        One row per checkpoint: ``run``, ``step``, the columns of a study's networks, and, if the
        convention has resamples, the bounds of intervals, such as ``test.cna.low``.
    error_by_alpha : polars.DataFrame
        One row per checkpoint, split and group of samples by α: ``run``, ``step``, ``id``,
        ``split``, ``group`` (from 1, by rising α), ``samples``, ``alpha_min``, ``alpha_mean``,
        ``alpha_max``, ``error``, ``loss``; null where undefined.
    result : TrajectoryResult
        The same as typed records, with all reasons.
    reused : int
        Checkpoints whose scores were taken from the folder.
    """

    steps: polars.DataFrame
    error_by_alpha: polars.DataFrame
    result: TrajectoryResult
    reused: int

    def __repr__(self) -> str:
        return repr(self.result)

    _repr_html_ = shown_by("cnatool.studying.html", "trajectory_html")


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
    """Score checkpoints along training, and return the scores in order (paper Fig. 4, 6).

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores, and folders of stores. A store that is missing, unfinished or damaged is skipped and
        listed in the result with the reason.
    order : str, optional
        The tag whose value is the step, a number. By default the only tag other than ``seed`` whose
        number differs from store to store within a run; if there is none, the order in which the
        stores are given, where a store that is skipped keeps its position.
    by : str, optional
        The tag that separates runs.
    folder : str or Path, optional
        Where scores are kept, as in `cnatool.study`, and all results are written.
    test, convention, overrides, output, inputs, strict, observer
        As in `cnatool.study`.

    Returns
    -------
    Trajectory

    Raises
    ------
    UsageError
        If a tag, the convention or a field does not exist, or the order is ambiguous.
    DataError
        If no store could be scored, or no run has two checkpoints.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be scored and `strict` is set.
    """
    places = [stores] if isinstance(stores, str | Path) else list(stores)
    tags = read_tags(places)

    def exclude(store_tags: Mapping[str, str]) -> str | None:
        return explain_exclusion(store_tags, tags.values(), order=order, by=by)

    known = {name: store_tags for name, store_tags in tags.items() if exclude(store_tags) is None}
    if len(known) > 1:
        # An ambiguous order is refused before the first store is scored.
        order_checkpoints(list(known), list(known.values()), order=order, by=by)
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
        exclude=exclude,
    )
    networks = collection.networks
    if not networks:
        raise collection.omissions.too_few("no network could be scored")
    known |= {network.id: network.tags for network in networks}
    # Stores that are left out count in the order too, so that the steps of the others stay.
    names = [name for name in collection.ids if name in known or name not in tags]
    whole = order_checkpoints(names, [known.get(name) for name in names], order=order, by=by)
    numbers = {name: number for number, name in enumerate(names)}
    series = whole.select([numbers[network.id] for network in networks])
    runs = tuple(
        RunResult(name, tuple(_make_step(networks[c.number], c.step) for c in checkpoints))
        for name, checkpoints in _group_by_run(series.checkpoints).items()
    )
    result = TrajectoryResult(
        schema="cnatool.trajectory/1",
        convention=collection.convention,
        order=series.order,
        by=by,
        runs=runs,
        not_scored=tuple(collection.omissions.stores),
        notes=(*collection.notes, *_write_notes(networks, series)),
    )
    steps = _build_steps_frame(networks, series.checkpoints)
    errors = _build_error_frame(runs)
    if where is not None:
        tables = {"steps": steps, "error_by_alpha": errors}
        write_results(where, tables, "trajectory", result.to_json())
    return Trajectory(steps, errors, result, collection.reused)


def _group_by_run(checkpoints: Sequence[Checkpoint]) -> dict[str | None, list[Checkpoint]]:
    runs: dict[str | None, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        runs.setdefault(checkpoint.run, []).append(checkpoint)
    return runs


def _make_step(network: ScoredNetwork, step: float) -> StepResult:
    score = network.score
    return StepResult(
        step=step,
        id=network.id,
        path=network.path,
        model=network.model,
        tags=network.tags,
        splits={
            name: StepSplit(*(getattr(split, field) for field in StepSplit.__struct_fields__))
            for name, split in score.splits.items()
        },
        gap=score.gap,
        cna_area=score.cna_area,
        margin=score.margin,
        cna_margin=score.cna_margin,
    )


def _build_steps_frame(
    networks: Sequence[ScoredNetwork], checkpoints: Sequence[Checkpoint]
) -> polars.DataFrame:
    import polars as pl

    frame = build_frame([networks[c.number] for c in checkpoints])
    run = pl.Series("run", [c.run for c in checkpoints], pl.String)
    step = pl.Series("step", [c.step for c in checkpoints], pl.Float64)
    bounds = [_list_bounds(networks[c.number].score) for c in checkpoints]
    columns = [
        pl.Series(name, [row.get(name) for row in bounds], pl.Float64)
        for name in dict.fromkeys(name for row in bounds for name in row)
    ]
    return frame.select(run, step, pl.all(), *columns)


def _list_bounds(score: ScoreResult) -> dict[str, float | None]:
    """Return the bounds of each interval by column; None where there is no interval."""
    estimates: dict[str, Cna | ResampledEstimate] = {
        **{f"{name}.cna": split.cna for name, split in score.splits.items()},
        "cna_area": score.cna_area,
        "cna_margin": score.cna_margin,
    }
    return {
        f"{name}.{bound}": value
        for name, estimate in estimates.items()
        for bound, value in zip(("low", "high"), estimate.interval or (None, None), strict=True)
    }


def _build_error_frame(runs: Sequence[RunResult]) -> polars.DataFrame:
    import polars as pl

    numbers = ("alpha_min", "alpha_mean", "alpha_max", "error", "loss")
    return pl.DataFrame(
        [
            (
                *(run.name, step.step, step.id, name, number, group.samples),
                *(getattr(group, column) for column in numbers),
            )
            for run in runs
            for step in run.steps
            for name, split in step.splits.items()
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


def _write_notes(networks: Sequence[ScoredNetwork], series: Series) -> Iterator[str]:
    if series.order is None:
        yield NO_TAG_NOTE
    for run, checkpoints in _group_by_run(series.checkpoints).items():
        where = "" if run is None else f"run {run}: "
        members = [networks[c.number] for c in checkpoints]
        if len({network.score.layers for network in members}) > 1:
            yield f"{where}the layers behind β differ between steps"
        for name in dict.fromkeys(name for network in members for name in network.score.splits):
            if len({network.fingerprints.get(name) for network in members}) > 1:
                yield f"{where}the samples of split {name} differ between steps"
