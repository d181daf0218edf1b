"""Measurements of `cnatool score` over stores of many samples."""

from __future__ import annotations

import sys
from functools import partial

from cases import keep
from figures import Row, Side, Spread
from processes import Usage, run_process
from registry import Run, register
from sample_stores import write_sample_store
from timing import Taken


def score(
    run: Run, train: int, test: int, layers: int, shape: tuple[int, ...], rounds: int
) -> tuple[str, list[Usage]]:
    """Score a store with all intervals, in a process each time; return what, and usages."""
    size = "x".join(map(str, shape))
    name = f"samples-{train}-{test}-{layers}-{size}.zarr"
    store = keep(run.cache, name, partial(write_sample_store, train, test, layers, shape))
    usages = [run_process(sys.executable, "-m", "cnatool", "score", store) for _ in range(rounds)]
    return f"score with all intervals, {train + test:,} samples × {layers} tensors", usages


def measure_large(run: Run) -> list[Row]:
    """Measure processor time and memory of a store as large as ImageNet."""
    train, test = run.count_rows(1_000_000), run.count_rows(170_000)
    what, usages = score(run, train, test, 8, (28, 28), run.count_rounds(3, 1))
    side = _side(usages)
    spent = Spread.of(usage.processor_seconds for usage in usages)
    peak = Spread.of(usage.megabytes for usage in usages)
    return [
        Row(what, side, None, spent, "s of processor time", 4),
        Row("the same, peak memory", side, None, peak, "MB", 300),
    ]


def measure_wide(run: Run) -> list[Row]:
    """Measure the time of a store of many tensors."""
    half = run.count_rows(500_000)
    what, usages = score(run, half, half, 100, (64,), run.count_rounds(3, 1))
    taken = Spread.of(usage.seconds for usage in usages)
    return [Row(what, _side(usages), None, taken, "s", 6)]


def _side(usages: list[Usage]) -> Side:
    taken = [Taken(*usage[1:]) for usage in usages]
    return Side.of("cnatool", taken, [usage.megabytes for usage in usages])


register("score/large", measure_large)
register("score/wide", measure_wide)
