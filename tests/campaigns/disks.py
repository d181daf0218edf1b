"""Full and failing disks: writing fails at any moment, in one way or another."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Attack, Outcome
from campaigns.jobs import JOBS
from campaigns.lasting import Workplace, Written, workplace
from campaigns.made import FORMATS, done
from campaigns.processes import Ended, Limit, Trouble

_ERRORS = (errno.ENOSPC, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_LARGE = "size=256m"
# What a command ends with whose store cannot be written.
_NOT_WRITTEN, _REFUSED = 3, 2


class _Disk:
    """A file system of its own, where the system lets us mount one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.mounted = shutil.which("mount") is not None and not self._mount(_LARGE)

    def _mount(self, options: str) -> int:
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode

    def used(self) -> int:
        """Give the bytes that are used, by files that are still open, too."""
        usage = os.statvfs(self.folder)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    def resize(self, size: int | None) -> None:
        """Set its size in bytes; a large one where none is given."""
        options = _LARGE if size is None else f"size={-(-size // 4096) * 4}k"
        if self._mount(f"remount,{options}"):
            raise OSError(f"{self.folder}: cannot be mounted with {options}")

    def close(self) -> None:
        """Give it back."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


class _Round:
    """One store or folder of results, whose disk fails until it is done."""

    def __init__(
        self, workplace: Workplace, disk: _Disk, name: str, form: str, rng: random.Random
    ) -> None:
        self._workplace, self._disk, self._rng = workplace, disk, rng
        self.attempts: list[str] = []
        self._written = Written(workplace, name, form, rng)
        self._bytes = self._written.reference.bytes

    def play(self) -> str:
        """Fail once or several times, then let it end; say in which way it failed."""
        kind = self._rng.choice(["error", "error", "limit", *["full"] * self._disk.mounted])
        for _ in range(self._rng.choice([1, 1, 2, 3])):
            ended = getattr(self, f"_{kind}")(self._written.next())
            self.attempts[-1] += f" -> {ended.code}"
            if ended.code:
                self._check_failed(ended)
            self._written.check(complete=not ended.code, disturbed=True)
            if not ended.code:
                return f"{kind}, in time" if len(self.attempts) == 1 else kind
        words = self._written.next()
        self.attempts.append(f"{' '.join(map(str, words))}: to its end")
        done(self._run(words))
        self._written.check(complete=True)
        return kind

    def _run(
        self,
        words: tuple[object, ...],
        *,
        trouble: Trouble | None = None,
        limit: Limit | None = None,
    ) -> Ended:
        place, call = self._workplace, self._written.job.call
        return place.commands.run(*words, cwd=place.where, call=call, trouble=trouble, limit=limit)

    def _error(self, words: tuple[object, ...]) -> Ended:
        """Let an operation fail, and those behind it where that lasts."""
        rng = self._rng
        share = rng.random() ** (2 if self.attempts else 1)
        trouble = Trouble(
            int(share * self._written.reference.operations),
            errno=rng.choice(_ERRORS),
            short=rng.random() < 0.5,
            lasts=rng.random() < 0.7,
        )
        self.attempts.append(f"{' '.join(map(str, words))}: {trouble}")
        return self._run(words, trouble=trouble)

    def _limit(self, words: tuple[object, ...]) -> Ended:
        """Let no file grow beyond a limit."""
        files = self._written.reference.largest
        limit = Limit(self._rng.randrange(max(1, int(1.1 * files))))
        self.attempts.append(f"{' '.join(map(str, words))}: {limit}")
        return self._run(words, limit=limit)

    def _full(self, words: tuple[object, ...]) -> Ended:
        """Let the disk be full."""
        size = self._disk.used() + self._rng.randrange(int(1.5 * self._bytes) + 4096)
        self.attempts.append(f"{' '.join(map(str, words))}: a disk of {size} bytes")
        self._disk.resize(size)
        try:
            return self._run(words)
        finally:
            self._disk.resize(None)

    def _check_failed(self, ended: Ended) -> None:
        last = ended.errors.splitlines()[-1] if ended.errors else ""
        if self._written.job.call:
            assert ended.code == 1, ended
            assert last.startswith("cnatool.errors.StoreWriteError: "), ended.errors[-2500:]
            return
        assert "Traceback" not in ended.errors, ended.errors[-2500:]
        assert last.startswith("cnatool: "), ended.errors[-2500:]
        # What does not fit is not begun.
        code = _REFUSED if " would need about " in last else _NOT_WRITTEN
        assert ended.code == code, (ended.code, ended.errors[-2500:])
        assert ended.errors.count("cnatool: ") == 1, ended.errors[-2500:]


@contextmanager
def failing_disks(folder: Path) -> Iterator[Attack]:
    """Let disks fail under commands that write."""
    disk = _Disk(folder / "disk")
    try:
        with workplace(folder, disk.folder) as place:

            def attack(number: int, rng: random.Random) -> Outcome:
                name, form = (
                    list(JOBS)[number % len(JOBS)],
                    FORMATS[(number + number // len(JOBS)) % 2],
                )
                one = _Round(place, disk, name, form, rng)
                try:
                    kind = one.play()
                except Exception as error:
                    error.subject = f"{name}, {form}"  # type: ignore[attr-defined]
                    error.add_note("\n".join(one.attempts))
                    raise
                return Outcome(f"{name}, {form}", kind)

            yield attack
    finally:
        disk.close()
