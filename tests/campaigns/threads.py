"""Threads: first uses of cnatool in several threads of a fresh process, on one store or several."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Attack, Outcome
from campaigns.lasting import Workplace, workplace
from campaigns.made import FORMATS, done, removed
from campaigns.racing import USES

_CALL = "campaigns.racing:race"
_MOST = 8
_STORES = [f"../common/{name}.{form}" for name in ("dump", "n0") for form in FORMATS]
# One process in so many imports cnatool itself, which then may happen in its threads.
_TRUE = 6


class _Threads:
    """The campaign with its files."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._alone: dict[tuple[str, str, str], str] = {}

    def __call__(self, number: int, rng: random.Random) -> Outcome:
        """Let threads use cnatool in one way, or each in a way of its own."""
        names = [*USES, "all at once"]
        name = names[number % len(names)]
        try:
            self._round(name, rng)
        except Exception as error:
            error.subject = name  # type: ignore[attr-defined]
            raise
        return Outcome(name, "equal")

    def _round(self, name: str, rng: random.Random) -> None:
        stores = rng.choice([_STORES, [rng.choice(_STORES)]])
        uses = []
        for thread in range(rng.randint(2, _MOST)):
            use = rng.choice(list(USES)) if name == "all at once" else name
            uses.append((use, rng.choice(stores), f"t{thread}.{rng.choice(FORMATS)}"))
        expected = [self._of_one(*words) for words in uses]
        found = self._race(uses, rng, forked=rng.randrange(_TRUE) > 0)
        wrong = [
            (words, digest)
            for words, digest, truth in zip(uses, found, expected, strict=True)
            if digest != truth
        ]
        assert not wrong, f"of {uses}: {wrong}"

    def _of_one(self, use: str, store: str, target: str) -> str:
        """Give the result of a process with one thread."""
        form = target.rpartition(".")[2]
        if (use, store, form) not in self._alone:
            self._alone[use, store, form] = self._race([(use, store, target)], None)[0]
        return self._alone[use, store, form]

    def _race(
        self, uses: list[tuple[str, str, str]], rng: random.Random | None, *, forked: bool = True
    ) -> list[str]:
        where = self._place.where
        where.mkdir(exist_ok=True)
        for path in where.iterdir():
            removed(path)
        interval = 0.005 if rng is None else 10 ** rng.uniform(-6.5, -3)
        plan = {"uses": uses, "interval": interval, "seed": rng.random() if rng else 0}
        running = self._place.commands.start(json.dumps(plan), cwd=where, call=_CALL, forked=forked)
        found: list[str] = json.loads(done(running.ended()).output)
        return found


@contextmanager
def used_in_threads(folder: Path) -> Iterator[Attack]:
    """Use cnatool in several threads of fresh processes."""
    with workplace(folder) as place:
        yield _Threads(place)
