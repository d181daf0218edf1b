"""What others raise while a store is read or written, in words that say what to do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path

# Windows knows no quota.
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class report_write_errors:  # noqa: N801  a context manager reads as a word
    """Turns an operating system's error into one that says what is safe."""

    def __init__(self, path: Path, committed: int) -> None:
        self._path = path
        self._committed = committed

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, CnatoolError):
            raise StoreWriteError(
                f"{self._path} cannot be written: {error.strerror or error}. "
                f"{self._help(error.errno)}"
            ) from error

    def _help(self, number: int | None) -> str:
        room = "allow larger files (`ulimit -f`)" if number == errno.EFBIG else "free some space"
        if self._committed:
            way = f"{room} and go on" if number in FULL else "once it can be written, go on"
            return f"{self._committed} rows are safe: {way} with --resume."
        if number in FULL:
            room = room[0].upper() + room[1:]
            return f"{room} or name another path with -o, and run the command again."
        return "Name another path."
