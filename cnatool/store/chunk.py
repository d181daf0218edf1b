"""The rows of one chunk, as they are handed to a file format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Self

import google_crc32c

from cnatool.store.integrity import row_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool._util.files import Buffer


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one chunk, fewer than it has room for at the end of an array.

    ``content`` has their bytes as in `cnatool.store.integrity.row_bytes`, in one or more parts, and
    ``crc`` is the CRC-32C of all of them.
    """

    rows: int
    content: tuple[Buffer, ...]
    crc: int

    @classmethod
    def of(cls, parts: Sequence[NDArray[Any]]) -> Self:
        """Make a chunk of consecutive rows; contiguous ones are not copied."""
        octets = list(map(row_bytes, parts))
        content = tuple(part if isinstance(part, bytes) else part.data for part in octets)
        return cls(sum(map(len, parts)), content, reduce(google_crc32c.extend, octets, 0))
