"""CNA-A: both splits' curves, and the area between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError, UsageError
from cnatool.metrics.area import normalised_curves, shared_interval
from cnatool.plotting.figures.of_stores import convention_text, store_names
from cnatool.plotting.style import (
    COLOURS,
    finished,
    interval_text,
    level_text,
    number_text,
    panel_title,
    side_by_side,
    spread,
    thinned,
)
from cnatool.scoring.score import score_all
from cnatool.scoring.train_test import TEST, TRAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.metrics.convention import AreaForm
    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import ScoreResult
    from cnatool.scoring.score import Scored
    from cnatool.store.store import Store

_COLUMNS = 2
_POINTS = 600  # of a curve
_FILL = "#c2c2c2"
_TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]
_FORMS: Mapping[AreaForm, str] = {
    "total": "CNA-A is the grey area",
    "largest": "CNA-A is the largest part of the grey area between two crossings",
    "reference": "CNA-A is the signed area of the ring of both curves, in which parts of the grey "
    "area cancel",
}


def area(stores: Sequence[Store], options: Options) -> Chart:
    """Draw the smoothed curves of train and test, normalised together, and fill between them."""
    panels = []
    names = store_names(stores)
    caption: list[str] = []
    for store, name in zip(stores, names, strict=True):
        scored = score_all(store, options.test, options.scoring(), output=options.output)
        result = scored.result()
        panels.append(_panel(scored, result, name, options))
        fields = scored.convention.fields
        intervals = result.cna_area.interval is not None
        caption = [
            convention_text(result.convention),
            f"curves: running means over {fields.window} samples in order of α, both axes scaled "
            "to 0 … 1 over both splits",
            _FORMS[fields.area],
            f"[ ]: {level_text(fields.level)}" if intervals else "",
        ]
    columns = min(_COLUMNS, len(panels))
    return finished(
        side_by_side(panels, columns, color="shared", strokeDash="shared"),
        "The area between the curves of train and test",
        caption,
        width=spread(columns, options.width),
    )


def _panel(scored: Scored, result: ScoreResult, name: str, options: Options) -> Any:
    import altair as alt
    import polars as pl

    missing = [split for split in (TRAIN, TEST) if split not in scored.splits]
    if missing:
        raise UsageError(f"{name} has no split called {' or '.join(missing)}, which CNA-A needs.")
    train, test = scored.splits[TRAIN], scored.splits[TEST]
    curves = normalised_curves(
        (train.alpha, train.beta), (test.alpha, test.beta), window=scored.convention.fields.window
    )
    if isinstance(curves, str):
        raise DataError(f"{name} has no curves: {curves}.")
    lines = pl.concat(
        pl.DataFrame(
            {"split": split, "place": places, "alpha": alpha[places], "beta": beta[places]}
        )
        for split, (alpha, beta) in zip((TRAIN, TEST), curves, strict=True)
        for places in [thinned(len(alpha), _POINTS)]
    )
    between = shared_interval(*curves)
    knots, one, other = (np.empty(0),) * 3 if between is None else between
    places = thinned(len(knots), 2 * _POINTS)
    fill = pl.DataFrame({"at": knots[places], "low": one[places], "high": other[places]})
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X(
        "alpha:Q",
        title="α, normalised",
        scale=scale,
        axis=alt.Axis(grid=False, values=_TICKS),
    )
    y = alt.Y("beta:Q", title="β, normalised", scale=scale, axis=alt.Axis(values=_TICKS))
    filled = (
        alt.Chart(fill)
        .mark_area(color=_FILL, opacity=1, line=False)
        .encode(x=alt.X("at:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    )
    splits = [TRAIN, TEST]
    drawn = (
        alt.Chart(lines)
        .mark_line(strokeWidth=1, clip=True)
        .encode(
            x=x,
            y=y,
            order=alt.Order("place:Q"),
            color=alt.Color(
                "split:N", scale=alt.Scale(domain=splits, range=list(COLOURS[:2])), title="split"
            ),
            strokeDash=alt.StrokeDash(
                "split:N", scale=alt.Scale(domain=splits, range=[[1, 0], [4, 2]]), title="split"
            ),
        )
    )
    return alt.layer(filled, drawn).properties(
        width=options.width,
        height=options.height,
        title=panel_title(name, _area_text(result), _chance_text(result)),
    )


def _area_text(result: ScoreResult) -> str:
    found = result.cna_area
    if found.value is None:
        return f"CNA-A undefined: {found.reason}"
    return f"CNA-A {number_text(found.value)}{interval_text(found.interval)}"


def _chance_text(result: ScoreResult) -> str:
    chance = result.cna_area_by_chance
    if chance is None or chance.mean is None:
        return ""
    p = "" if chance.p_value is None else f", p = {number_text(chance.p_value, 2)}"
    return f"with train and test relabelled at random {number_text(chance.mean)}{p}"
