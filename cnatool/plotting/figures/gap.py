"""The generalisation gap over measures of networks (paper Fig. 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt

from cnatool.plotting.figures.of_networks import (
    axis_format,
    describe_intervals,
    describe_networks,
    encode_groups,
    find_correlation,
    select_measures,
    select_networks,
)
from cnatool.plotting.marks import page, panel, panel_title, points, x_axis, y_axis
from cnatool.plotting.style import COLOURS, coefficient_text, gap_title, measure_name
from cnatool.studying.columns import GAPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study

_USUAL = (
    "cna_margin",
    "cna_area",
    "test.cna",
    "log.l2",
    "log.spectral",
    "log.l2_path",
    "log.bound_2018",
    "log.bound_2018_from_zero",
    "train.loss",
    "log.parameter_norm",
)
_MOST = 9
_COLUMNS = 3


def gap(studies: Sequence[Study], options: Options) -> Chart:
    """Draw the gap over each measure, one panel each; the first form that is a target."""
    (study,) = studies
    target = next((name for name in study.result.settings.targets if name in GAPS), GAPS[0])
    measures = select_measures(study, options.measure, _USUAL)
    if not options.measure:
        measures = measures[:_MOST]
    columns = min(_COLUMNS, len(measures))
    correlations = [find_correlation(study, target, measure) for measure in measures]
    return page(
        [
            _draw_panel(study, row, place % columns == 0, options)
            for place, row in enumerate(correlations)
        ],
        columns,
        "Measures against the generalisation gap",
        (
            *describe_networks(study),
            gap_title(study.result.convention, target),
            "r: Pearson, ρ: Spearman",
            describe_intervals(study, "[ ]", correlations),
        ),
        options,
        spacing=20,
        y="shared",
        color="shared",
        shape="shared",
    )


def _draw_panel(
    study: Study, correlation: MeasureCorrelation, first: bool, options: Options
) -> Any:
    target = correlation.target
    networks = select_networks(study, (correlation.measure, target), options.by)
    r, rho = correlation.pearson, correlation.spearman
    lines = (
        (
            f"r = {coefficient_text(r.value, r.interval)}",
            f"ρ = {coefficient_text(rho.value, rho.interval)}",
        )
        if r.value is not None
        else (f"r undefined: {r.reason}",)
    )
    scattered = alt.Chart(networks).encode(
        x=x_axis("v0", None, tickCount=4, grid=False, labelOverlap=True),
        y=y_axis(
            "v1",
            "generalisation gap" if first else None,
            **axis_format(study, target),
            labels=first,
            ticks=first,
            domain=first,
        ),
        tooltip=["id:N", "v0:Q", "v1:Q"],
        **encode_groups(networks, options.by, COLOURS[0]),
    )
    return panel(
        points(scattered, 26, opacity=0.7),
        options=options,
        title=panel_title(measure_name(correlation.measure), *lines),
    )
