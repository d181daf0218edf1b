"""Stores that are not finished: which rows they have so far, and what completes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text
from cnatool.errors import MetricError

if TYPE_CHECKING:
    from cnatool.store.store import Split, Store


def describe_missing_rows(store: Store) -> str | None:
    """Return which rows a store has so far; None if it is finished."""
    if store.record.complete:
        return None
    if not any(map(len, store.splits.values())):
        writer = "recording" if _is_recorded(store) else "dump"
        return f"{store.path} has no rows yet: its {writer} has not committed any"
    unfinished = (split for split in store.splits.values() if not split.record.complete)
    return f"{store.path} is not finished: it has {' and '.join(map(_count_rows, unfinished))}"


def explain_missing_rows(store: Store) -> str:
    """Return the message of an error about an unfinished store, with what completes it."""
    advice = (
        "Wait until its recording ends or, if that was interrupted, record the network again."
        if _is_recorded(store)
        else "Wait until its dump ends or, if that was interrupted, run the same dump again with "
        "`resume=True` to continue it."
    )
    return f"{describe_missing_rows(store)}. {advice}"


def check_has_rows(store: Store) -> None:
    """Raise `MetricError` for an unfinished store without a committed row."""
    if not store.record.complete and not any(map(len, store.splits.values())):
        raise MetricError(explain_missing_rows(store))


def _count_rows(split: Split) -> str:
    if split.record.rows > len(split):
        return f"{len(split):,} of {split.record.rows:,} rows of {split.name}"
    # Nobody knows how many rows a recording will append.
    return f"{count_text(len(split), 'row')} of {split.name} so far"


def _is_recorded(store: Store) -> bool:
    return store.record.runtime is None
