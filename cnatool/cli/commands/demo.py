"""``cnatool demo``."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool._util.text import quote_for_shell
from cnatool.cli.console import ConsoleObserver, say, say_reasons

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.demo import DemoCorrelation, DemoRow

_ABOUT = """\
  sgd, adam      a perceptron with three hidden layers, by two optimisers
  noisy-labels   the same, trained on labels half of which were drawn at random;
                 its accuracy is measured on the right ones
  conv           three convolutions
"""


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Keep the stores in this folder; by default they are removed at the end.",
        ),
    ] = None,
) -> None:
    """Dump and score small networks over handwritten digits, as they learn."""
    from cnatool.demo import CONVENTION, correlate_measures, run_demo

    with _folder(output) as folder, ConsoleObserver() as observer:
        rows = run_demo(folder, observer)
    train, test = rows[-1].train.samples, rows[-1].test.samples
    say(f"{len(rows)} networks over 8×8 digits, {train} for training, {test} for testing:")
    for line in _ABOUT.splitlines():
        say(line)
    say("")
    say(f"convention {CONVENTION}; `cnatool score` also gives intervals\n")
    _print_networks(rows)
    say("\ncorrelation with test accuracy\n")
    _print_correlations(rows, correlate_measures(rows))
    _print_next(None if output is None else rows[-1].store)


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is None:
        with TemporaryDirectory(prefix="cnatool-demo-") as folder:
            yield Path(folder)
        return
    from cnatool.studying.write import check_folder

    check_folder(output)
    yield output


def _print_networks(rows: Sequence[DemoRow]) -> None:
    from cnatool.cli.tables.table import number, print_table
    from cnatool.demo import MEASURES

    headers = ("epoch", "acc. train", "acc. test", *MEASURES)
    print_table(
        [("run", "left"), *((header.replace(" ", "\n"), "right") for header in headers)],
        [
            [
                row.run,
                str(row.epoch),
                number(row.train.accuracy, 3),
                number(row.test.accuracy, 3),
                *(number(measure(row).value, 3) for measure in MEASURES.values()),
            ]
            for row in rows
        ],
    )
    say_reasons(
        "undefined (–)",
        (
            f"{name} of {row.store.stem}: {found.reason}"
            for row in rows
            for name, found in ((name, measure(row)) for name, measure in MEASURES.items())
            if found.value is None
        ),
    )


def _print_correlations(rows: Sequence[DemoRow], found: Sequence[DemoCorrelation]) -> None:
    from cnatool.cli.tables.table import number, print_table
    from cnatool.demo import MEASURES

    groups: dict[str | None, int] = {None: len(rows), **Counter(row.run for row in rows)}
    of = {(one.measure, one.run): one for one in found}
    coefficients = {
        "Pearson": {key: one.pearson for key, one in of.items()},
        "Spearman": {key: one.spearman for key, one in of.items()},
    }
    print_table(
        [
            ("coefficient", "left"),
            ("measure", "left"),
            *((f"{run or 'all'}\nn = {size}", "right") for run, size in groups.items()),
        ],
        [
            [name, measure, *(number(values[measure, run].value, 2) for run in groups)]
            for name, values in coefficients.items()
            for measure in MEASURES
        ],
        keys=2,
    )
    say_reasons(
        "undefined (–)",
        (
            f"{name}, {measure}, {run or 'all'}: {value.reason}"
            for name, values in coefficients.items()
            for (measure, run), value in values.items()
            if value.value is None
        ),
    )
    for one in found:
        if one.networks < groups[one.run]:
            say(f"{one.measure}, {one.run or 'all'}: defined for n = {one.networks} only")
    say("\nThe epochs of a run are not independent of each other, and with other seeds the")
    say("coefficients of CNA can change their sign.")


def _print_next(kept: Path | None) -> None:
    say("\nnext, on your own network:")
    say("  cnatool dump MODEL.onnx DATA -o STORE.zarr")
    say("  cnatool score STORE.zarr")
    if kept is not None:
        store = quote_for_shell(kept)
        say("or on a store of this demo:")
        say(f"  cnatool inspect {store}")
        say(f"  cnatool score {store}")
