"""The networks of the demo as tables."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cnatool._util.text import number_text
from cnatool.cli.console import print_line, print_reasons
from cnatool.cli.tables.table import print_table
from cnatool.demo import MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.demo import DemoCorrelation, DemoRow


def print_networks(rows: Sequence[DemoRow]) -> None:
    """Print accuracy and measures of each network."""
    headers = ("epoch", "acc. train", "acc. test", *MEASURES)
    print_table(
        [("run", "left"), *((header.replace(" ", "\n"), "right") for header in headers)],
        [
            [
                row.run,
                str(row.epoch),
                number_text(row.train.accuracy, 3),
                number_text(row.test.accuracy, 3),
                *(number_text(measure(row).value, 3) for measure in MEASURES.values()),
            ]
            for row in rows
        ],
    )
    print_reasons(
        "undefined (–)",
        (
            f"{name} of {row.store.stem}: {estimate.reason}"
            for row in rows
            for name, estimate in ((name, measure(row)) for name, measure in MEASURES.items())
            if estimate.value is None
        ),
    )


def print_correlations(rows: Sequence[DemoRow], correlations: Sequence[DemoCorrelation]) -> None:
    """Print how measures go with test accuracy, over all networks and over each run."""
    groups: dict[str | None, int] = {None: len(rows), **Counter(row.run for row in rows)}
    coefficients = {
        "Pearson": {(row.measure, row.run): row.pearson for row in correlations},
        "Spearman": {(row.measure, row.run): row.spearman for row in correlations},
    }
    print_table(
        [
            ("coefficient", "left"),
            ("measure", "left"),
            *((f"{run or 'all'}\nn = {size}", "right") for run, size in groups.items()),
        ],
        [
            [name, measure, *(number_text(values[measure, run].value, 2) for run in groups)]
            for name, values in coefficients.items()
            for measure in MEASURES
        ],
        keys=2,
    )
    print_reasons(
        "undefined (–)",
        (
            f"{name}, {measure}, {run or 'all'}: {value.reason}"
            for name, values in coefficients.items()
            for (measure, run), value in values.items()
            if value.value is None
        ),
    )
    for row in correlations:
        if row.networks < groups[row.run]:
            print_line(f"{row.measure}, {row.run or 'all'}: defined for n = {row.networks} only")
    print_line("\nThe epochs of a run are not independent of each other, and with other seeds the")
    print_line("coefficients of CNA can change their sign.")
