"""Scores layer by layer as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, number_text
from cnatool.cli.console import first_parts, print_line, print_notes, print_reasons
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.scoring.layer_results import GroupProfile, LayerScores, SampleProfile, SplitLayers


def print_layer_scores(scores: LayerScores) -> None:
    """Print each layer's part in β and CNA, and mean z over depth by quantiles of α."""
    print_line(f"convention {scores.convention}")
    for name, split in first_parts(list(scores.splits.items()), "splits"):
        print_line(f"\n{name}, {count_text(split.samples, 'sample')}\n")
        _print_parts(scores, split)
        samples = ", and of single samples" if split.profiles else ""
        print_line(f"\nmean z by quantiles of α{samples}\n")
        _print_profiles(scores, split)
        print_reasons(
            "undefined (–)",
            (f"{what} of {name}: {reason}" for what, reason in _reasons(scores, split)),
        )
    alpha = [text for text in (scores.alpha_input, scores.alpha_codec) if text is not None]
    if alpha:
        print_line(f"\nα: {', '.join(alpha)}")
    print_notes(scores.notes)


def _reasons(scores: LayerScores, split: SplitLayers) -> Iterator[tuple[str, str]]:
    if split.beta_reason is not None:
        yield "β", split.beta_reason
    if split.cna.reason is not None:
        yield "CNA", split.cna.reason
    for layer, part in zip(scores.layers, split.layers, strict=True):
        if part.reason is not None:
            yield layer.name, part.reason
    for place, group in enumerate(split.groups, start=1):
        if group.reason is not None:
            yield f"group {place}", group.reason


def _print_parts(scores: LayerScores, split: SplitLayers) -> None:
    shown = shorten_names(layer.name for layer in scores.layers)
    rows = [
        [
            str(layer.depth),
            shown[layer.name],
            layer.operator,
            *(
                number_text(value)
                for value in (
                    part.mean,
                    part.std,
                    part.correlation,
                    part.coefficient,
                    part.beta,
                    part.cna,
                )
            ),
        ]
        for layer, part in zip(scores.layers, split.layers, strict=True)
    ]
    total = ["", "all", "", "", "", "", "", number_text(split.beta), number_text(split.cna.value)]
    print_table(
        [
            ("depth", "right"),
            ("layer", "left"),
            ("operator", "left"),
            *((header, "right") for header in ("mean z", "deviation", "with α", "c", "β", "CNA")),
        ],
        [*rows, total],
    )
    print_cut(shown)


def _print_profiles(scores: LayerScores, split: SplitLayers) -> None:
    headers = [
        f"{number_text(group.alpha_min, 2)} … {number_text(group.alpha_max, 2)}"
        if group.samples
        else "no samples"
        for group in split.groups
    ]
    headers += [f"{sample.id} (α {number_text(sample.alpha, 2)})" for sample in split.profiles]
    profiles: list[GroupProfile | SampleProfile] = [*split.groups, *split.profiles]
    shown = shorten_names(layer.name for layer in scores.layers)
    rows = [
        [
            str(layer.depth),
            shown[layer.name],
            *(number_text(profile.z[place]) for profile in profiles),
        ]
        for place, layer in enumerate(scores.layers)
    ]
    print_table(
        [("depth", "right"), ("layer", "left"), *((header, "right") for header in headers)],
        [*rows, ["", "β", *(number_text(profile.beta) for profile in profiles)]],
    )
