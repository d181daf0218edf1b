"""The drift between two sets of samples as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, printable
from cnatool.cli.console import print_line, print_notes
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from cnatool.comparing.drift.results import DriftResult, DriftSide, NumberDrift, TensorDrift

# Tensors in the table; the others drift less.
_LISTED = 30


def print_drift(result: DriftResult) -> None:
    """Print how far tensors and their units drift, then α and β, and what the numbers mean."""
    print_line(f"reference: {_side(result.reference)}")
    print_line(f"compared:  {_side(result.other)}")
    print_line("")
    listed = result.drift[:_LISTED]
    shown = shorten_names([tensor.name for tensor in listed])
    print_table(
        [
            ("layer", "right"),
            ("tensor", "left"),
            ("units", "right"),
            ("KS of units", "right"),
            ("largest", "right"),
            ("unit", "right"),
            ("|SMD|", "right"),
            ("p ≤ level", "right"),
            ("KS of means", "right"),
            ("SMD", "right"),
            ("p", "right"),
        ],
        [
            [
                "" if tensor.layer is None else str(tensor.layer),
                shown[tensor.name],
                *_unit_cells(tensor),
                *_mean_cells(tensor.means),
            ]
            for tensor in listed
        ],
        attached=(5, 9, 10),
    )
    print_cut(shown)
    more = len(result.drift) - len(listed)
    if more:
        print_line(f"{count_text(more, 'tensor')} that drift less: --json lists them")
    print_line("")
    print_table(
        [
            ("of each sample", "left"),
            ("reference", "right"),
            ("compared", "right"),
            ("KS", "right"),
            ("SMD", "right"),
            ("p", "right"),
        ],
        [
            [
                name,
                _number(score.mean),
                _number(score.mean2),
                *_mean_cells(score),
            ]
            for name, score in (("α", result.alpha), ("β", result.beta))
        ],
    )
    for name, score in (("α", result.alpha), ("β", result.beta)):
        if score.reason is not None:
            print_line(f"{name}: {with_options(score.reason)}")
    print_line("")
    for text in result.meaning_notes:
        print_line(f"{text}.")
    print_notes(result.notes)


def _side(side: DriftSide) -> str:
    return f"{printable(side.split)} of {side.store}, {count_text(side.samples, 'sample')}"


def _unit_cells(tensor: TensorDrift) -> list[str]:
    units = tensor.units
    if units is None:
        return ["–"] * 6
    drifting = f"{units.drifting:,} of {units.comparisons:,}" if units.comparisons else "–"
    return [
        f"{units.units:,}",
        _bounds(units.ks_mean, units.ks_high_mean),
        _number(units.ks_max, 3),
        "–" if units.farthest is None else str(units.farthest),
        _number(units.smd_mean, 2),
        drifting,
    ]


def _mean_cells(number: NumberDrift) -> list[str]:
    p = number.p_adjusted
    return [
        _number(number.ks, 3),
        _number(number.smd, 2),
        "–" if p is None else f"{p:.2g}" if p >= 1e-99 else "<1e-99",
    ]


def _bounds(low: float | None, high: float | None) -> str:
    """Write a distance, with the largest it can be where that differs as printed."""
    if low is None or high is None:
        return "–"
    least, most = _number(low, 3), _number(high, 3)
    return least if least == most else f"{least} [{most}]"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:z.{digits}f}"
