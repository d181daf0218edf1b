"""z over depth for samples of different α, with the slope β (paper Fig. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import printable
from cnatool.errors import MetricError
from cnatool.metrics.beta import slope_line
from cnatool.plotting.figures.of_stores import (
    chosen_splits,
    convention_text,
    depth_title,
    store_names,
    z_title,
)
from cnatool.plotting.style import (
    COLOURS,
    SHAPES,
    finished,
    free_scale,
    number_text,
    panel_title,
    ramp,
    side_by_side,
    spread,
    told_apart,
)
from cnatool.scoring.layers import score_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import altair as alt

    from cnatool.plotting.figure import Options
    from cnatool.plotting.style import Chart
    from cnatool.scoring.layer_results import GroupProfile, LayerScores, SampleProfile, SplitLayers
    from cnatool.store.store import Store


def depth_profile(stores: Sequence[Store], options: Options) -> Chart:
    """Draw mean z over depth by quantiles of α, or z of single samples; dashed, the slope β."""
    panels = []
    columns = 1
    convention = None
    for store, name in zip(stores, store_names(stores), strict=True):
        scores = score_layers(
            store,
            options.test,
            convention=options.convention or "paper",
            overrides=options.overrides,
            samples=options.sample,
        )
        convention = scores.convention
        splits = chosen_splits(scores.splits, options.split)
        if options.sample:
            splits = [split for split in splits if scores.splits[split].samples]
        columns = len(splits)
        for split in splits:
            title = split if len(stores) == 1 else f"{name}, {split}"
            panels.append(_panel(scores, scores.splits[split], title, options))
    if not panels or convention is None:
        raise MetricError("--sample: none of these samples is in the split that is drawn.")
    lines = "single samples" if options.sample else "means over samples by quantiles of α"
    return finished(
        side_by_side(panels, columns, color="independent", shape="independent"),
        "Activation over depth",
        (convention_text(convention), lines, "dashed: the least-squares line, whose slope is β"),
        width=spread(columns, options.width),
    )


def _panel(scores: LayerScores, split: SplitLayers, title: str, options: Options) -> Any:
    import altair as alt
    import polars as pl

    profiles: Sequence[GroupProfile | SampleProfile] = split.samples or split.groups
    labels = _labels(profiles)
    rows = [
        row
        for profile, label in zip(profiles, labels, strict=True)
        if label is not None
        for row in _rows(scores, profile, label)
    ]
    frame = pl.DataFrame(
        rows,
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
    shown = [label for label in labels if label is not None]
    colour, shape = _marks(shown, ordered=not split.samples)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "depth:Q",
            title=depth_title(scores.convention.fields),
            axis=alt.Axis(tickMinStep=1, format="d", grid=False),
            scale=free_scale(),
        ),
        order="number:O",
        tooltip=["profile:N", "layer:N", "depth:Q", "z:Q"],
        color=colour,
    )
    y = alt.Y("z:Q", title=z_title(scores.convention.fields), scale=free_scale())
    chart = alt.layer(
        base.mark_line(strokeWidth=1.2, strokeDash=[4, 3], opacity=0.75).encode(
            y=alt.Y("line:Q", title=z_title(scores.convention.fields))
        ),
        base.mark_line(strokeWidth=1.6).encode(y=y),
        base.mark_point(filled=True, size=42, opacity=1).encode(y=y, shape=shape),
    )
    return chart.properties(
        width=options.width,
        height=options.height,
        title=panel_title(f"{printable(title)}, n = {split.rows:,}"),
    )


def _marks(shown: list[str], *, ordered: bool) -> tuple[alt.Color, alt.Shape]:
    """Tell the profiles by colour and by shape, in one legend under the panel."""
    import altair as alt

    colours = ramp(len(shown)) if ordered else [COLOURS[i % 8] for i in range(len(shown))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(shown))]
    legend = alt.Legend(
        title="α of the group" if ordered else None,
        orient="bottom",
        direction="vertical",
        columns=2 if ordered else 1,
    )
    return (
        alt.Color(
            "profile:N", scale=alt.Scale(domain=shown, range=colours), sort=None, legend=legend
        ),
        alt.Shape(
            "profile:N", scale=alt.Scale(domain=shown, range=shapes), sort=None, legend=legend
        ),
    )


def _labels(profiles: Sequence[GroupProfile | SampleProfile]) -> list[str | None]:
    """Name what is drawn; None where there is nothing to draw."""
    there = [profile.beta is not None and None not in profile.z for profile in profiles]
    texts = iter(
        told_apart(_label(one) for one, drawn in zip(profiles, there, strict=True) if drawn)
    )
    return [next(texts) if drawn else None for drawn in there]


def _label(profile: GroupProfile | SampleProfile) -> str:
    from cnatool.scoring.layer_results import GroupProfile

    beta = number_text(profile.beta)
    if isinstance(profile, GroupProfile):
        low, high = (number_text(a) for a in (profile.alpha_min, profile.alpha_max))
        return f"{low} … {high}: β = {beta}"
    return f"{printable(profile.id)}: α = {number_text(profile.alpha, 2)}, β = {beta}"


def _rows(
    scores: LayerScores, profile: GroupProfile | SampleProfile, label: str
) -> Iterator[tuple[object, ...]]:
    depths = [layer.depth for layer in scores.layers]
    z = [0.0 if one is None else one for one in profile.z]  # none is None, see `_labels`
    line = slope_line(z, depths, profile.beta or 0.0)
    for layer, here, fitted in zip(scores.layers, z, line, strict=True):
        yield label, layer.number, layer.depth, printable(layer.name), here, float(fitted)
