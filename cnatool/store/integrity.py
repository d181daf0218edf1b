"""The checksum of a store's attribute: a digit that flips must not become another number."""

from __future__ import annotations

import google_crc32c
import msgspec

__all__ = ["attribute_checksum"]


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
