"""Checksums of a store's attribute and rows, and the fingerprint of its data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import google_crc32c
import msgspec
import numpy as np

from cnatool.records.layout import ragged_axis
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord


def attribute_checksum(attribute: bytes) -> str:
    """Compute the CRC-32C of a store's attribute, as eight hexadecimal digits.

    It is computed over the JSON with sorted keys and no spaces, so that it does not depend on the
    layout of the text, nor on this version knowing every field.
    """
    return f"{google_crc32c.value(_canonical(attribute)):08x}"


def attribute_digest(attribute: bytes) -> str:
    """Compute the SHA-256 of a store's attribute, in hexadecimal, over the same JSON."""
    return hashlib.sha256(_canonical(attribute)).hexdigest()


def _canonical(attribute: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(attribute), order="deterministic")


def rows_checksum(rows: NDArray[Any]) -> bytes:
    """Compute the CRC-32C of rows of an array, over their `row_bytes`.

    Examples
    --------
    >>> rows_checksum(np.array([1.0, 2.0])).hex()
    '3726ddd9'
    """
    return int(google_crc32c.value(row_bytes(rows))).to_bytes(4, "big")


def row_bytes(rows: NDArray[Any]) -> bytes | NDArray[np.uint8]:
    """Return the bytes of rows that their checksum covers.

    They are C-contiguous and little-endian, without a copy of rows that are so already; for text,
    each string's length in bytes (four bytes, little-endian) followed by its UTF-8.
    """
    if rows.dtype.hasobject:
        texts = [str(text).encode() for text in rows]
        return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
    contiguous = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    return contiguous.reshape(-1).view(np.uint8)


def digest_components(mean: NDArray[Any], components: NDArray[Any]) -> str:
    """Compute the SHA-256 of the mean and the principal components of a reduced tensor."""
    digest = hashlib.sha256()
    for array in (mean, components):
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


class RowsDigest:
    """SHA-256 of the rows of an array, as they are added.

    Of rows that vary in length, the digest is the SHA-256 of those of ``values`` and ``offsets``.
    """

    __slots__ = ("_end", "_offsets", "_values")

    def __init__(self, *, ragged: bool = False) -> None:
        self._values = hashlib.sha256()
        self._offsets = hashlib.sha256(bytes(8)) if ragged else None
        self._end = 0

    def update(self, rows: Rows) -> None:
        """Add further rows."""
        if isinstance(rows, Ragged):
            assert self._offsets is not None
            self._offsets.update((rows.offsets[1:] + self._end).astype("<i8").data)
            self._end += len(rows.values)
            rows = rows.values
        self._values.update(np.ascontiguousarray(rows).data)

    def digest(self) -> bytes:
        """Return the digest of all rows so far."""
        values = self._values.digest()
        if self._offsets is None:
            return values
        return hashlib.sha256(values + self._offsets.digest()).digest()


def start_digests(record: StoreRecord, *, labels: bool) -> list[RowsDigest]:
    """Start the fingerprint of a split: a digest for each raw input, then one for the labels."""
    inputs = [RowsDigest(ragged=ragged_axis(array) is not None) for array in record.inputs]
    return [*inputs, RowsDigest(ragged=bool(record.label_lists))] if labels else inputs


def update_digests(
    digests: Sequence[RowsDigest], inputs: Sequence[Rows], labels: Rows | None
) -> None:
    """Add the data of further rows to a fingerprint."""
    data = (*inputs, *(() if labels is None else (labels,)))
    for digest, value in zip(digests, data, strict=True):
        digest.update(value)


def combine_digests(digests: Sequence[RowsDigest]) -> str:
    """Compute the fingerprint from its digests, in hexadecimal."""
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()
