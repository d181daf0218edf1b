"""Drift as notebooks show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.html import card, notes, number, table
from cnatool._util.text import count_text

if TYPE_CHECKING:
    from cnatool.comparing.drift.drift import Drift
    from cnatool.comparing.drift.results import DriftResult


def found_html(found: Drift) -> str:
    """Show the result."""
    return drift_html(found.result)


def drift_html(result: DriftResult) -> str:
    """Show the tensors that drift most, and what the numbers mean."""
    rows = []
    for tensor in result.drift:
        units, means = tensor.units, tensor.means
        rows.append(
            [
                "" if tensor.layer is None else tensor.layer,
                tensor.name,
                "–" if units is None else f"{units.units:,}",
                number(None if units is None else units.ks_mean, tensor.units_reason, 3),
                number(None if units is None else units.ks_high_mean, tensor.units_reason, 3),
                number(None if units is None else units.smd_mean, tensor.units_reason, 3),
                "–" if units is None else f"{units.drifting:,} of {units.comparisons:,}",
                number(means.ks, means.reason, 3),
                number(means.smd, means.reason, 3),
            ]
        )
    columns = (
        *("layer", "tensor", "units", "KS of units", "at most", "|SMD|", "p ≤ level"),
        *("KS of means", "SMD"),
    )
    sides = " and ".join(
        f"{side.split} of {side.store} ({count_text(side.samples, 'sample')})"
        for side in (result.reference, result.other)
    )
    return card(
        f"Drift between {sides}",
        [f"{result.units.drifting:,} of {count_text(result.units.comparisons, 'unit')} drift"],
        table(columns, "rlrrrrrrr", rows),
        notes((*result.meaning_notes, *result.notes)),
    )
