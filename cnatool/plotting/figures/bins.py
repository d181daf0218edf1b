"""Test accuracy over measures of networks, with means over bins by accuracy (paper Fig. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from cnatool._util.text import count_text
from cnatool.plotting.figures.of_networks import (
    axis_format,
    describe_intervals,
    describe_networks,
    encode_groups,
    find_correlation,
    select_measures,
    select_networks,
)
from cnatool.plotting.marks import (
    free_scale,
    line,
    page,
    panel,
    panel_title,
    points,
    x_axis,
    y_axis,
)
from cnatool.plotting.style import FAINT, INK, coefficient_text, measure_name
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
# A fit with a smaller R² is drawn thin, so that it does not look like a finding.
_WEAK = 0.25
_LINE: Mapping[str, Any] = {"width": 1.4}
_THIN_LINE: Mapping[str, Any] = {"width": 0.7, "strokeDash": [3, 3], "opacity": 0.6}


def bins(studies: Sequence[Study], options: Options) -> Chart:
    """Draw test accuracy over a measure: networks, means over bins, and the quadratic fit."""
    (study,) = studies
    measures = select_measures(study, options.measure, _USUAL)
    correlations = [find_correlation(study, _ACCURACY, measure) for measure in measures]
    sizes = [row.networks for row in study.result.bins] or [0]
    size = f"{count_text(sizes[0], 'network')}" + (
        f" (the last {sizes[-1]})" if sizes[-1] != sizes[0] else ""
    )
    fit = "line: quadratic fit over all networks"
    if any(map(_is_weak, correlations)):
        fit += f", thin and dashed where R² < {_WEAK}"
    return page(
        [_draw_panel(study, row, options) for row in correlations],
        _COLUMNS,
        "Test accuracy over many networks",
        (
            *describe_networks(study),
            f"large: means over bins of {size} by rising test accuracy",
            fit,
            describe_intervals(study, "[ ]", correlations),
        ),
        options,
        color="shared",
        shape="shared",
    )


def _is_weak(correlation: MeasureCorrelation) -> bool:
    r_squared = correlation.quadratic.r_squared
    return r_squared is not None and r_squared < _WEAK


def _draw_panel(study: Study, correlation: MeasureCorrelation, options: Options) -> Any:
    measure = correlation.measure
    networks = select_networks(study, (measure, _ACCURACY), options.by)
    means = pl.DataFrame(
        [
            (row.means[measure], row.accuracy, row.networks)
            for row in study.result.bins
            if row.means[measure] is not None
        ],
        schema={"mean": pl.Float64, "accuracy": pl.Float64, "networks": pl.Int64},
        orient="row",
    )
    values = study.networks[measure].drop_nulls().to_list()
    at, fitted = evaluate_fit(correlation.quadratic, min(values), max(values))
    fit = pl.DataFrame({"measure": at, "fit": fitted})
    # Of all panels alike; the curve may leave it.
    accuracy = free_scale(study.networks[_ACCURACY].drop_nulls().drop_nans())
    scattered = alt.Chart(networks).encode(
        x=x_axis("v0", measure_name(measure), tickCount=6),
        y=y_axis("v1", "test accuracy", accuracy, **axis_format(study, _ACCURACY)),
        tooltip=["id:N", "v0:Q", alt.Tooltip("v1:Q", format=".2%")],
        **encode_groups(networks, options.by, FAINT),
    )
    r, r_squared = correlation.pearson, correlation.quadratic.r_squared
    return panel(
        points(scattered, 22, opacity=0.75),
        line(
            alt.Chart(fit).encode(x=alt.X("measure:Q"), y=alt.Y("fit:Q")),
            color=INK,
            clip=True,
            **(_THIN_LINE if _is_weak(correlation) else _LINE),
        ),
        points(
            alt.Chart(means).encode(
                x="mean:Q", y="accuracy:Q", tooltip=["networks:Q", "mean:Q", "accuracy:Q"]
            ),
            110,
            color="white",
            fillOpacity=0.6,
            stroke=INK,
            strokeWidth=1.4,
        ),
        options=options,
        title=panel_title(
            measure_name(measure),
            f"r = {coefficient_text(r.value, r.interval)}"
            if r.value is not None
            else f"r undefined: {r.reason}",
            f"fit R² = {coefficient_text(r_squared)}, n = {correlation.networks:,}"
            if r_squared is not None
            else f"n = {correlation.networks:,}",
        ),
    )
