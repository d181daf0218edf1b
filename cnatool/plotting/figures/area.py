"""CNA-A: the smoothed curves of train and test, and the area between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from cnatool.errors import DataError, UsageError
from cnatool.metrics.area import normalise_curves, shared_interval
from cnatool.plotting.figures.of_stores import convention_text, title_stores
from cnatool.plotting.marks import curve, page, panel, panel_title, x_axis, y_axis
from cnatool.plotting.style import COLOURS, interval_text, level_text, number_text, thin_curve
from cnatool.scoring.score import score_store
from cnatool.scoring.train_test import TEST, TRAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.metrics.convention import AreaForm
    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import ScoreResult
    from cnatool.scoring.score import StoreScores
    from cnatool.store.store import Store

_COLUMNS = 2
_POINTS = 600  # of a curve
_FILL = "#c2c2c2"
_TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]
_SPLITS = [TRAIN, TEST]
_FORMS: Mapping[AreaForm, str] = {
    "total": "CNA-A is the grey area",
    "largest": "CNA-A is the largest part of the grey area between two crossings",
    "reference": "CNA-A is the signed area of the ring of both curves, in which parts of the grey "
    "area cancel",
}


def area(stores: Sequence[Store], options: Options) -> Chart:
    """Draw the smoothed curves of train and test, normalised together, and fill between them."""
    panels = []
    caption: list[str] = []
    for store, name in zip(stores, title_stores(stores), strict=True):
        scored = score_store(store, options.test, options.scoring(), output=options.output)
        result = scored.result()
        panels.append(_draw_panel(scored, result, name, options))
        fields = scored.convention.fields
        intervals = result.cna_area.interval is not None
        caption = [
            convention_text(result.convention),
            f"curves: running means over {fields.window} samples in order of α, both axes scaled "
            "to 0 … 1 over both splits",
            _FORMS[fields.area],
            f"[ ]: {level_text(fields.level)}" if intervals else "",
        ]
    title = "The area between the curves of train and test"
    return page(panels, _COLUMNS, title, caption, options, color="shared", strokeDash="shared")


def _draw_panel(scored: StoreScores, result: ScoreResult, name: str, options: Options) -> Any:
    missing = [split for split in _SPLITS if split not in scored.splits]
    if missing:
        raise UsageError(f"{name} has no split called {' or '.join(missing)}, which CNA-A needs.")
    train, test = scored.splits[TRAIN], scored.splits[TEST]
    curves = normalise_curves(
        train.pair,
        test.pair,
        window=scored.convention.fields.window,
    )
    if isinstance(curves, str):
        raise DataError(f"{name} has no curves: {curves}.")
    lines = pl.concat(
        pl.DataFrame(
            {"split": split, "place": places, "alpha": alpha[places], "beta": beta[places]}
        )
        for split, (alpha, beta) in zip(_SPLITS, curves, strict=True)
        for places in [thin_curve(len(alpha), _POINTS)]
    )
    between = shared_interval(*curves)
    knots, low, high = (np.empty(0),) * 3 if between is None else between
    places = thin_curve(len(knots), 2 * _POINTS)
    fill = pl.DataFrame({"at": knots[places], "low": low[places], "high": high[places]})
    scale = alt.Scale(domain=[0, 1], nice=False)
    dashes = alt.Scale(domain=_SPLITS, range=[[1, 0], [4, 2]])
    drawn = alt.Chart(lines).encode(
        x=x_axis("alpha", "α, normalised", scale, grid=False, values=_TICKS),
        y=y_axis("beta", "β, normalised", scale, values=_TICKS),
        color=alt.Color(
            "split:N", scale=alt.Scale(domain=_SPLITS, range=list(COLOURS[:2])), title="split"
        ),
        strokeDash=alt.StrokeDash("split:N", scale=dashes, title="split"),
    )
    return panel(
        alt.Chart(fill)
        .mark_area(color=_FILL, opacity=1, line=False)
        .encode(x=alt.X("at:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q")),
        curve(drawn, 1),
        options=options,
        title=panel_title(name, _area_text(result), _chance_text(result)),
    )


def _area_text(result: ScoreResult) -> str:
    area = result.cna_area
    if area.value is None:
        return f"CNA-A undefined: {area.reason}"
    return f"CNA-A {number_text(area.value)}{interval_text(area.interval)}"


def _chance_text(result: ScoreResult) -> str:
    chance = result.cna_area_by_chance
    if chance is None or chance.mean is None:
        return ""
    p = "" if chance.p_value is None else f", p = {number_text(chance.p_value, 2)}"
    return f"with train and test relabelled at random {number_text(chance.mean)}{p}"
