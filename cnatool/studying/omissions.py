"""Stores that a command over many stores leaves out, each reported with its reason."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnatool._util.text import escape
from cnatool.errors import CnatoolError, DataError, NotAStoreError, UsageError
from cnatool.studying.results import NotScored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cnatool._util.observer import Observer

# Errors that concern one store alone. Any other exception is a defect of cnatool and ends the
# command.
UNUSABLE = (CnatoolError, OSError)


class Omissions:
    """The stores that are left out of a command, and their errors.

    Parameters
    ----------
    observer : Observer
        Notified of each store.
    strict : bool
        Raise the error of the first store instead.

    Attributes
    ----------
    stores : list of NotScored
        The stores that were left out, in order.
    """

    def __init__(self, observer: Observer, *, strict: bool) -> None:
        self._observer = observer
        self._strict = strict
        self._errors: list[Exception] = []
        self.stores: list[NotScored] = []

    def add(self, path: str | Path, error: CnatoolError | OSError) -> None:
        """Leave a store out because of an error; if the command is strict, raise the error."""
        self._add(NotScored(str(path), str(error)), error)

    def extend(self, places: Iterable[NotScored]) -> None:
        """Leave out places that hold no store."""
        for place in places:
            self._add(place, NotAStoreError(f"{place.path}: {place.reason}."))

    def _add(self, store: NotScored, error: Exception) -> None:
        if self._strict:
            raise error
        self._errors.append(error)
        self.stores.append(store)
        self._observer.note(f"left out: {_describe(store)}")

    @contextmanager
    def catch(self, path: str | Path) -> Iterator[None]:
        """Leave a store out if the body raises one of `UNUSABLE`."""
        try:
            yield
        except UNUSABLE as error:
            self.add(path, error)
        except Exception:
            self._observer.note(
                f"an unexpected error occurred at {path}; to continue, run the command without it"
            )
            raise

    def too_few(self, message: str) -> CnatoolError:
        """Return the error for too few stores, with the reason of the first omission.

        If every omission is a `UsageError`, an argument is wrong, and the first one is returned.
        """
        if not self.stores:
            return DataError(f"{message}.")
        first = self._errors[0]
        if isinstance(first, UsageError) and all(isinstance(e, UsageError) for e in self._errors):
            return first
        more = len(self.stores) - 1
        return DataError(
            f"{message}. {_describe(self.stores[0]).removesuffix('.')}."
            f"{f' And {more} more.' if more else ''}"
        )


def _describe(store: NotScored) -> str:
    """Write a path and its reason on one line."""
    reason = " ".join(store.reason.split())
    path = escape(store.path)
    return reason if reason.startswith((f"{path}: ", f"{path} ")) else f"{path}: {reason}"
