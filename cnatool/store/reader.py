"""Opening a store for reading."""

from __future__ import annotations

import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.local_paths import real_path
from cnatool._util.text import printable
from cnatool._util.urls import parse_path
from cnatool._version import __version__
from cnatool.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreVersionError,
    StoreWarning,
)
from cnatool.records.checks import find_contradictions
from cnatool.records.store import StoreRecord
from cnatool.store.format_table import detect_format
from cnatool.store.hdf5.journal import find_journal_fault, follow_link
from cnatool.store.identity import Identity
from cnatool.store.integrity import attribute_checksum
from cnatool.store.parts import MergedParts, OpenedPart, PartedTree
from cnatool.store.references import find_inputs_split
from cnatool.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cnatool.store.format import ReadableTree

# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_RECORD = msgspec.json.Decoder(StoreRecord)
_SCHEMA = "cnatool.store/1"

# Seconds before each further attempt of a reader that a commit disturbed.
_PAUSES = (0.005, 0.02, 0.08)


def open_store(path: str | Path, inputs: str | Path | Iterable[str | Path] = ()) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        A ``.zarr`` folder, a ``.zarr.zip`` file, an HDF5 file, or a ``.zarr`` store in a bucket,
        such as ``s3://bucket/store.zarr``.
    inputs : str, Path or iterable of these
        If this store refers to another one for its raw inputs: stores to search for them before the
        one that it names.

    Returns
    -------
    Store

    Raises
    ------
    NotAStoreError
        If there is no store at ``path``.
    StoreDamagedError
        If its attribute does not match the schema, or an array is missing or has the wrong shape.
    StoreAccessError
        If a bucket cannot be reached, or rejects the credentials.
    StoreVersionError
        If it is intact, but in the format of another version of cnatool.

    Warns
    -----
    StoreWarning
        If the journal of an HDF5 store is damaged, so that its last commit may be missing.
    """
    path = parse_path(path)
    try:
        store = _open(path, as_paths(inputs))
    except (NotAStoreError, StoreDamagedError):
        _warn_of_journal(path, "")
        raise
    rows = (
        f"{sum(stop - start for start, stop in split.committed)} of {split.rows} rows of {name}"
        for name, split in store.record.splits.items()
    )
    # A dump that is resumed leaves a complete store as it is.
    complete = store.record.complete
    _warn_of_journal(path, f": it has {' and '.join(rows) or 'no rows'}", complete=complete)
    return store


def open_silently(path: Path) -> Store:
    """Open a store without its warnings, which its readers receive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        return open_store(path)


def _warn_of_journal(path: Path, rows: str, *, complete: bool = False) -> None:
    """Warn that a damaged journal is ignored, so that the last commit may be missing."""
    if path.is_file() and (problem := find_journal_fault(follow_link(path))) is not None:
        ways = "Restore" if complete else "Complete the store with `dump(resume=True)`, restore"
        warnings.warn(
            f"{problem}. The last commit may be missing from {path}{rows}. {ways} both files from "
            "a copy, or, if the journal does not belong to this store, delete it.",
            StoreWarning,
            stacklevel=3,
        )


def _open(path: Path, inputs: tuple[Path, ...]) -> Store:
    text = checksum = None
    identity = Identity(path)
    try:
        tree, text, checksum = _read_attribute(path)
        record = None if text is None else _RECORD.decode(text)
        wrong = None if record is None else next(find_contradictions(record), None)
        expected = None if text is None else attribute_checksum(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        if (maker := _other_version(text, checksum)) is not None:
            raise StoreVersionError(
                f"{path} was written by another version of cnatool, {maker}, in a format that "
                f"cnatool {__version__} does not read ({error}). Read it with that version, "
                "or dump again."
            ) from error
        raise StoreDamagedError(
            f"{path}: the attribute cnatool does not match the schema: {error}."
        ) from error
    if record is None and checksum is None:
        raise NotAStoreError(f"{path} is not a cnatool store: its root has no attribute cnatool.")
    if wrong is not None:
        raise StoreDamagedError(f"{path}: the attribute cnatool contradicts itself: {wrong}.")
    if record is None or checksum not in (None, expected):
        raise StoreDamagedError(
            f"{path}: the attribute cnatool does not match its checksum cnatool_crc32c. Dump "
            "again with `overwrite=True`, or restore the store from a copy. "
            "If you changed it on purpose, remove the "
            "checksum."
        )
    find_inputs = partial(find_inputs_split, named=inputs, open_store=open_store)
    if record.parts is not msgspec.UNSET:
        parts = MergedParts(path, record.parts, partial(_open_part, inputs=inputs))
        tree = PartedTree(tree, record, parts)
    reopen = partial(open_store, real_path(path), tuple(map(real_path, inputs)))
    return Store(path, record, tree, identity, find_inputs, reopen)


def _open_part(path: Path, inputs: tuple[Path, ...]) -> OpenedPart:
    """Open a part of a merged store, which is no merged store itself."""
    store = open_store(path, inputs)
    if store.record.parts is not msgspec.UNSET:
        raise StoreDamagedError(
            f"{path} is a part of a merged store, but consists of parts itself."
        )
    return OpenedPart(
        path,
        store.attribute(),
        lambda split, key: store.splits[split].stored(key),
        store.common_array,
    )


class _Maker(msgspec.Struct):
    """Fields that every version writes."""

    schema: str = ""
    created_by: str = ""


def _other_version(text: bytes | None, checksum: str | None) -> str | None:
    """Name the version that wrote an attribute this one cannot read; None if it is damaged."""
    try:
        maker = msgspec.json.decode(text or b"", type=_Maker)
        whole = checksum is not None and checksum == attribute_checksum(text or b"")
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return None
    form, _, number = maker.schema.rpartition("/")
    known = f"{form}/{number}" == _SCHEMA
    if form != _SCHEMA.rpartition("/")[0] or not number.isdecimal():
        return None
    if known and (not whole or maker.created_by in ("", f"cnatool {__version__}")):
        return None
    name = printable(maker.created_by)[:100]
    return f"{name} ({maker.schema})" if name else maker.schema


def _read_attribute(path: Path) -> tuple[ReadableTree, bytes | None, str | None]:
    """Read a store's attribute and its checksum; again if a writer came between the two."""
    before = None
    for wait in (*_PAUSES, None):
        tree = detect_format(path).open(path)
        text, checksum = found = tree.attribute(), tree.checksum()
        if wait is None or text is None or checksum in (None, attribute_checksum(text)):
            break
        # Behind a writer that came between, they would fit or be others: these are damaged.
        if found == before:
            break
        before = found
        time.sleep(wait)
    return tree, text, checksum


def as_paths(inputs: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """Turn one path or several into a tuple."""
    return tuple(map(parse_path, (inputs,) if isinstance(inputs, str | Path) else inputs))
