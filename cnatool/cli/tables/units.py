"""What units do as tables: tensors with dead units first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import count_text, list_names, number_text
from cnatool.cli.console import first_parts, print_line, print_notes, print_reasons
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import polars

    from cnatool.per_unit.results import SplitUnits, TensorUnits, UnitsResult

# Significant digits of means, whose scale differs from tensor to tensor.
_DIGITS = 4


def print_units(
    result: UnitsResult, frames: Callable[[], Iterable[polars.DataFrame]], most: int = 0
) -> None:
    """Print each split's tensors, those with the largest share of dead units first.

    Of each, up to ``most`` units follow, from ``frames``, which returns the units tensor by tensor.
    """
    tables = {tuple(f.row(0)[:2]): f for f in frames() if len(f)} if most else {}
    for name, split in first_parts(list(result.splits.items()), "splits"):
        labelled = f", {split.classes:,} classes" if split.classes else ""
        print_line(f"{name}, {count_text(split.samples, 'sample')}{labelled}\n")
        _print_tensors(split)
        print_line("")
        for tensor in _order(split) if most else ():
            if (name, tensor.tensor) in tables:
                _print_single(tensor, tables[name, tensor.tensor], most)
    print_line(f"dead: {result.dead_means}")
    print_line(f"constant: {result.constant_means}")
    print_line(
        "mean, deviation, CCMAS: medians over the units"
        + ("" if most else "; --list N shows single units, and -o FILE writes each")
    )
    by_reason: dict[str, list[str]] = {}
    for each in result.left_out:
        by_reason.setdefault(each.reason, []).append(each.tensor)
    print_reasons(
        "left out", (f"{list_names(names)}: {reason}" for reason, names in by_reason.items())
    )
    print_notes(result.notes)


def _print_tensors(split: SplitUnits) -> None:
    tensors = _order(split)
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


def _order(split: SplitUnits) -> list[TensorUnits]:
    return sorted(split.tensors, key=lambda each: -each.dead / max(1, each.units))


def _print_single(tensor: TensorUnits, units: polars.DataFrame, most: int) -> None:
    """Print some units of a tensor: dead ones first, then by selectivity, then by number."""
    order = ("dead", "ccmas", "unit")
    first = units.sort(order, descending=(True, True, False), nulls_last=True).head(most)
    print_line(f"{tensor.tensor}\n")
    numbers = ("zeros", "above 0", "mean", "deviation", "max")
    print_table(
        [
            ("unit", "right"),
            ("", "left"),
            *((header, "right") for header in numbers),
            ("class", "left"),
            ("CCMAS", "right"),
            ("excited most by", "left"),
        ],
        [
            [
                str(unit["unit"]),
                _state(unit),
                _percent(unit["zeros"]),
                _percent(unit["positives"]),
                *(_significant(unit[column]) for column in ("mean", "deviation", "max")),
                _class_text(unit),
                number_text(unit["ccmas"], 3),
                (unit["top_ids"] or ["–"])[0],
            ]
            for unit in first.iter_rows(named=True)
        ],
    )
    if len(units) > most:
        print_line(f"and {count_text(len(units) - most, 'unit')} more: -o FILE writes each")
    print_line("")


def _state(unit: Mapping[str, Any]) -> str:
    if not unit["count"]:
        return "no values"
    return "dead" if unit["dead"] else "constant" * unit["constant"]


def _class_text(unit: Mapping[str, Any]) -> str:
    label = unit["class"] if unit["class_name"] is None else unit["class_name"]
    return "–" if label is None else str(label)


def _describe_unit(tensor: TensorUnits) -> str:
    """Describe what a unit is, as ``axis 0 of (64, 28, 28)``."""
    sizes = ["…" if size is None else str(size) for size in tensor.shape]
    shape = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
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
