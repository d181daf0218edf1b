"""Correlation of each measure with test accuracy and with the gap (paper Fig. 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import altair as alt
import polars as pl

from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_networks import (
    describe_intervals,
    describe_networks,
    select_measures,
)
from cnatool.plotting.marks import categorise, interval, page, panel, panel_title, points, rule
from cnatool.plotting.style import COEFFICIENT_NAMES, COLOURS, SHAPES, gap_title, measure_name
from cnatool.studying.columns import GAPS, TARGETS, is_variant
from cnatool.studying.results import MeasureKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study

_KINDS = {"measure": "measure", "norm": "norm of the weights", "trivial": "trivial baseline"}
_ROW = 17  # pixels per measure, if no height is given


def measures(studies: Sequence[Study], options: Options) -> Chart:
    """Draw the correlation of each measure with each target, with its interval."""
    (study,) = studies
    coefficient = options.coefficient or "pearson"
    if coefficient not in COEFFICIENT_NAMES:
        raise UsageError(f"`coefficient` {coefficient}: there are {', '.join(COEFFICIENT_NAMES)}.")
    usual = dict.fromkeys(
        row.measure for row in study.result.correlations if not is_variant(row.measure)
    )
    names = select_measures(study, options.measure, list(usual))
    correlations = {
        (row.target, row.measure): row
        for row in study.result.correlations
        if row.group is None and row.measure in names
    }
    targets = study.result.settings.targets
    names = _sort_measures(correlations, names, targets, coefficient)
    if not names:
        raise DataError(
            "no measure of the study has a correlation to draw: its networks are too few, or they "
            "do not vary."
        )
    panels = [
        _draw_panel(study, target, [correlations[target, n] for n in names], coefficient, options)
        for target in targets
    ]
    caption = (
        *describe_networks(study),
        describe_intervals(study, "bars", correlations.values(), coefficient),
    )
    title = "Correlations with generalisation"
    return page(panels, len(panels), title, caption, options, color="shared", shape="shared")


def _sort_measures(
    correlations: Mapping[tuple[str, str], MeasureCorrelation],
    names: Sequence[str],
    targets: Sequence[str],
    coefficient: str,
) -> list[str]:
    """Return the measures that have a value, by kind and falling coefficient."""
    kinds = get_args(MeasureKind)

    def value(target: str, name: str) -> float | None:
        number: float | None = getattr(correlations[target, name], coefficient).value
        return number

    def key(name: str) -> tuple[int, float]:
        first = value(targets[0], name)
        return kinds.index(correlations[targets[0], name].kind), 2.0 if first is None else -first

    defined = [name for name in names if any(value(t, name) is not None for t in targets)]
    return sorted(defined, key=key)


def _draw_panel(
    study: Study,
    target: str,
    correlations: Sequence[MeasureCorrelation],
    coefficient: str,
    options: Options,
) -> Any:
    rows = []
    for row in correlations:
        estimate = getattr(row, coefficient)
        low, high = estimate.interval or (None, None)
        kind = _KINDS[row.kind]
        rows.append((measure_name(row.measure), kind, estimate.value, low, high, row.networks))
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    schema = {"measure": pl.String, "kind": pl.String, **numbers, "networks": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    places = [place for place, kind in enumerate(_KINDS.values()) if kind in frame["kind"]]
    color, shape = categorise(
        "kind",
        [list(_KINDS.values())[place] for place in places],
        colours=[COLOURS[place] for place in places],
        shapes=[SHAPES[place] for place in places],
        title=None,
        orient="bottom",
        symbolSize=60,
    )
    first = target == study.result.settings.targets[0]
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "measure:N",
            sort=None,
            scale=alt.Scale(domain=[row[0] for row in rows]),
            title=None,
            axis=alt.Axis(labels=first, ticks=False, domain=False, grid=True, labelLimit=220),
        ),
        color=color,
        tooltip=["measure:N", "value:Q", "low:Q", "high:Q", "networks:Q"],
    )
    scale = alt.Scale(domain=[-1, 1])
    x = alt.X(
        "value:Q",
        title=COEFFICIENT_NAMES[coefficient],
        scale=scale,
        axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1], format="~", grid=False),
    )
    return panel(
        rule("zero", pl.DataFrame({"zero": [0.0]}), scale),
        interval(base, "low", "high", scale),
        points(base.encode(x=x, shape=shape), 48),
        options=options,
        title=_panel_title(study, target),
        height=options.height or _ROW * len(rows),
    )


def _panel_title(study: Study, target: str) -> Any:
    if target in GAPS:
        return panel_title("with the gap", gap_title(study.result.convention, target) or " ")
    of_accuracy = target == TARGETS[0]
    return panel_title(f"with {'test accuracy' if of_accuracy else measure_name(target)}", " ")
