"""What a campaign is: rounds that can be counted, repeated one by one, and continued."""

from __future__ import annotations

import random
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["FAILED", "Attack", "Campaign", "Outcome", "Round", "done_round", "table"]

FAILED = "FAILED"


@dataclass(frozen=True)
class Outcome:
    """How a round ended.

    Attributes
    ----------
    subject : str
        What was attacked: a row of the table.
    result : str
        What came of it: a column of the table.
    """

    subject: str
    result: str


class Attack(Protocol):
    """A campaign whose files are made."""

    def __call__(self, number: int, rng: random.Random) -> Outcome:
        """Do one round.

        Parameters
        ----------
        number : int
            Number of the round; subjects take turns by it.
        rng : random.Random
            Everything random in the round comes from here, so that the round can be repeated.

        Raises
        ------
        Exception
            If cnatool did what it must not do; the message says what.
        """


@dataclass(frozen=True)
class Campaign:
    """A kind of attack.

    Attributes
    ----------
    what : str
        What is attacked, and what must hold, in one line.
    prepared : callable
        Makes what is attacked in an empty folder, and takes it away in the end.
    small : int
        Rounds that show in seconds that the campaign works.
    limit : float
        Seconds after which a round counts as one that hangs.
    """

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
