"""``cnatool demo``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool._util.text import quote_for_shell
from cnatool.cli.console import ConsoleObserver, print_line
from cnatool.cli.options import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Dump and score small networks as they learn handwritten digits."""
    from cnatool.cli.tables.demo import print_correlations, print_networks
    from cnatool.demo import CONVENTION, correlate_measures, run_demo

    with _folder(output) as folder, ConsoleObserver() as observer:
        rows = run_demo(folder, observer)
    train, test = rows[-1].train.samples, rows[-1].test.samples
    print_line(f"{len(rows)} networks over 8×8 digits, {train} for training, {test} for testing:")
    for line in _ABOUT.splitlines():
        print_line(line)
    print_line("")
    print_line(f"convention {CONVENTION}; `cnatool score` also gives intervals\n")
    print_networks(rows)
    print_line("\ncorrelation with test accuracy\n")
    print_correlations(rows, correlate_measures(rows))
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


def _print_next(kept: Path | None) -> None:
    print_line("\nnext, on your own network:")
    print_line("  cnatool dump MODEL.onnx DATA -o STORE.zarr")
    print_line("  cnatool score STORE.zarr")
    if kept is not None:
        store = quote_for_shell(kept)
        print_line("or on a store of this demo:")
        print_line(f"  cnatool inspect {store}")
        print_line(f"  cnatool score {store}")
