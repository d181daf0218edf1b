"""A campaign whose rounds raise, crash and hang, which shows that others go on."""

from __future__ import annotations

import ctypes
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import FAILED, Attack, Campaign, Outcome

# What comes of each round, and what its error says.
RESULTS = [
    ("held", ""),
    (FAILED, "ValueError: a number is wrong"),
    ("held", ""),
    (FAILED, "ended with -11"),
    ("held", ""),
    (FAILED, "ended with 9"),
    (FAILED, "in sleep_for_long"),
    ("held", ""),
]


@contextmanager
def _broken(folder: Path) -> Iterator[Attack]:
    def sleep_for_long() -> None:
        time.sleep(60)

    def attack(number: int, rng: random.Random) -> Outcome:
        error = RESULTS[number][1]
        if "wrong" in error:
            raise ValueError("a number is wrong")
        if "-11" in error:
            ctypes.string_at(0)
        if "9" in error:
            os._exit(9)
        if "sleep" in error:
            sleep_for_long()
        (folder / f"{number} {rng.random()}").touch()
        return Outcome("round", "held")

    yield attack


BROKEN = Campaign("rounds that raise, crash and hang", _broken, len(RESULTS), limit=3)
