"""What units do as tables: tensors with dead units first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, number_text
from cnatool.cli.console import first_parts, print_line, print_notes, print_reasons
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from cnatool.per_unit.results import SplitUnits, TensorUnits, UnitsResult

# Significant digits of means, whose scale differs from tensor to tensor.
_DIGITS = 4


def print_units(result: UnitsResult) -> None:
    """Print each split's tensors, those with the largest share of dead units first."""
    for name, split in first_parts(list(result.splits.items()), "splits"):
        labelled = f", {split.classes:,} classes" if split.classes else ""
        print_line(f"{name}, {count_text(split.samples, 'sample')}{labelled}\n")
        _print_tensors(split)
        print_line("")
    print_line(f"dead: {result.dead_means}")
    print_line(f"constant: {result.constant_means}")
    print_line("mean, deviation, CCMAS: medians over the units; -o FILE writes each unit")
    print_reasons("left out", (f"{each.tensor}: {each.reason}" for each in result.left_out))
    print_notes(result.notes)


def _print_tensors(split: SplitUnits) -> None:
    tensors = sorted(split.tensors, key=lambda each: -each.dead / max(1, each.units))
    shown = shorten_names(each.tensor for each in tensors)
    columns = ("units", "dead", "constant", "zeros", "above 0", "mean", "deviation", "CCMAS")
    print_table(
        [
            ("tensor", "left"),
            ("operator", "left"),
            ("unit", "left"),
            *((header, "right") for header in columns),
        ],
        [
            [
                shown[each.tensor],
                each.operator,
                _describe_unit(each),
                f"{each.units:,}",
                _count_share(each.dead, each.units),
                f"{each.constant:,}",
                _percent(each.zeros),
                _percent(each.positives),
                _significant(each.mean),
                _significant(each.deviation),
                number_text(each.ccmas, 3),
            ]
            for each in tensors
        ],
    )
    print_cut(shown)


def _describe_unit(tensor: TensorUnits) -> str:
    """Describe what a unit is, as ``axis 0 of (64, 28, 28)``."""
    shape = f"({', '.join(map(str, tensor.shape))}{',' * (len(tensor.shape) == 1)})"
    if tensor.unit_axis is None:
        return f"all of {shape}"
    if tensor.unit_axis == "element":
        return f"element of {shape}"
    return f"axis {tensor.unit_axis} of {shape}"


def _count_share(count: int, whole: int) -> str:
    return f"{count:,} ({count / whole:.1%})" if count else "0"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _significant(value: float | None) -> str:
    return "–" if value is None else f"{value:.{_DIGITS}g}"
