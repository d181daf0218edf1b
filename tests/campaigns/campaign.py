"""What a campaign is: rounds that can be counted, repeated one by one, and continued."""

from __future__ import annotations

import json
import random
import time
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["Attack", "Campaign", "Outcome", "Round", "rounds", "table"]

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
    """

    what: str
    prepared: Callable[[Path], AbstractContextManager[Attack]]
    small: int


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


def rounds(
    name: str,
    attack: Attack,
    numbers: Iterator[int],
    *,
    seed: int = 0,
    seconds: float | None = None,
    record: Path | None = None,
) -> Iterator[Round]:
    """Do rounds until the numbers or the seconds are used up.

    Parameters
    ----------
    name : str
        The campaign's name.
    attack : Attack
    numbers : iterator of int
        The rounds to do.
    seed : int
        Rounds of equal seed and number are equal.
    seconds : float, optional
        No round begins later than this.
    record : Path, optional
        A file that gets a line of JSON for each round. Rounds that it has already are not repeated.
    """
    known = {r.number: r for r in _recorded(record) if (r.campaign, r.seed) == (name, seed)}
    begun = time.monotonic()
    for number in numbers:
        if number in known:
            yield known[number]
            continue
        start = time.monotonic()
        if seconds is not None and start - begun > seconds:
            return
        error = ""
        try:
            outcome = attack(number, random.Random(f"{seed}/{name}/{number}"))
        except Exception as failure:
            outcome = Outcome(getattr(failure, "subject", name), FAILED)
            error = "".join(traceback.format_exception(failure))[-3000:]
        took = round(time.monotonic() - start, 3)
        done = Round(name, seed, number, outcome.subject, outcome.result, took, error)
        if record is not None:
            with record.open("a") as file:
                print(json.dumps(asdict(done)), file=file)
        yield done


def _recorded(record: Path | None) -> list[Round]:
    if record is None or not record.exists():
        return []
    lines = record.read_text().splitlines()
    return [Round(**json.loads(line)) for line in lines if line.endswith("}")]


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
