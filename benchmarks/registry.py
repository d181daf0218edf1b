"""The measurements by name, and what each of them may use."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from figures import Result, Row
from working_folder import WorkingFolder


class NotMeasuredError(Exception):
    """Why something cannot be measured here."""


@dataclass(frozen=True)
class Run:
    """How a measurement is made.

    Parameters
    ----------
    cache : Path
        Folder for made-up data, and for what is written and removed again.
    python : Path
        Interpreter with the peers that are not installed beside cnatool.
    quick : bool
        With fewer rounds, and fewer rows where that changes little.
    scale : float
        Factor of all numbers of rows, to try a measurement.
    rounds : int, optional
        Number of rounds, for all measurements.
    """

    cache: Path
    python: Path
    quick: bool = False
    scale: float = 1.0
    rounds: int | None = None
    left_out: dict[str, str] = field(default_factory=dict)  # peers, and why

    def count_rows(self, full: int, quick: int | None = None) -> int:
        """Return a number of rows."""
        rows = quick if self.quick and quick is not None else full
        return max(1, round(rows * self.scale))

    def count_rounds(self, full: int, quick: int) -> int:
        """Return a number of rounds."""
        return self.rounds or (quick if self.quick else full)

    @contextmanager
    def open_folder(self) -> Iterator[WorkingFolder]:
        """Open a folder for output, on the disk of the cache, and remove it at the end."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="output-") as name:
            yield WorkingFolder(Path(name))


Measurement = Callable[[Run], list[Row]]
MEASUREMENTS: dict[str, Measurement] = {}


def register(name: str, measurement: Measurement) -> None:
    """Add a measurement."""
    assert name not in MEASUREMENTS, name
    MEASUREMENTS[name] = measurement


def select(patterns: Sequence[str]) -> list[str]:
    """Return the names that match one of the patterns, in their order; exit if one matches none."""
    for pattern in patterns:
        if not fnmatch.filter(MEASUREMENTS, pattern):
            raise SystemExit(f"no measurement is called {pattern!r}: {', '.join(MEASUREMENTS)}")
    return [
        name
        for name in MEASUREMENTS
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def measure(name: str, run: Run, parameters: dict[str, str]) -> Result:
    """Make one measurement, of which it may be known only why it was not made."""
    try:
        rows = MEASUREMENTS[name](run)
    except NotMeasuredError as error:
        return Result(name, parameters, [], {name: str(error)})
    return Result(name, parameters, rows, run.left_out)
