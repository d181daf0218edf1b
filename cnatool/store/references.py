"""Raw inputs in another store: its path, and whether it contains the right ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool._util.text import count_text, printable
from cnatool._util.urls import ObjectURL, is_url
from cnatool.errors import CnatoolError, MetricError, UsageError
from cnatool.records.layout import sample_form
from cnatool.records.references import InputsReference
from cnatool.store.format_table import format_by_name
from cnatool.store.missing_rows import explain_missing_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cnatool.store.store import Split, Store

_ADVICE = "If it was moved, name it with `inputs=STORE`."


def make_reference(path: Path, split: Split, *, advice: str) -> InputsReference:
    """Make the reference of a store at ``path`` to the raw inputs of a split.

    The advice is for a user of whose paths none leads to the other.
    """
    way = relative_path(path, split.path, advice=advice)
    if not split.record.complete:
        raise UsageError(explain_missing_rows(split.store))
    if split.fingerprint is None:
        raise UsageError(
            f"{split.path}: split {split.name!r} has no fingerprint, so no other store can refer "
            "to its inputs."
        )
    return InputsReference(way, split.fingerprint)


def relative_path(path: Path, there: Path, *, advice: str) -> str:
    """Return the path of another store from the folder of a store at ``path``.

    Without one, UsageError gives the advice.
    """
    there, here = real_path(there), real_path(path).parent
    if is_url(there) != is_url(here) or (is_url(there) and there.parts[:2] != here.parts[:2]):
        raise UsageError(
            f"{there} is not on the same disk or in the same bucket as {path}, but a reference is "
            f"a relative path. {advice}"
        )
    try:
        return Path(os.path.relpath(there, here)).as_posix()
    except ValueError:
        raise UsageError(
            f"{there} is on another drive than {path}, but a reference is a relative path. {advice}"
        ) from None


def find_inputs_split(
    split: Split, named: Sequence[Path], open_store: Callable[[Path], Store]
) -> Split:
    """Find the split of another store that contains the raw inputs of a split."""
    reference = split.record.inputs_from
    assert reference is not None
    for path in named:
        other = open_store(path).splits.get(split.name)
        if other is None or other.record.inputs_from is not None:
            continue
        if other.fingerprint == reference.fingerprint:
            _check_same_samples(split, other)
            return other
    path = real_path(split.path).parent / reference.store
    where = f"{split.path}: the raw inputs of split {split.name!r} are in {printable(path)}"
    # A path from a file is opened as a store or not at all.
    if not _is_there(path):
        raise MetricError(f"{where}, and there is no such store. {_ADVICE}")
    try:
        store = open_store(path)
    except CnatoolError as error:
        raise MetricError(f"{where}, which cannot be opened: {error} {_ADVICE}") from error
    there = store.splits.get(split.name)
    if there is None:
        raise MetricError(f"{where}, which has no such split. {_ADVICE}")
    if there.fingerprint != reference.fingerprint:
        raise MetricError(
            f"{where}, which contains other data now: its fingerprint is "
            f"{_abbreviate(there.fingerprint)} and should be "
            f"{_abbreviate(reference.fingerprint)}. {_ADVICE}"
        )
    _check_same_samples(split, there)
    return there


def _is_there(path: Path) -> bool:
    if isinstance(path, ObjectURL):
        return format_by_name(path).exists(path)
    try:
        return path.is_dir() or path.is_file()
    except OSError:
        return False


def _check_same_samples(split: Split, other: Split) -> None:
    """Make sure that two splits have the same samples, row for row."""
    where = f"{split.path}: the raw inputs of split {split.name!r} should be in {other.path}"
    if other.record.inputs_from is not None:
        raise MetricError(f"{where}, which itself refers to another store. {_ADVICE}")
    forms = [
        [(sample_form(array), array.levels) for array in either.store.record.inputs]
        for either in (split, other)
    ]
    if forms[0] != forms[1]:
        raise MetricError(f"{where}, whose inputs have another shape or type. {_ADVICE}")
    if split.record.complete and len(other) != split.whole_rows:
        raise MetricError(
            f"{where}, which has {count_text(len(other), 'row')} instead of {split.whole_rows}. "
            f"{_ADVICE}"
        )
    if len(other) < split.first_row + len(split):
        raise MetricError(f"{where}, which has only {count_text(len(other), 'row')}. {_ADVICE}")
    row = _first_difference(split, other)
    if row is not None:
        raise MetricError(f"{where}, whose row {split.first_row + row} has another id. {_ADVICE}")


def _first_difference(split: Split, other: Split) -> int | None:
    there = other.ids
    for start, ids in split.ids.blocks():
        first = split.first_row + start
        differ = np.asarray(ids != there[first : first + len(ids)])
        if differ.any():
            return start + int(np.argmax(differ))
    return None


def _abbreviate(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else f"{fingerprint[:12]}…"
