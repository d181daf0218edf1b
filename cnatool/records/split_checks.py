"""Consistency of a split's record, beyond its types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnatool.records.layout import split_arrays, values_key
from cnatool.records.limits import LARGEST, SHA256
from cnatool.records.narrowed import check_narrowing
from cnatool.records.references import is_relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.layout import ArraySpec
    from cnatool.records.store import SplitRecord, StoreRecord

# Eight digits per chunk.
_CHECKSUMS = re.compile(r"(?:[0-9a-f]{8})*")


def check_split(name: str, split: SplitRecord, record: StoreRecord) -> Iterator[str]:
    """Find contradictions in the record of a split."""
    edges = [edge for pair in split.committed for edge in pair]
    if not 0 <= split.rows <= LARGEST:
        yield f"split {name!r} has {split.rows} rows"
    elif (
        edges != sorted(edges)
        or any(not 0 <= edge <= split.rows for edge in edges)
        or any(start == stop for start, stop in split.committed if split.rows)
    ):
        yield (
            f"split {name!r} has {split.rows} rows, but claims to have committed "
            f"{list(split.committed)}"
        )
    elif split.complete and sum(stop - start for start, stop in split.committed) != split.rows:
        yield f"split {name!r} claims to be complete, but not all its rows are committed"
    elif split.available is not None and not split.taken <= split.available <= LARGEST:
        yield f"split {name!r} has {split.taken} samples of a source with {split.available}"
    if split.fingerprint is not None and not SHA256.fullmatch(split.fingerprint):
        yield f"{split.fingerprint!r} is not a fingerprint (split {name!r})"
    if split.inputs_from is not None:
        if not is_relative_path(split.inputs_from.store):
            where = split.inputs_from.store
            yield f"the inputs of split {name!r} are in {where!r}, which is not a relative path"
        if not SHA256.fullmatch(split.inputs_from.fingerprint):
            yield f"{split.inputs_from.fingerprint!r} is not a fingerprint (split {name!r})"
    if split.narrowed:
        yield from check_narrowing(name, split.narrowed, record)
    yield from _check_checksums(name, split, record)


def _check_checksums(name: str, split: SplitRecord, record: StoreRecord) -> Iterator[str]:
    if split.checksums is None:
        return
    specs = split_arrays(record, labels=split.labels)
    stored = {array.key: spec for spec in specs for array in spec.stored}
    unknown = set(split.checksums) - stored.keys()
    if unknown:
        yield f"split {name!r} has checksums of {min(unknown)!r}, which is not one of its arrays"
        return
    rows = sum(stop - start for start, stop in split.committed)
    if split.committed not in ((), ((0, rows),)):
        yield f"split {name!r} has checksums of rows other than its first"
    for key, checksums in split.checksums.items():
        if checksums.rows < 1 or not _CHECKSUMS.fullmatch(checksums.crc32c):
            yield f"the checksums of array {key} of split {name!r} are malformed"
            continue
        count = _count_rows(key, stored[key], split, rows)
        if count is not None and len(checksums) != -(-count // checksums.rows):
            yield (
                f"array {key} of split {name!r} has {len(checksums)} checksums, of "
                f"{checksums.rows} rows each, for {count} committed rows"
            )


def _count_rows(key: str, spec: ArraySpec, split: SplitRecord, samples: int) -> int | None:
    """Count the committed rows of an array; None if only the offsets of its samples tell."""
    if spec.ragged_axis is None:
        return samples
    if key == values_key(spec.key):
        return None
    return samples + 1 if split.committed or split.complete else 0
