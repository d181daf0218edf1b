"""Timing of all benchmarks: calls that take turns, medians, and ratios within a round."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Taken:
    """What one call took: time on the clock, and of the processors, child processes included."""

    seconds: float
    processor_seconds: float


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time one call."""
    start = clock()
    call()
    return clock() - start


def processor_seconds() -> float:
    """Return the processor time of this process and of the children that it waited for."""
    return sum(os.times()[:4])


def take(call: Callable[[], object]) -> Taken:
    """Take both times of one call."""
    used = processor_seconds()
    duration = seconds(call)
    return Taken(duration, processor_seconds() - used)


def alternate(
    calls: Mapping[str, Callable[[], object]], rounds: int, prepare: Callable[[], None]
) -> dict[str, list[Taken]]:
    """Time calls in turn, so that a machine whose speed drifts favours none.

    Parameters
    ----------
    calls : mapping of str to callable
        What is timed, by name.
    rounds : int
        How often. Each round begins with another call, since what comes first finds memory and
        disk in another state.
    prepare : callable
        Called before each call, outside of the time.

    Returns
    -------
    dict of str to list of Taken
        The times of each call, one a round.
    """
    times: dict[str, list[Taken]] = {name: [] for name in calls}
    order = list(calls.items())
    for _ in range(rounds):
        for name, call in order:
            prepare()
            times[name].append(take(call))
        order = order[1:] + order[:1]
    return times


def find_fastest(call: Callable[[_T], object], settings: Sequence[_T], rounds: int = 3) -> _T:
    """Return the setting, such as a batch size, with which a call is fastest at its best."""
    durations = dict.fromkeys(settings, float("inf"))
    for _ in range(rounds):
        for setting in settings:
            durations[setting] = min(durations[setting], seconds(partial(call, setting)))
    return min(durations, key=lambda setting: durations[setting])


def compare(
    title: str,
    peer: tuple[str, Callable[[], object]],
    ours: tuple[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time two calls alternately, and print medians and the ratio.

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
