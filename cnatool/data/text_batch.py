"""Texts of a block as one input: their bytes, or what is stored of them for a model of strings."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.source import MAX_SAMPLE_BYTES, InputSpec
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows

# Counts of 256 bytes, and a checksum.
_COUNTS = 257
# First samples from which a typical length is taken.
TYPICAL = 64
# Name of the bytes of a text in stores.
TEXT = "text"


def describe_text(name: str, shape: tuple[int, ...] | None, first: Sequence[bytes]) -> InputSpec:
    """Describe an input of texts, with the first ones.

    Parameters
    ----------
    name : str
        Name of the column.
    shape : tuple of int or None
        Shape of one sample of a model's input of strings, which is stored as the counts of each
        byte of its UTF-8. None for texts that become tokens: their bytes are stored.
    first : sequence of bytes
        The first texts.
    """
    if shape is None:
        length = typical_length(first)
        return InputSpec(TEXT, np.dtype(np.uint8), (length,), ragged_axis=0, fed=False, kind="text")
    strings = InputSpec(name, np.dtype(object), shape)
    return InputSpec(name, np.dtype(np.uint32), (_COUNTS,), levels=True, transformed=strings)


def typical_length(samples: Sequence[Any]) -> int:
    """Return the mean length of the first samples, at least 1."""
    lengths = [len(sample) for sample in samples[:TYPICAL]]
    return max(1, round(sum(lengths) / max(1, len(lengths))))


def make_arrays(spec: InputSpec, texts: Sequence[bytes]) -> tuple[Rows, Rows]:
    """Make what is stored of some texts, and what the model receives: the same if it is that."""
    if spec.transformed is None:
        values = np.frombuffer(b"".join(texts), np.uint8)
        stored = Ragged.from_lengths(values, [len(text) for text in texts])
        return stored, stored
    strings = np.empty(len(texts), object)
    strings[:] = [text.decode("utf-8", "replace") for text in texts]
    shape = spec.transformed.shape
    return _count_bytes(texts), strings.reshape(-1, *shape)


def find_fault(text: bytes) -> str | None:
    """Describe why bytes are no text; None if they are."""
    if len(text) > MAX_SAMPLE_BYTES:
        return f"has {len(text):,} bytes; the limit is {MAX_SAMPLE_BYTES:,}."
    if 0 in text:
        return (
            f"has the character NUL (at byte {text.index(0):,}), so it is not a text, or a damaged "
            "one: remove the character."
        )
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return describe_encoding(text, error)
    return None


def describe_encoding(text: bytes, error: UnicodeDecodeError) -> str:
    """Describe where bytes are no UTF-8."""
    return f"is not UTF-8 (byte {error.start:,} is 0x{text[error.start]:02x}): save it in UTF-8."


def _count_bytes(texts: Sequence[bytes]) -> NDArray[np.uint32]:
    """Count the bytes of each text, (rows, 257); the last value is its CRC-32."""
    counts = np.zeros((len(texts), _COUNTS), np.uint32)
    for row, text in zip(counts, texts, strict=True):
        # One byte for an empty text, so that it has an entropy of 0.
        content = text or b"\0"
        row[:-1] = np.bincount(np.frombuffer(content, np.uint8), minlength=_COUNTS - 1)
        row[-1] = zlib.crc32(content)
    return counts
