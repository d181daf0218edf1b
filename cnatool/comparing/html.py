"""A comparison of two stores as notebooks show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.html import Markup, card, details, notes, number, table
from cnatool._util.text import count_text

if TYPE_CHECKING:
    from cnatool.comparing.results import Comparison, Difference


def comparison_html(result: Comparison) -> str:
    """Show the verdict, both stores' scores, and how far tensors differ."""
    parts = [_scores_table(result)]
    for name, split in result.splits.items():
        rows = [
            [
                "" if tensor.layer is None else tensor.layer,
                tensor.name,
                tensor.name2,
                _size(tensor.statistics.get("sum")),
                _size(tensor.activations),
                number(tensor.agreement.sqnr, tensor.agreement.reason),
                number(tensor.agreement.cosine, tensor.agreement.reason),
            ]
            for tensor in split.tensors
        ]
        columns = (
            "layer",
            "tensor",
            "in the second",
            "Δ sum, relative",
            "Δ values, relative",
            "SQNR, dB",
            "cosine",
        )
        shown = table(columns, "rllrrrr", rows)
        parts.append(details(f"tensors of {name}, {count_text(split.rows, 'row')}", shown))
    return card(
        f"{result.store} and {result.store2} are {result.verdict}",
        [
            f"tolerance {result.tolerance:g}; layers matched by {result.matched}; largest relative "
            f"difference: {result.largest_of}",
            *result.differences[:5],
        ],
        *parts,
        notes(result.notes),
    )


def _scores_table(result: Comparison) -> Markup:
    rows = [
        [score.name, number(score.value), number(score.value2), _text(score.relative)]
        for score in result.scores
    ]
    columns = ("score", "first", "second", "relative difference")
    return table(columns, "lrrr", rows or [["none", "", "", ""]])


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _size(difference: Difference | None) -> Markup | str:
    if difference is None:
        return "–"
    if difference.max_relative is None:
        return number(None, difference.reason)
    return _text(difference.max_relative)
