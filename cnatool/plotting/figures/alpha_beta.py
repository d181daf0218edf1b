"""α against β, sample by sample, with the smoothed curve and CNA (paper Fig. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import printable
from cnatool.metrics.smoothing import smoothed_curve
from cnatool.plotting.figures.of_stores import (
    alpha_title,
    beta_title,
    chosen_splits,
    convention_text,
    store_names,
)
from cnatool.plotting.style import (
    ACCENT,
    COLOURS,
    drawn_rows,
    finished,
    free_scale,
    interval_text,
    level_text,
    number_text,
    panel_title,
    side_by_side,
    spread,
    thinned,
)
from cnatool.scoring.score import score_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.metrics.convention import ConventionFields
    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import SplitResult
    from cnatool.scoring.split import ScoredSplit
    from cnatool.store.store import Store

_SAMPLES = 2000  # of a split
_CURVE = 600  # points of a curve


def alpha_beta(stores: Sequence[Store], options: Options) -> Chart:
    """Draw β over α for each sample, and the running mean that the smoothed CNA is of."""
    rows = []
    columns = 1
    caption: list[str] = []
    for store, name in zip(stores, store_names(stores), strict=True):
        scored = score_all(store, options.test, options.scoring(), output=options.output)
        result = scored.result()
        splits = chosen_splits(result.splits, options.split)
        columns = len(splits)
        panels = [
            _panel(
                scored.splits[split],
                result.splits[split],
                scored.convention.fields,
                split if len(stores) == 1 else f"{name}, {split}",
                split == splits[0],
                options,
            )
            for split in splits
        ]
        rows.append(side_by_side(panels, columns, x="shared", y="shared"))
        fields = scored.convention.fields
        most = max(result.splits[split].samples for split in splits)
        caption = [
            convention_text(result.convention),
            f"line: running mean over {fields.window} samples in order of α",
            f"[ ]: {level_text(fields.level)}",
            f"drawn: {_SAMPLES:,} samples of a split, by lot" if most > _SAMPLES else "",
        ]
    return finished(
        side_by_side(rows, 1),
        "Use of depth against input complexity",
        caption,
        width=spread(columns, options.width),
    )


def _panel(
    scored: ScoredSplit,
    result: SplitResult,
    fields: ConventionFields,
    title: str,
    first: bool,
    options: Options,
) -> Any:
    import altair as alt
    import polars as pl

    finite = np.isfinite(scored.alpha) & np.isfinite(scored.beta)
    alpha, beta = scored.alpha[finite], scored.beta[finite]
    rows = drawn_rows(len(alpha), _SAMPLES)
    samples = pl.DataFrame({"alpha": alpha[rows], "beta": beta[rows]})
    window = fields.window
    smooth = (np.empty(0), np.empty(0))
    if finite.all() and len(alpha) >= window:
        smooth = smoothed_curve(alpha, beta, window)
    places = thinned(len(smooth[0]), _CURVE)
    curve = pl.DataFrame(
        {"place": places, "alpha": smooth[0][places], "beta": smooth[1][places]},
    )
    x = alt.X(
        "alpha:Q",
        title=alpha_title(fields),
        scale=free_scale(),
        axis=alt.Axis(grid=False, tickCount=6),
    )
    y = alt.Y("beta:Q", title=beta_title(fields) if first else None, scale=free_scale())
    points = alt.Chart(samples).mark_circle(size=9, color=COLOURS[0], opacity=0.3, clip=True)
    line = alt.Chart(curve).mark_line(color=ACCENT, strokeWidth=1.2, clip=True)
    return alt.layer(
        points.encode(x=x, y=y), line.encode(x=x, y=y, order=alt.Order("place:Q"))
    ).properties(
        width=options.width,
        height=options.height,
        title=panel_title(
            f"{printable(title)}, n = {result.samples:,}", _cna(result), _smoothed(result)
        ),
    )


def _cna(result: SplitResult) -> str:
    if result.cna.value is None:
        return f"CNA undefined: {result.cna.reason}"
    return f"CNA {number_text(result.cna.value)}{interval_text(result.cna.interval)}"


def _smoothed(result: SplitResult) -> str:
    value = result.coefficients.smoothed.value
    return "" if value is None else f"smoothed CNA {number_text(value)}"
