"""Studies, trajectories and landscapes as notebooks show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util import svg
from cnatool._util.html import Markup, card, notes, number, table
from cnatool._util.text import count_text
from cnatool.studying.columns import is_variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars

    from cnatool.studying.landscape import Landscape
    from cnatool.studying.results import (
        LandscapeResult,
        MeasureCorrelation,
        NotScored,
        StudyResult,
        TrajectoryResult,
    )
    from cnatool.studying.study import Study
    from cnatool.studying.trajectory import Trajectory

_TEST = "test"


def study_html(study: Study) -> str:
    """Show how measures correlate with each target, and the networks by the strongest one."""
    return _study(study.result, study.networks)


def study_result_html(result: StudyResult) -> str:
    """Show how measures correlate with each target."""
    return _study(result, None)


def _study(result: StudyResult, networks: polars.DataFrame | None) -> str:
    tables = []
    for target in result.settings.targets:
        shown = [
            each
            for each in result.correlations
            if each.target == target and each.group is None and not is_variant(each.measure)
        ]
        tables.append(_correlations_table(target, shown))
        if networks is not None:
            tables.append(_networks_chart(target, shown, networks))
    clusters = result.settings.cluster
    cluster = "" if clusters is None else f", {result.clusters} clusters by {clusters}"
    return card(
        f"cnatool study of {count_text(result.networks, 'network')}{cluster}",
        [_convention(result.convention), _left_out(result.not_scored)],
        *tables,
        notes([*result.notes, *_without_interval(result)]),
    )


def _without_interval(result: StudyResult) -> Iterator[str]:
    """Yield the reasons why correlations have no interval."""
    estimates = (each.pearson for each in result.correlations if each.group is None)
    reasons = (each.interval_reason for each in estimates if each.interval_reason is not None)
    yield from (f"no interval: {reason}" for reason in dict.fromkeys(reasons))


def _convention(convention: object) -> str:
    return "" if convention is None else f"convention {convention}"


def _left_out(stores: tuple[NotScored, ...]) -> str:
    return f"{count_text(len(stores), 'store')} not scored" if stores else ""


def _correlations_table(target: str, correlations: list[MeasureCorrelation]) -> Markup:
    rows = [
        [
            each.measure,
            each.networks,
            number(each.pearson.value, each.pearson.reason),
            svg.interval(each.pearson.value, each.pearson.interval),
            number(each.kendall_b.value, each.kendall_b.reason),
            svg.interval(each.kendall_b.value, each.kendall_b.interval),
        ]
        for each in correlations
        if each.pearson.value is not None
    ]
    names = (f"with {target}", "n", "Pearson", "−1 … 1", "Kendall τ-b", "−1 … 1")
    return table(names, "lrrlrl", rows)


def _networks_chart(
    target: str, correlations: list[MeasureCorrelation], networks: polars.DataFrame
) -> Markup:
    """Draw the networks by the measure that follows a target best."""
    defined = [
        (abs(each.kendall_b.value), each.measure)
        for each in correlations
        if each.kendall_b.value is not None and each.kind == "measure"
    ]
    if not defined:
        return Markup("")
    _, measure = max(defined, key=lambda pair: pair[0])
    points = networks.select(measure, target).drop_nulls().rows()
    return svg.scatter({"networks": points}, measure, f"{target} by {measure}")


def trajectory_html(trajectory: Trajectory) -> str:
    """Show the last step of each run, and accuracy and CNA over the steps."""
    return trajectory_result_html(trajectory.result)


def trajectory_result_html(result: TrajectoryResult) -> str:
    """Show the last step of each run, and accuracy and CNA over the steps."""
    rows = []
    for run in result.runs:
        last = run.steps[-1]
        test = last.splits.get(_TEST) or next(iter(last.splits.values()))
        rows.append(
            [
                run.name or "",
                len(run.steps),
                f"{last.step:.12g}",
                number(test.accuracy, test.performance_reason),
                number(test.cna.value, test.cna.reason),
                number(last.cna_area.value, last.cna_area.reason),
                number(last.gap.value, last.gap.reason),
            ]
        )
    names = (result.by or "run", "steps", "last step", "accuracy", "CNA", "CNA-A", "gap")
    runs = count_text(len(result.runs), "run")
    return card(
        f"cnatool trajectory of {runs}",
        [_convention(result.convention), _left_out(result.not_scored)],
        table(names, "lrrrrrr", rows),
        *_trajectory_charts(result),
        notes(result.notes),
    )


def _trajectory_charts(result: TrajectoryResult) -> list[Markup]:
    step = result.order or "step"
    accuracies: dict[str, list[tuple[float, float]]] = {}
    correlations: dict[str, list[tuple[float, float]]] = {}
    for number_, run in enumerate(result.runs, start=1):
        name = run.name or f"run {number_}"
        for each in run.steps:
            test = each.splits.get(_TEST) or next(iter(each.splits.values()))
            if test.accuracy is not None:
                accuracies.setdefault(name, []).append((each.step, test.accuracy))
            if test.cna.value is not None:
                correlations.setdefault(name, []).append((each.step, test.cna.value))
    return [svg.lines(accuracies, step, "accuracy"), svg.lines(correlations, step, "CNA")]


def landscape_html(landscape: Landscape) -> str:
    """Show the checkpoints in the plane of the landscape."""
    return landscape_result_html(landscape.result)


def landscape_result_html(result: LandscapeResult) -> str:
    """Show the checkpoints in the plane of the landscape."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for point in result.points:
        runs.setdefault(point.run or "run", []).append((point.x, point.y))
    shares = " and ".join(f"{share:.1%}" for share in result.variance_shares[:2])
    rows = [
        [
            point.run or "",
            f"{point.step:.12g}",
            number(point.cna.value, point.cna.reason),
            number(point.cna_projected.value, point.cna_projected.reason),
        ]
        for point in result.points
    ]
    names = (result.by or "run", result.order or "step", "CNA", "CNA in the plane")
    return card(
        f"cnatool landscape of {count_text(len(result.points), 'checkpoint')}",
        [
            _convention(result.convention),
            f"{count_text(result.samples, 'sample')} of {result.split}; the plane captures "
            f"{shares} of the variance",
            _left_out(result.not_scored),
        ],
        table(names, "lrrr", rows),
        svg.lines(runs, "first component", "second component"),
        notes(result.notes),
    )
