"""CNA and test accuracy over networks, in bins by accuracy (paper Fig. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool.errors import DataError
from cnatool.plotting.figures.of_networks import (
    column_axis,
    describe_intervals,
    describe_networks,
    encode_groups,
    find_correlation,
    select_measures,
    select_networks,
)
from cnatool.plotting.style import (
    FAINT,
    INK,
    coefficient_text,
    concat_panels,
    finished,
    free_scale,
    measure_name,
    panel_title,
    spread,
)
from cnatool.studying.columns import TARGETS
from cnatool.studying.statistics.curves import evaluate_fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study

_USUAL = ("train.cna", "test.cna")
_COLUMNS = 2
_ACCURACY = TARGETS[0]
# A fit that explains less of the variance must not look like a finding.
_WEAK = 0.25
_LINE: Mapping[str, Any] = {"strokeWidth": 1.4}
_THIN: Mapping[str, Any] = {"strokeWidth": 0.7, "strokeDash": [3, 3], "opacity": 0.6}


def bins(studies: Sequence[Study], options: Options) -> Chart:
    """Draw test accuracy over a measure: networks, means of bins, and the quadratic fit."""
    (study,) = studies
    measures = select_measures(study, options.measure, _USUAL)
    panels = [_panel(study, measure, options) for measure in measures]
    sizes = [one.networks for one in study.result.bins] or [0]
    size = f"{sizes[0]} networks" + (f" (the last {sizes[-1]})" if sizes[-1] != sizes[0] else "")
    columns = min(_COLUMNS, len(panels))
    return finished(
        concat_panels(panels, columns, color="shared", shape="shared"),
        "Test accuracy over many networks",
        (
            *describe_networks(study),
            f"large: means over bins of {size} by rising test accuracy",
            _fit_text([_correlation(study, measure) for measure in measures]),
            describe_intervals(
                study, "[ ]", [_correlation(study, measure) for measure in measures]
            ),
        ),
        width=spread(columns, options.width),
    )


def _is_weak(found: MeasureCorrelation) -> bool:
    r_squared = found.quadratic.r_squared
    return r_squared is not None and r_squared < _WEAK


def _fit_text(found: Sequence[MeasureCorrelation]) -> str:
    text = "line: quadratic fit over all networks"
    return f"{text}, thin and dashed where R² < {_WEAK}" if any(map(_is_weak, found)) else text


def _correlation(study: Study, measure: str) -> MeasureCorrelation:
    return find_correlation(study, _ACCURACY, measure)


def _panel(study: Study, measure: str, options: Options) -> Any:
    import altair as alt
    import polars as pl

    found = _correlation(study, measure)
    networks = select_networks(study, (measure, _ACCURACY), options.by)
    if not len(networks):
        raise DataError(f"no network has both {measure} and {_ACCURACY}.")
    means = pl.DataFrame(
        [
            (one.means[measure], one.accuracy, one.networks)
            for one in study.result.bins
            if one.means[measure] is not None
        ],
        schema={"mean": pl.Float64, "accuracy": pl.Float64, "networks": pl.Int64},
        orient="row",
    )
    values = study.networks[measure].drop_nulls().to_list()
    at, fitted = evaluate_fit(found.quadratic, min(values), max(values))
    fit = pl.DataFrame({"measure": at, "fit": fitted})
    y_axis = column_axis(study, _ACCURACY)
    points = (
        alt.Chart(networks)
        .mark_point(filled=True, size=22, opacity=0.75)
        .encode(
            x=alt.X(
                "v0:Q", title=measure_name(measure), scale=free_scale(), axis=alt.Axis(tickCount=6)
            ),
            y=alt.Y("v1:Q", title="test accuracy", scale=free_scale(), axis=y_axis),
            tooltip=["id:N", "v0:Q", alt.Tooltip("v1:Q", format=".2%")],
            **encode_groups(networks, options.by, FAINT),
        )
    )
    line = (
        alt.Chart(fit)
        .mark_line(color=INK, clip=True, **(_THIN if _is_weak(found) else _LINE))
        .encode(x=alt.X("measure:Q"), y=alt.Y("fit:Q"))
    )
    bin_points = (
        alt.Chart(means)
        .mark_point(filled=True, size=110, color=INK, stroke="white", strokeWidth=1, opacity=1)
        .encode(x="mean:Q", y="accuracy:Q", tooltip=["networks:Q", "mean:Q", "accuracy:Q"])
    )
    r = found.pearson
    told = (
        f"r = {coefficient_text(r.value, r.interval)}"
        if r.value is not None
        else f"r undefined: {r.reason}"
    )
    r2 = found.quadratic.r_squared
    return alt.layer(points, line, bin_points).properties(
        width=options.width,
        height=options.height,
        title=panel_title(
            measure_name(measure),
            told,
            f"fit R² = {coefficient_text(r2)}, n = {found.networks:,}"
            if r2 is not None
            else f"n = {found.networks:,}",
        ),
    )
