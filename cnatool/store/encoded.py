"""How much rows of an array take on disk, found by encoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.store.compression import COMPRESSORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.store.tree import Codec

__all__ = ["encoded_bytes"]


def encoded_bytes(rows: NDArray[Any], codec: Codec) -> int:
    """Give the bytes that rows of one array take as the store encodes them.

    Parameters
    ----------
    rows : ndarray
        Rows of numbers; or of text, as objects, which a store holds as UTF-8 with its length.
    codec : Codec
        How the store is compressed.
    """
    encode = COMPRESSORS[codec].encode
    if rows.dtype.hasobject:
        texts = [str(text).encode() for text in rows]
        return len(encode(b"".join(len(t).to_bytes(4, "little") + t for t in texts)))
    return len(encode(np.ascontiguousarray(rows)))
