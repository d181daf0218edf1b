"""Measures against the generalisation gap, network by network (paper Fig. 8)."""

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
    COLOURS,
    coefficient_text,
    concat_panels,
    finished,
    free_scale,
    gap_title,
    measure_name,
    panel_title,
    spread,
)
from cnatool.studying.columns import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
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
_GAP = TARGETS[1]


def gap(studies: Sequence[Study], options: Options) -> Chart:
    """Draw the gap over each measure, a panel each."""
    (study,) = studies
    measures = select_measures(study, options.measure, _USUAL)
    if not options.measure:
        measures = measures[:_MOST]
    columns = min(_COLUMNS, len(measures))
    panels = [
        _panel(study, measure, place % columns == 0, options)
        for place, measure in enumerate(measures)
    ]
    found = [find_correlation(study, _GAP, measure) for measure in measures]
    return finished(
        concat_panels(panels, columns, y="shared", color="shared", shape="shared"),
        "Measures against the generalisation gap",
        (
            *describe_networks(study),
            gap_title(study.result.convention),
            "r: Pearson, ρ: Spearman",
            describe_intervals(study, "[ ]", found),
        ),
        width=spread(columns, options.width, beside=20),
    )


def _panel(study: Study, measure: str, first: bool, options: Options) -> Any:
    import altair as alt

    found = find_correlation(study, _GAP, measure)
    networks = select_networks(study, (measure, _GAP), options.by)
    if not len(networks):
        raise DataError(f"no network has both {measure} and {_GAP}.")
    r, rho = found.pearson, found.spearman
    lines = (
        (
            f"r = {coefficient_text(r.value, r.interval)}",
            f"ρ = {coefficient_text(rho.value, rho.interval)}",
        )
        if r.value is not None
        else (f"r undefined: {r.reason}",)
    )
    return (
        alt.Chart(networks)
        .mark_point(filled=True, size=26, opacity=0.7)
        .encode(
            x=alt.X(
                "v0:Q",
                title=None,
                scale=free_scale(),
                axis=alt.Axis(tickCount=4, grid=False, labelOverlap=True),
            ),
            y=alt.Y(
                "v1:Q",
                title="generalisation gap" if first else None,
                scale=free_scale(),
                axis=column_axis(study, _GAP, labels=first, ticks=first, domain=first),
            ),
            tooltip=["id:N", "v0:Q", "v1:Q"],
            **encode_groups(networks, options.by, COLOURS[0]),
        )
        .properties(
            width=options.width,
            height=options.height,
            title=panel_title(measure_name(measure), *lines),
        )
    )
