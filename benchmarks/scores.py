"""Measurements of `cnatool score` over stores of many samples."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cases import keep
from figures import Row, Side, Spread
from processes import Usage, run_process
from registry import Run, register
from sample_stores import write_sample_store

# What is computed besides the coefficients, left out.
PLAIN = ("--set=resamples=0", "--set=area_resamples=0", "--set=permutations=0")
COMMANDS: dict[str, tuple[str, ...]] = {
    "score with all intervals": ("score",),
    "score without intervals and p-values": ("score", *PLAIN),
    "layers": ("layers",),
}


class Samples(NamedTuple):
    """How many samples of how many tensors a store holds."""

    train: int
    test: int
    layers: int
    shape: tuple[int, ...] = (28, 28)

    def __str__(self) -> str:
        return f"{self.train + self.test:,} samples × {self.layers} tensors"

    def open(self, run: Run) -> Path:
        """Return the store, made if the cache lacks it."""
        name = f"samples-{self.train}-{self.test}-{self.layers}-{self.shape[0]}.zarr"
        return keep(run.cache, name, partial(write_sample_store, *self))


def measure_commands(
    run: Run, samples: Samples, commands: Sequence[str], rounds: int
) -> dict[str, list[Usage]]:
    """Run commands over a store in turn, a process each time."""
    store = samples.open(run)
    used: dict[str, list[Usage]] = {title: [] for title in commands}
    for _ in range(rounds):
        for title in commands:
            command, *options = COMMANDS[title]
            words = (sys.executable, "-m", "cnatool", command, store, *options)
            used[title].append(run_process(*words))
    return used


def measure_large(run: Run, train: int, test: int, rounds: int, goals: bool) -> list[Row]:
    """Measure processor time and memory of 8 layers."""
    samples = Samples(train, test, 8)
    commands = list(COMMANDS)[: 1 if goals and run.quick else None]
    rows = []
    for title, usages in measure_commands(run, samples, commands, rounds).items():
        side = Side.of("cnatool", usages)
        spent = Spread.of(usage.processor_seconds for usage in usages)
        goal = 4 if goals and title == commands[0] else None
        rows.append(Row(f"{title}, {samples}", side, None, spent, "s of processor time", goal))
        if goal is not None:
            peak = Spread.of(usage.megabytes for usage in usages)
            rows.append(Row(f"{title}, {samples}", side, None, peak, "MB", 300))
    return rows


def measure_wide(run: Run) -> list[Row]:
    """Measure the time of a million samples of many tensors."""
    half = run.count_rows(500_000)
    samples = Samples(half, half, 100, (64,))
    title = next(iter(COMMANDS))
    usages = measure_commands(run, samples, [title], run.count_rounds(3, 1))[title]
    taken = Spread.of(usage.seconds for usage in usages)
    return [Row(f"{title}, {samples}", Side.of("cnatool", usages), None, taken, "s", 6)]


register(
    "score/small",
    lambda run: measure_large(
        run, run.count_rows(60_000), run.count_rows(10_000), run.count_rounds(3, 1), goals=False
    ),
)
register(
    "score/large",
    lambda run: measure_large(
        run, run.count_rows(1_000_000), run.count_rows(170_000), run.count_rounds(3, 1), goals=True
    ),
)
register("score/wide", measure_wide)
