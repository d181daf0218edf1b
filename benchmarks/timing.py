"""Timing for all benchmarks: rounds in turn, medians, ratios within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["compare", "seconds"]


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
    """Time two calls in turn, so that a machine whose speed drifts favours neither; print ratios.

    Parameters
    ----------
    title : str
        What is compared.
    peer, ours : (str, callable)
        A name and what to time.
    rounds : int
        Rounds that count, after one that does not.
    clock : callable
        What is read; processor time says more where other work keeps the machine busy.
    """
    times: dict[str, list[float]] = {peer[0]: [], ours[0]: []}
    for round_ in range(rounds + 1):
        for name, call in (peer, ours):
            taken = seconds(call, clock)
            if round_:
                times[name].append(taken)
    ratios = [b / a for a, b in zip(times[peer[0]], times[ours[0]], strict=True)]
    each = ", ".join(f"{name} {statistics.median(taken):.3f} s" for name, taken in times.items())
    print(
        f"{title}: {each}; ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )
