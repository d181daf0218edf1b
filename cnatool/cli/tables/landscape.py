"""CNA over a plane of activations as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, number_text, printable
from cnatool.cli.console import print_line, print_notes
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.study import print_not_scored
from cnatool.cli.tables.table import print_table
from cnatool.cli.tables.trajectory import step_text, step_title

if TYPE_CHECKING:
    from cnatool.cli.tables.table import Column
    from cnatool.studying.results import LandscapeResult


def print_landscape(result: LandscapeResult) -> None:
    """Print the plane, where each checkpoint lies in it, and CNA there and over the grid."""
    print_line(f"convention {result.convention}")
    print_line(
        f"{count_text(result.samples, 'sample')} of {result.split}, "
        f"{count_text(len(result.layers), 'layer')}: {count_text(result.dimension, 'activation')} "
        f"at each of {count_text(len(result.points), 'checkpoint')}"
    )
    first, second = result.variance_shares[:2]
    print_line(
        f"the plane captures {_percent(first + second)} of their variance: {_percent(first)} and "
        f"{_percent(second)}\n"
    )
    columns: list[Column] = [] if result.by is None else [(printable(result.by), "left")]
    print_table(
        [
            *columns,
            (step_title(result.order), "right"),
            ("x", "right"),
            ("y", "right"),
            ("in plane", "right"),
            ("CNA", "right"),
            ("projected", "right"),
        ],
        [
            [
                *([] if point.run is None else [point.run]),
                step_text(point.step),
                number_text(point.x),
                number_text(point.y),
                "–" if point.captured is None else _percent(point.captured),
                number_text(point.cna.value),
                number_text(point.cna_projected.value),
            ]
            for point in result.points
        ],
        keys=len(columns) + 1,
    )
    values = [point.cna.value for point in result.grid if point.cna.value is not None]
    size = f"{result.grid_size} × {result.grid_size}"
    if values:
        print_line(
            f"\nCNA over a grid of {size}: {number_text(min(values))} … {number_text(max(values))}"
        )
    for name, estimates in (
        ("CNA", [point.cna for point in result.points]),
        ("projected CNA", [point.cna_projected for point in result.points]),
        ("CNA over the grid", [point.cna for point in result.grid]),
    ):
        reasons = [estimate.reason for estimate in estimates if estimate.reason is not None]
        for reason in dict.fromkeys(reasons):
            places = f"{reasons.count(reason)} of {len(estimates)} points"
            print_line(f"\n{name} is undefined at {places}: {with_options(reason)}")
    print_not_scored(result.not_scored)
    print_notes(result.notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
