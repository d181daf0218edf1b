"""z over depth by quantiles of α, with the slope β (paper Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl

from cnatool._util.text import printable
from cnatool.errors import MetricError
from cnatool.metrics.beta import slope_line
from cnatool.plotting.figures.of_stores import (
    convention_text,
    select_splits,
    title_stores,
)
from cnatool.plotting.marks import (
    categorise,
    line,
    page,
    panel,
    panel_title,
    points,
    x_axis,
    y_axis,
)
from cnatool.plotting.style import COLOURS, make_unique, number_text, ramp
from cnatool.scoring.layer_results import GroupProfile
from cnatool.scoring.layers import score_layers
from cnatool.scoring.titles import depth_title, z_title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.layer_results import LayerScores, SampleProfile, SplitLayers
    from cnatool.store.store import Store


def depth_profile(stores: Sequence[Store], options: Options) -> Chart:
    """Draw mean z over depth by quantiles of α, or z of single samples; dashed, the slope β."""
    panels = []
    columns = 1
    convention = None
    for store, name in zip(stores, title_stores(stores), strict=True):
        scores = score_layers(
            store,
            options.test,
            convention=options.convention or "paper",
            overrides=options.overrides,
            samples=options.sample,
        )
        convention = scores.convention
        splits = select_splits(scores.splits, options.split)
        if options.sample:
            splits = [split for split in splits if scores.splits[split].profiles]
        columns = len(splits)
        for split in splits:
            title = split if len(stores) == 1 else f"{name}, {split}"
            panels.append(_draw_panel(scores, scores.splits[split], title, options))
    if not panels or convention is None:
        raise MetricError("`sample`: none of these samples is in the split that is drawn.")
    lines = "single samples" if options.sample else "means over samples by quantiles of α"
    caption = (
        convention_text(convention),
        lines,
        "dashed: the least-squares line, whose slope is β",
    )
    separate: dict[str, Any] = {"color": "independent", "shape": "independent"}
    return page(panels, columns, "Activation over depth", caption, options, **separate)


def _draw_panel(scores: LayerScores, split: SplitLayers, title: str, options: Options) -> Any:
    profiles: Sequence[GroupProfile | SampleProfile] = split.profiles or split.groups
    defined = [p for p in profiles if p.beta is not None and None not in p.z]
    labels = make_unique(map(_label, defined))
    frame = pl.DataFrame(
        [
            row
            for profile, label in zip(defined, labels, strict=True)
            for row in _list_rows(scores, profile, label)
        ],
        schema={
            "profile": pl.String,
            "number": pl.Int64,
            "depth": pl.Int64,
            "layer": pl.String,
            "z": pl.Float64,
            "line": pl.Float64,
        },
        orient="row",
    )
    ordered = not split.profiles
    color, shape = categorise(
        "profile",
        labels,
        colours=ramp(len(labels)) if ordered else COLOURS,
        title="α of the group" if ordered else None,
        orient="bottom",
        direction="vertical",
        columns=2 if ordered else 1,
    )
    fields = scores.convention.fields
    base = alt.Chart(frame).encode(
        x=x_axis("depth", depth_title(fields), tickMinStep=1, format="d", grid=False),
        order="number:O",
        tooltip=["profile:N", "layer:N", "depth:Q", "z:Q"],
        color=color,
    )
    measured = base.encode(y=y_axis("z", z_title(fields)))
    fitted = base.encode(y=alt.Y("line:Q", title=z_title(fields)))
    return panel(
        line(fitted, 1.2, strokeDash=[4, 3], opacity=0.75),
        line(measured, 1.6),
        points(measured.encode(shape=shape), 42),
        options=options,
        title=panel_title(f"{printable(title)}, n = {split.samples:,}"),
    )


def _label(profile: GroupProfile | SampleProfile) -> str:
    beta = number_text(profile.beta)
    if isinstance(profile, GroupProfile):
        low, high = (number_text(a) for a in (profile.alpha_min, profile.alpha_max))
        return f"{low} … {high}: β = {beta}"
    return f"{printable(profile.id)}: α = {number_text(profile.alpha, 2)}, β = {beta}"


def _list_rows(
    scores: LayerScores, profile: GroupProfile | SampleProfile, label: str
) -> Iterator[tuple[object, ...]]:
    depths = [layer.depth for layer in scores.layers]
    z = [value or 0.0 for value in profile.z]  # none is None
    fit = slope_line(z, depths, profile.beta or 0.0)
    for layer, value, fitted in zip(scores.layers, z, fit, strict=True):
        yield label, layer.number, layer.depth, printable(layer.name), value, float(fitted)
