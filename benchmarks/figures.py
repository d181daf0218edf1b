"""The figures that `all.py` measures, and the JSON file that holds them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from operator import sub, truediv
from pathlib import Path
from typing import Literal, Self

import msgspec
from processes import Usage
from timing import Taken

Unit = Literal["times", "s more", "s", "s of processor time", "MB"]


class Spread(msgspec.Struct, frozen=True):
    """Median and range of a quantity over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Summarise the values of all rounds."""
        values = [float(f"{value:.4g}") for value in values]
        return cls(statistics.median(values), min(values), max(values))


class Side(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one of two that are compared took."""

    title: str
    seconds: Spread
    processor_seconds: Spread
    megabytes: Spread | None = None

    @classmethod
    def of(cls, title: str, taken: Sequence[Taken]) -> Self:
        """Summarise times, and peaks of memory where whole processes were measured."""
        peaks = [each.megabytes for each in taken if isinstance(each, Usage)]
        return cls(
            title,
            Spread.of(each.seconds for each in taken),
            Spread.of(each.processor_seconds for each in taken),
            Spread.of(peaks) if peaks else None,
        )


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of the table: what is measured, and the figure that has a goal."""

    what: str
    measured: Side
    peer: Side | None
    figure: Spread
    unit: Unit
    goal: float | None = None
    processor_figure: Spread | None = None  # the same ratio, of processor time
    reached: bool | None = None

    def __post_init__(self) -> None:
        if self.goal is not None:
            msgspec.structs.force_setattr(self, "reached", self.figure.median <= self.goal)


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one measurement found."""

    name: str
    parameters: dict[str, str]  # under which it is the same measurement
    rows: list[Row] = []
    left_out: dict[str, str] = {}  # why each peer, or the measurement itself, did not run


class Machine(msgspec.Struct, frozen=True):
    """Where the figures come from."""

    system: str
    processor: str
    cores: int
    memory_gb: float
    load: tuple[float, float]  # the average of a minute, at the beginning and at the end


class Report(msgspec.Struct):
    """All figures of one run."""

    command: str
    quick: bool
    machine: Machine
    versions: dict[str, str]
    results: list[Result]


def compare_times(
    what: str,
    peer: tuple[str, Sequence[Taken]],
    ours: tuple[str, Sequence[Taken]],
    goal: float | None = None,
) -> Row:
    """Make the row of a ratio of times, which is taken within each round."""
    return _compare(what, peer, ours, goal, "times", truediv)


def subtract_times(
    what: str,
    peer: tuple[str, Sequence[Taken]],
    ours: tuple[str, Sequence[Taken]],
    goal: float | None = None,
) -> Row:
    """Make the row of a difference of times, which is taken within each round."""
    return _compare(what, peer, ours, goal, "s more", sub)


def _compare(
    what: str,
    peer: tuple[str, Sequence[Taken]],
    ours: tuple[str, Sequence[Taken]],
    goal: float | None,
    unit: Unit,
    relate: Callable[[float, float], float],
) -> Row:
    pairs = list(zip(ours[1], peer[1], strict=True))
    return Row(
        what,
        Side.of(*ours),
        Side.of(*peer),
        Spread.of(relate(a.seconds, b.seconds) for a, b in pairs),
        unit,
        goal,
        # The system counts hundredths of a second.
        Spread.of(relate(a.processor_seconds, max(b.processor_seconds, 0.01)) for a, b in pairs),
    )


def read_report(path: Path) -> Report:
    """Read a file of figures."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def write_report(report: Report, path: Path) -> None:
    """Write a file of figures; one that is interrupted leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    temporary.replace(path)
