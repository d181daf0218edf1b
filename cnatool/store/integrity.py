"""Checksums of a store's attribute and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import google_crc32c
import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["attribute_checksum", "rows_checksum"]


def attribute_checksum(attribute: bytes) -> str:
    """Compute the CRC-32C of a store's attribute, as eight hexadecimal digits.

    It is that of the same JSON with sorted keys and no spaces, so that it depends neither on how
    the attribute was laid out nor on what later versions add to it.

    Parameters
    ----------
    attribute : bytes
        The attribute, as JSON.
    """
    canonical = msgspec.json.encode(msgspec.json.decode(attribute), order="deterministic")
    return f"{google_crc32c.value(canonical):08x}"


def rows_checksum(rows: NDArray[Any]) -> bytes:
    """Compute the CRC-32C of rows of an array.

    It is taken over their bytes before compression, C-contiguous and little-endian; for text, over
    each string's length in bytes (four bytes, little-endian) followed by its UTF-8.

    Parameters
    ----------
    rows : ndarray
        Rows of numbers, or of strings as objects.

    Returns
    -------
    bytes
        Four bytes, big-endian.

    Examples
    --------
    >>> rows_checksum(np.array([1.0, 2.0])).hex()
    '3726ddd9'
    """
    content: Any
    if rows.dtype.hasobject:
        texts = [str(text).encode() for text in rows]
        content = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        content = (
            np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        )
    return int(google_crc32c.value(content)).to_bytes(4, "big")
