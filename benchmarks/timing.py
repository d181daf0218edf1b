"""Timing of all benchmarks: alternating rounds, medians, and ratios within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time one call."""
    start = clock()
    call()
    return clock() - start


def compare(
    title: str,
    peer: tuple[str, Callable[[], object]],
    ours: tuple[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time two calls alternately, so that a machine whose speed drifts favours neither.

    Parameters
    ----------
    title : str
        What is compared.
    peer, ours : (str, callable)
        A name and the call to time.
    rounds : int
        Number of rounds, after one for warm-up.
    clock : callable
        Processor time is more reliable on a busy machine.
    """
    times: dict[str, list[float]] = {peer[0]: [], ours[0]: []}
    for round_ in range(rounds + 1):
        for name, call in (peer, ours):
            duration = seconds(call, clock)
            if round_:
                times[name].append(duration)
    ratios = [b / a for a, b in zip(times[peer[0]], times[ours[0]], strict=True)]
    each = ", ".join(
        f"{name} {statistics.median(durations):.3f} s" for name, durations in times.items()
    )
    print(
        f"{title}: {each}; ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )
