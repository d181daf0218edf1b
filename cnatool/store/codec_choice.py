"""The codecs of arrays: the choice between compression and none, and what a store has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.records.layout import split_arrays
from cnatool.records.ragged import Ragged
from cnatool.store.integrity import row_bytes
from cnatool.store.zarr.compression import COMPRESSORS

if TYPE_CHECKING:
    from cnatool.records.choices import Codec
    from cnatool.records.ragged import Rows
    from cnatool.store.store import Split

# Compression that saves less of an array's size costs more time than it is worth.
_LEAST_SAVED = 0.1
# Fewer bytes of the first rows do not show how an array compresses.
_FEW_BYTES = 4096


def encoded_bytes(rows: Rows, codec: Codec) -> int:
    """Return the size in bytes of stored rows of one array as the store encodes them."""
    if isinstance(rows, Ragged):
        rows = rows.values
    content = row_bytes(rows)
    if codec == "none":
        return len(content)
    if not isinstance(content, bytes):
        content = content.view(rows.dtype)
    return len(COMPRESSORS[codec].encode(content))


def choose_codec(codec: Codec, first: Rows, encoded: int, rows: int, chunk_rows: int) -> Codec:
    """Choose between a codec and none for an array of numbers, or of text.

    Parameters
    ----------
    codec : Codec
    first : ndarray
        The first rows.
    encoded : int
        Their size in bytes with the codec.
    rows, chunk_rows : int
        Rows of the whole array and of a chunk. Uncompressed, the last chunk takes the space of a
        whole one.
    """
    if first.dtype.hasobject or first.nbytes < _FEW_BYTES:
        return codec
    padded = -(-rows // chunk_rows) * chunk_rows
    plain = first.nbytes * padded
    return codec if encoded * rows <= (1 - _LEAST_SAVED) * plain else "none"


def codecs_of(split: Split) -> dict[str, Codec]:
    """Look up how the arrays of a split are compressed; without those of which that is unknown."""
    record = split.record
    own_inputs = record.inputs_from is None
    layout = split_arrays(split.store.record, labels=record.labels, inputs=own_inputs)
    codecs = ((spec.key, split.array(spec.key).codec) for spec in layout)
    return {key: codec for key, codec in codecs if codec is not None}
