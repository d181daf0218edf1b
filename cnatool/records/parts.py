"""Typed records of a store that holds a part of a dump, and of a store made of such parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool.errors import UsageError
from cnatool.records.limits import LARGEST, SHA256
from cnatool.records.references import is_relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Most parts of a dump.
MOST_PARTS = 100_000


class SplitSketch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the samples of a whole split are, as far as that shows without reading them all.

    Parts of one dump have the same.

    Attributes
    ----------
    rows : tuple of int
        A few rows from all over the split, ascending.
    sha256 : tuple of str
        For each of them, the first 16 hexadecimal digits of the SHA-256 of id, raw inputs and
        label.
    outline : str or None
        If ``rows`` is empty, the SHA-256 of checksums or sizes of the files, in hexadecimal.
    """

    rows: tuple[int, ...] = ()
    sha256: tuple[str, ...] = ()
    outline: str | None = None


class PartRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a dump a store holds.

    Attributes
    ----------
    number, count : int
        Part ``number`` of ``count``, from 1 on.
    first : dict of str to int
        The row of the whole split that is the first of this part, by split.
    rows : dict of str to int
        Rows of the whole split, by split.
    data : str
        SHA-256 of ids, raw inputs and labels of the first few samples of all splits, in
        hexadecimal: parts of one dump have the same.
    sketches : dict of str to SplitSketch
        What the rest of the data is, by split; absent in older stores, and without splits that are
        read from a bucket, of whose ``objects`` versions are known.
    """

    number: int
    count: int
    first: dict[str, int]
    rows: dict[str, int]
    data: str
    sketches: dict[str, SplitSketch] | msgspec.UnsetType = msgspec.UNSET

    def __str__(self) -> str:
        """Return a phrase for messages."""
        return f"part {self.number} of {self.count}"


class PartReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference of a merged store to one of its parts.

    Attributes
    ----------
    store : str
        Path of the part relative to the folder of this store, with ``/`` as separator.
    sha256 : str
        SHA-256 of the part's attribute as JSON with sorted keys and no spaces, in hexadecimal. The
        attribute has checksums of all rows.
    rows : dict of str to int
        Rows of the part, by split; they follow those of the parts before.
    """

    store: str
    sha256: str
    rows: dict[str, int]


def parse_part(part: str | tuple[int, int]) -> tuple[int, int]:
    """Return the number of a part, and of how many, from text such as 3/16 or a pair."""
    try:
        number, count = map(int, part.split("/") if isinstance(part, str) else part)
    except (TypeError, ValueError):
        raise UsageError(f"`part={part!r}` is not K/N, as in 3/16.") from None
    if not 1 <= count <= MOST_PARTS:
        raise UsageError(f"`part={number}/{count}`: a dump has from 1 to {MOST_PARTS:,} parts.")
    if not 1 <= number <= count:
        raise UsageError(
            f"`part={number}/{count}`: there is no part {number} of {count}. Parts are numbered "
            f"from 1 to {count}."
        )
    return number, count


def describe_rows(part: PartRecord, rows: Mapping[str, int]) -> str:
    """Describe which rows of the whole dump a part has; ``rows`` are its own by split."""
    ranges = [
        f"rows {part.first[name]:,} to {part.first[name] + length - 1:,} of {part.rows[name]:,} "
        f"of {name}"
        for name, length in rows.items()
        if length
    ]
    return " and ".join(ranges) or "no rows"


def find_other_data(part: PartRecord, other: PartRecord) -> str | None:
    """Describe where the data of two parts differ; None if that does not show."""
    if part.data != other.data:
        return "the first samples of their data differ"
    if part.sketches is msgspec.UNSET or other.sketches is msgspec.UNSET:
        return None
    for name in part.sketches.keys() & other.sketches.keys():
        mine, theirs = part.sketches[name], other.sketches[name]
        if mine.outline != theirs.outline:
            return f"the files of split {name!r} differ in size or checksum"
        known = dict(zip(theirs.rows, theirs.sha256, strict=True))
        for row, digest in zip(mine.rows, mine.sha256, strict=True):
            if known.get(row, digest) != digest:
                return f"row {row:,} of split {name!r} differs in their data"
    return None


def check_part(part: PartRecord, rows: Mapping[str, int]) -> Iterator[str]:
    """Find contradictions in the record of a part; ``rows`` are its own rows by split."""
    if not 1 <= part.number <= part.count <= MOST_PARTS:
        yield f"it is part {part.number} of {part.count}"
    if not SHA256.fullmatch(part.data):
        yield f"{part.data!r} is not a SHA-256"
    for name, sketch in ({} if part.sketches is msgspec.UNSET else part.sketches).items():
        if len(sketch.rows) != len(sketch.sha256):
            yield f"{len(sketch.rows)} rows of split {name!r} have {len(sketch.sha256)} digests"
    if not part.first.keys() == part.rows.keys() >= rows.keys():
        yield "it is a part of a dump with other splits"
        return
    for name, count in rows.items():
        first, whole = part.first[name], part.rows[name]
        if not 0 <= first <= first + count <= whole <= LARGEST:
            yield f"split {name!r} has rows {first} to {first + count} of {whole}"


def check_references(parts: tuple[PartReference, ...], rows: Mapping[str, int]) -> Iterator[str]:
    """Find contradictions in the references of a merged store, whose splits have ``rows``."""
    if not 1 <= len(parts) <= MOST_PARTS:
        yield f"it is made of {len(parts)} parts"
    for part in parts:
        if not is_relative_path(part.store):
            yield f"a part of it is in {part.store!r}, which is not a relative path"
        if not SHA256.fullmatch(part.sha256):
            yield f"{part.sha256!r} is not a SHA-256 (part {part.store!r})"
        if any(count < 0 for count in part.rows.values()):
            yield f"part {part.store!r} has a negative number of rows"
    for name, count in rows.items():
        total = sum(part.rows.get(name, 0) for part in parts)
        if total != count:
            yield f"split {name!r} has {count} rows, but its parts have {total}"
