"""Temporary folders that a killed process does not leave behind for ever."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "cnatool-shards-"
_LOCK = "lock"
# Seconds after which a lock that nobody holds is abandoned: a new one is not held at once.
_NEW = 60


class ScratchFolder:
    """A temporary folder; those of killed processes beside it are deleted."""

    __slots__ = ("_lock", "path")

    def __init__(self) -> None:
        from filelock import FileLock

        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = FileLock(self.path / _LOCK)
        self._lock.acquire()
        for other in self.path.parent.glob(f"{_PREFIX}*/{_LOCK}"):
            if other.parent != self.path:
                _remove_abandoned(other)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _remove_abandoned(path: Path) -> None:
    """Delete the folder of a lock that no process holds."""
    from filelock import FileLock, Timeout

    try:
        if time.time() - path.stat().st_mtime < _NEW:
            return
        with FileLock(path).acquire(timeout=0):
            shutil.rmtree(path.parent, ignore_errors=True)
    except (Timeout, OSError):
        pass  # in use, or another user's
