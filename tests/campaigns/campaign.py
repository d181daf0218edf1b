"""What a campaign is: rounds that can be counted, repeated one by one, and continued."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FAILED = "FAILED"


@dataclass(frozen=True)
class Outcome:
    """How a round ended."""

    subject: str
    result: str


class Attack(Protocol):
    """A campaign whose files are made."""

    def __call__(self, number: int, rng: random.Random) -> Outcome:
        """Do one round."""


@dataclass(frozen=True)
class Campaign:
    """A kind of attack."""

    what: str
    prepared: Callable[[Path], AbstractContextManager[Attack]]
    small: int
    limit: float = 120


@dataclass(frozen=True)
class Round:
    """One round that was done: a line of the record."""

    campaign: str
    seed: int
    number: int
    subject: str
    result: str
    seconds: float
    error: str = ""


def done_round(name: str, attack: Attack, number: int, seed: int) -> Round:
    """Do one round in this process."""
    start = time.monotonic()
    error = ""
    try:
        outcome = attack(number, random.Random(f"{seed}/{name}/{number}"))
    except Exception as failure:
        outcome = Outcome(getattr(failure, "subject", name), FAILED)
        error = "".join(traceback.format_exception(failure))[-3000:]
    took = round(time.monotonic() - start, 3)
    return Round(name, seed, number, outcome.subject, outcome.result, took, error)


def table(done: list[Round]) -> str:
    """Count results by subject, as a table in Markdown."""
    subjects = sorted({r.subject for r in done})
    results = sorted({r.result for r in done}, key=lambda result: (result == FAILED, result))
    rows = [["", *results, "rounds", "seconds"], ["---"] + ["--:"] * (len(results) + 2)]
    for subject in [*subjects, ""]:
        those = [r for r in done if subject in ("", r.subject)]
        counts = [sum(r.result == result for r in those) for result in results]
        took = f"{sum(r.seconds for r in those):.0f}"
        rows.append([subject or "all", *map(str, counts), str(len(those)), took])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
