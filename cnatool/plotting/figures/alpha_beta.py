"""β over α of each sample, with the smoothed curve and CNA (paper Fig. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from cnatool._util.text import printable
from cnatool.metrics.smoothing import smooth_curve
from cnatool.plotting.figures.of_stores import (
    convention_text,
    select_splits,
    title_stores,
)
from cnatool.plotting.marks import (
    concat_panels,
    curve,
    finish,
    panel,
    panel_title,
    panels_width,
    x_axis,
    y_axis,
)
from cnatool.plotting.style import (
    ACCENT,
    COLOURS,
    interval_text,
    level_text,
    number_text,
    sample_rows,
    thin_curve,
)
from cnatool.scoring.score import score_store
from cnatool.scoring.titles import alpha_title, beta_title

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.metrics.convention import ConventionFields
    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.results import SplitResult
    from cnatool.scoring.split import ScoredSplit
    from cnatool.store.store import Store

_MOST_SAMPLES = 2000  # of a split
_CURVE = 600  # points of a curve


def alpha_beta(stores: Sequence[Store], options: Options) -> Chart:
    """Draw β over α of each sample, and the running mean behind the smoothed CNA."""
    rows = []
    columns = 1
    caption: list[str] = []
    for store, name in zip(stores, title_stores(stores), strict=True):
        scored = score_store(store, options.test, options.scoring(), output=options.output)
        result = scored.result()
        fields = scored.convention.fields
        splits = select_splits(result.splits, options.split)
        columns = len(splits)
        panels = [
            _draw_panel(
                scored.splits[split],
                result.splits[split],
                fields,
                split if len(stores) == 1 else f"{name}, {split}",
                split == splits[0],
                options,
            )
            for split in splits
        ]
        rows.append(concat_panels(panels, columns, x="shared", y="shared"))
        most = max(result.splits[split].samples for split in splits)
        caption = [
            convention_text(result.convention),
            f"line: running mean over {fields.window} samples in order of α",
            f"[ ]: {level_text(fields.level)}",
            f"drawn: {_MOST_SAMPLES:,} samples of a split, at random"
            if most > _MOST_SAMPLES
            else "",
        ]
    return finish(
        concat_panels(rows, 1),
        "Use of depth against input complexity",
        caption,
        width=panels_width(columns, options),
    )


def _draw_panel(
    scored: ScoredSplit,
    result: SplitResult,
    fields: ConventionFields,
    title: str,
    first: bool,
    options: Options,
) -> Any:
    alpha, beta = scored.pair
    finite = np.isfinite(alpha) & np.isfinite(beta)
    alpha, beta = alpha[finite], beta[finite]
    rows = sample_rows(len(alpha), _MOST_SAMPLES)
    samples = pl.DataFrame({"alpha": alpha[rows], "beta": beta[rows]})
    smooth = (np.empty(0), np.empty(0))
    if finite.all() and len(alpha) >= fields.window:
        smooth = smooth_curve(alpha, beta, fields.window)
    places = thin_curve(len(smooth[0]), _CURVE)
    means = pl.DataFrame(
        {"place": places, "alpha": smooth[0][places], "beta": smooth[1][places]},
    )
    x = x_axis("alpha", alpha_title(fields), grid=False, tickCount=6)
    y = y_axis("beta", beta_title(fields) if first else None)
    return panel(
        alt.Chart(samples)
        .mark_circle(size=9, color=COLOURS[0], opacity=0.3, clip=True)
        .encode(x=x, y=y),
        curve(alt.Chart(means).encode(x=x, y=y), 1.2, color=ACCENT),
        options=options,
        title=panel_title(
            f"{printable(title)}, n = {result.samples:,}", _cna_text(result), _smoothed_text(result)
        ),
    )


def _cna_text(result: SplitResult) -> str:
    if result.cna.value is None:
        return f"CNA undefined: {result.cna.reason}"
    return f"CNA {number_text(result.cna.value)}{interval_text(result.cna.interval)}"


def _smoothed_text(result: SplitResult) -> str:
    value = result.coefficients.smoothed.value
    return "" if value is None else f"smoothed CNA {number_text(value)}"
