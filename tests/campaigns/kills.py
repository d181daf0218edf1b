"""Kills: every command that writes, ended at any moment, again and again until it is done."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Attack, Outcome
from campaigns.jobs import JOBS
from campaigns.lasting import Workplace, Written, workplace
from campaigns.made import FORMATS, done
from campaigns.processes import Ended, Trouble

# One attempt in so many is a process of its own instead of a fork.
_TRUE = 12
# Signals, and how often each is chosen.
_SIGNALS = {signal.SIGKILL: 14, signal.SIGINT: 3, signal.SIGTERM: 3, signal.SIGHUP: 1}
_CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}


class _Round:
    """One store or folder of results, killed until it is done."""

    def __init__(self, workplace: Workplace, name: str, form: str, rng: random.Random) -> None:
        self._workplace, self._rng = workplace, rng
        self.attempts: list[str] = []
        self._written = Written(workplace, name, form, rng)

    def play(self) -> int:
        """Kill as often as chosen, then let it end; give the number of kills."""
        kills = self._rng.choice([1, 1, 1, 2, 2, 3, 4, 6])
        for kill in range(kills):
            ended = self._killed(self._written.next())
            self._written.check(complete=not ended.code)
            if not ended.code:
                return kill
        words = self._written.next()
        self.attempts.append(f"{' '.join(map(str, words))}: to its end")
        place = self._workplace
        done(place.commands.run(*words, cwd=place.where, call=self._written.job.call))
        self._written.check(complete=True)
        return kills

    def _killed(self, words: tuple[object, ...]) -> Ended:
        """Start a command, and kill it, unless it is done before."""
        rng, place, job = self._rng, self._workplace, self._written.job
        number = rng.choices(list(_SIGNALS), list(_SIGNALS.values()))[0]
        line = " ".join(map(str, words))
        kind = rng.randrange(_TRUE)
        if kind == 0 or kind > _TRUE // 2:
            number = signal.SIGKILL if kind == 0 else number
            seconds = rng.uniform(0, self._written.reference.seconds * (1.2 if kind else 2.5))
            self.attempts.append(f"{line}: {number.name} after {seconds:.3f} s")
            running = place.commands.start(
                *words, cwd=place.where, call=job.call, forked=bool(kind)
            )
            running.wait(seconds)
            running.send(number)
            ended = running.ended()
        else:
            # Operations of one that goes on are fewer.
            share = rng.random() ** (2 if self.attempts else 1)
            at = int(share * self._written.reference.operations)
            self.attempts.append(f"{line}: {number.name} at operation {at}")
            trouble = Trouble(at, signal=number)
            ended = place.commands.run(*words, cwd=place.where, call=job.call, trouble=trouble)
        self.attempts[-1] += f" -> {ended.code}"
        if ended.code:
            self._check_ended(ended, number)
        return ended

    def _check_ended(self, ended: Ended, number: signal.Signals) -> None:
        if self._written.job.call:
            # A script of the user's, which Python ends.
            interrupted = number == signal.SIGINT and "KeyboardInterrupt" in ended.errors
            # The last of these before the script begins.
            assert ended.code in (-number, _CODES[number]) or interrupted, ended.errors[-1500:]
            return
        assert ended.code == _CODES[number], ended.errors[-1500:]
        if number != signal.SIGKILL:
            assert ended.errors.endswith(f"cnatool: {_WORDS[number]}.\n"), ended.errors[-1500:]
            assert "Traceback" not in ended.errors, ended.errors[-1500:]


@contextmanager
def killed_commands(folder: Path) -> Iterator[Attack]:
    """Kill commands that write, and go on with what they leave."""
    with workplace(folder) as place:

        def attack(number: int, rng: random.Random) -> Outcome:
            name, form = list(JOBS)[number % len(JOBS)], FORMATS[(number + number // len(JOBS)) % 2]
            one = _Round(place, name, form, rng)
            try:
                kills = one.play()
            except Exception as error:
                error.subject = f"{name}, {form}"  # type: ignore[attr-defined]
                error.add_note("\n".join(one.attempts))
                raise
            return Outcome(f"{name}, {form}", f"{kills} kill{'s' * (kills != 1)}")

        yield attack
