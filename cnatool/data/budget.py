"""A limit of the memory that threads hold together while they decode samples."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Budget:
    """A limit of the values that all threads hold together; a single sample may exceed it."""

    def __init__(self, values: int) -> None:
        self._free = self._all = values
        self._changed = Condition()

    @contextmanager
    def reserve(self, values: int) -> Iterator[None]:
        """Wait until there is room for some values, and reserve it."""
        size = min(values, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
