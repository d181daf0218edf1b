"""How each measure goes with test accuracy and with the gap, side by side (paper Fig. 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from cnatool.errors import DataError, UsageError
from cnatool.plotting.figures.of_networks import (
    describe_intervals,
    describe_networks,
    select_measures,
)
from cnatool.plotting.style import (
    COEFFICIENT_NAMES,
    COLOURS,
    SHAPES,
    concat_panels,
    finished,
    gap_title,
    measure_name,
    panel_title,
    spread,
)
from cnatool.studying.columns import TARGETS, is_variant
from cnatool.studying.results import MeasureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.studying.results import MeasureCorrelation
    from cnatool.studying.study import Study

_KINDS = {"measure": "measure", "norm": "norm of the weights", "trivial": "trivial baseline"}
_ROW = 17  # pixels a measure, where no height is asked for


def measures(studies: Sequence[Study], options: Options) -> Chart:
    """Draw the correlation of each measure with each target, with its interval."""
    (study,) = studies
    coefficient = options.coefficient or "pearson"
    if coefficient not in COEFFICIENT_NAMES:
        raise UsageError(f"--coefficient {coefficient}: there are {', '.join(COEFFICIENT_NAMES)}.")
    usual = dict.fromkeys(
        one.measure for one in study.result.correlations if not is_variant(one.measure)
    )
    wanted = select_measures(study, options.measure, list(usual))
    found = {
        (one.target, one.measure): one
        for one in study.result.correlations
        if one.group is None and one.measure in wanted
    }
    targets = [t for t in TARGETS if any((t, m) in found for m in wanted)]
    shown = _ordered(found, wanted, targets, coefficient)
    if not shown:
        raise DataError(
            "no measure of the study has a correlation to draw: its networks are too few, or they "
            "do not vary."
        )
    panels = [
        _panel(study, found, target, shown, coefficient, place == 0, options)
        for place, target in enumerate(targets)
    ]
    return finished(
        concat_panels(panels, len(panels), color="shared", shape="shared"),
        "What goes with generalisation",
        (
            *describe_networks(study),
            describe_intervals(study, "bars", found.values(), coefficient),
        ),
        width=spread(len(panels), options.width),
    )


def _ordered(
    found: dict[tuple[str, str], MeasureCorrelation],
    wanted: Sequence[str],
    targets: Sequence[str],
    coefficient: str,
) -> list[str]:
    """Give the measures that have a value, kind by kind, by falling coefficient."""
    kinds = get_args(MeasureKind)

    def place(name: str) -> tuple[int, float]:
        one = found[targets[0], name]
        value = getattr(one, coefficient).value
        return kinds.index(one.kind), 2.0 if value is None else -value

    there = [
        name
        for name in wanted
        if any(getattr(found[t, name], coefficient).value is not None for t in targets)
    ]
    return sorted(there, key=place)


def _panel(
    study: Study,
    found: dict[tuple[str, str], MeasureCorrelation],
    target: str,
    shown: Sequence[str],
    coefficient: str,
    first: bool,
    options: Options,
) -> Any:
    import altair as alt
    import polars as pl

    names = {name: measure_name(name) for name in shown}
    rows = []
    for name in shown:
        one = found[target, name]
        estimate = getattr(one, coefficient)
        low, high = estimate.interval or (None, None)
        rows.append((names[name], _KINDS[one.kind], estimate.value, low, high, one.networks))
    frame = pl.DataFrame(
        rows,
        schema={
            "measure": pl.String,
            "kind": pl.String,
            "value": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "networks": pl.Int64,
        },
        orient="row",
    )
    kinds = [kind for kind in _KINDS.values() if kind in frame["kind"]]
    legend = alt.Legend(title=None, orient="bottom", symbolSize=60)
    places = [list(_KINDS.values()).index(kind) for kind in kinds]
    title = f"with {'test accuracy' if target == TARGETS[0] else 'the gap'}"
    x_scale = alt.Scale(domain=[-1, 1])
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "measure:N",
            sort=None,
            scale=alt.Scale(domain=list(names.values())),
            title=None,
            axis=alt.Axis(labels=first, ticks=False, domain=False, grid=True, labelLimit=220),
        ),
        color=alt.Color(
            "kind:N",
            sort=None,
            scale=alt.Scale(domain=kinds, range=[COLOURS[p] for p in places]),
            legend=legend,
        ),
        tooltip=["measure:N", "value:Q", "low:Q", "high:Q", "networks:Q"],
    )
    zero = (
        alt.Chart(pl.DataFrame({"zero": [0.0]}))
        .mark_rule(color="#888888", strokeWidth=1)
        .encode(x=alt.X("zero:Q", scale=x_scale))
    )
    bars = base.mark_rule(strokeWidth=1.6, opacity=0.8).encode(
        x=alt.X("low:Q", scale=x_scale), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=48, opacity=1).encode(
        x=alt.X(
            "value:Q",
            title=COEFFICIENT_NAMES[coefficient],
            scale=x_scale,
            axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1], format="~", grid=False),
        ),
        shape=alt.Shape(
            "kind:N",
            sort=None,
            scale=alt.Scale(domain=kinds, range=[SHAPES[p] for p in places]),
            legend=legend,
        ),
    )
    form = "" if target == TARGETS[0] else gap_title(study.result.convention)
    return alt.layer(zero, bars, points).properties(
        width=options.width,
        height=options.height or _ROW * len(shown),
        title=panel_title(title, form or " "),
    )
