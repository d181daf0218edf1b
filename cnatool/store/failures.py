"""What others raise while a store is read or written, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import CnatoolError, StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["reported"]


class reported:  # noqa: N801  a context manager reads as a word
    """Turns an operating system's error into one that says what is safe."""

    def __init__(self, path: Path, committed: int) -> None:
        self._path = path
        self._committed = committed

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, CnatoolError):
            help_ = "Free some space or name another path with -o, and dump again."
            if self._committed:
                help_ = f"{self._committed} rows are safe: free some space and go on with --resume."
            raise StoreWriteError(
                f"{self._path} cannot be written: {error.strerror or error}. {help_}"
            ) from error
