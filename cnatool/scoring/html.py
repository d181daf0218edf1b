"""Scores as notebooks show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util import svg
from cnatool._util.html import Markup, card, notes, number, table
from cnatool._util.text import count_text, name_with_operator
from cnatool.metrics.estimate import ResampledEstimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.metrics.estimate import Estimate
    from cnatool.scoring.layer_results import LayerScores
    from cnatool.scoring.results import ScoreHeader, ScoreResult


def score_html(result: ScoreResult) -> str:
    """Show the scores of each split, those of the pair, and error by α."""
    return card(
        f"cnatool score of {result.store}",
        _header_lines(result),
        _splits_table(result),
        _lengths_table(result),
        _pair_table(result),
        _error_chart(result),
        notes(result.notes),
    )


def _header_lines(result: ScoreHeader) -> Sequence[str]:
    model = "" if result.model is None else f"model {result.model.name}, "
    layers = count_text(len(result.layers), "layer")
    return [f"{model}{layers}, convention {result.convention}"]


def _splits_table(result: ScoreResult) -> Markup:
    names = (
        "split",
        "samples",
        f"{result.unit}accuracy",
        f"{result.unit}loss",
        "α mean",
        "β mean",
        "CNA",
        "interval",
        "−1 … 1",
    )
    rows = [
        [
            name,
            f"{split.samples:,}",
            number(split.accuracy, split.performance_reason),
            number(split.loss, split.loss_reason or split.performance_reason),
            number(split.alpha.mean),
            number(split.beta.mean, split.beta_reason, 3),
            number(split.cna.value, split.cna.reason),
            _interval(split.cna.interval),
            svg.interval(split.cna.value, split.cna.interval),
        ]
        for name, split in result.splits.items()
    ]
    return table(names, "lrrrrrrll", rows)


def _lengths_table(result: ScoreResult) -> Markup:
    """Show how scores depend on the length of samples, where that differs."""
    rows = [
        [
            f"{name}, {length.unit}",
            number(length.samples.mean, None, 1),
            number(length.alpha.value, length.alpha.reason),
            number(length.beta.value, length.beta.reason),
            number(length.cna.value, length.cna.reason),
        ]
        for name, split in result.splits.items()
        for length in [split.length]
        if length is not None
    ]
    names = ("length of samples", "mean", "r with α", "r with β", "CNA at fixed length")
    return table(names, "lrrrr", rows) if rows else Markup()


def _pair_table(result: ScoreResult) -> Markup:
    named: dict[str, Estimate | ResampledEstimate] = {
        "generalisation gap": result.gap,
        "CNA-A": result.cna_area,
        "margin γ": result.margin,
        "CNA-M": result.cna_margin,
    }
    by_chance = result.cna_area_by_chance
    rows = []
    for name, estimate in named.items():
        bounds = estimate.interval if isinstance(estimate, ResampledEstimate) else None
        chance = number(by_chance.mean, by_chance.reason) if name == "CNA-A" else ""
        rows.append([name, number(estimate.value, estimate.reason), _interval(bounds), chance])
    return table(("train and test", "value", "interval", "by chance"), "lrlr", rows)


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else " … ".join(map(number, bounds))


def _error_chart(result: ScoreResult) -> Markup:
    series = {
        name: [
            (group.alpha_mean, group.error)
            for group in split.alpha_groups
            if group.alpha_mean is not None and group.error is not None
        ]
        for name, split in result.splits.items()
    }
    return svg.lines(series, "α", f"{result.unit}error by quantiles of α")


def layers_html(result: LayerScores) -> str:
    """Show what each layer contributes to CNA, and mean z over depth."""
    splits = result.splits
    names = ["depth", "layer"]
    for name in splits:
        names += [f"CNA {name}", "", f"mean z {name}"]
    parts = [part for split in splits.values() for part in split.layers]
    largest = max((abs(part.cna) for part in parts if part.cna is not None), default=0)
    rows: list[list[object]] = []
    for place, layer in enumerate(result.layers):
        row: list[object] = [layer.depth, name_with_operator(layer.name, layer.operator)]
        for split in splits.values():
            part = split.layers[place]
            mean = number(part.mean, part.reason, 3)
            row += [number(part.cna, part.reason), svg.bar(part.cna, largest, signed=True), mean]
        rows.append(row)
    total: list[object] = ["", "all"]
    for split in splits.values():
        total += [number(split.cna.value, split.cna.reason), "", ""]
    profiles = {
        name: [
            (float(layer.depth), part.mean)
            for layer, part in zip(result.layers, split.layers, strict=True)
            if part.mean is not None
        ]
        for name, split in splits.items()
    }
    return card(
        f"cnatool layers of {result.store}",
        _header_lines(result),
        table(names, "rl" + "rlr" * len(splits), [total, *rows]),
        svg.lines(profiles, "depth", "mean z"),
        notes(result.notes),
    )
