"""The checksum of a store's attribute: a digit that flips must not become another number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import msgspec

if TYPE_CHECKING:
    from cnatool.store.records import StoreRecord

__all__ = ["record_checksum"]


def record_checksum(record: StoreRecord) -> str:
    """Compute the CRC-32C of a store's attribute, as eight hexadecimal digits.

    It is that of the record's own JSON: fields in the order of their definition, defaults left
    in, keys of mappings sorted, no spaces. So it does not depend on how the attribute was written.
    """
    text = msgspec.json.encode(record, order="deterministic")
    return f"{google_crc32c.value(text):08x}"
