"""Rows of any number at a time become whole chunks, whoever owns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.records.choices import Codec
from cnatool.records.store import ChunkChecksums
from cnatool.store import chunks
from cnatool.store.chunk import Chunk
from cnatool.store.chunks import ChunkedArray


class Written:
    """An array in memory."""

    def __init__(self, chunk_rows: int, row: tuple[int, ...], codec: Codec) -> None:
        self.shape = (0, *row)
        self.chunk_rows = chunk_rows
        self.codec = codec
        self.octets: list[bytes] = []
        self.rows: list[int] = []

    def write(self, start: int, chunks: Sequence[Chunk]) -> None:
        assert start == sum(self.rows)
        self.rows += [chunk.rows for chunk in chunks]
        self.octets += [b"".join(chunk.content) for chunk in chunks]


@given(
    sizes=st.lists(st.integers(0, 11), max_size=12),
    chunk_rows=st.integers(1, 8),
    codec=st.sampled_from(["none", "lz4"]),
    large=st.sampled_from([0, 12, 30, 1000]),
    borrowed=st.booleans(),
    dtype=st.sampled_from(["<f4", ">f4", "bool"]),
)
def test_chunks_hold_the_rows_in_order(
    sizes: list[int], chunk_rows: int, codec: Codec, large: int, borrowed: bool, dtype: str
) -> None:
    values = np.random.default_rng(0).integers(0, 2, (sum(sizes), 3)).astype(dtype)
    native = values.dtype.newbyteorder("=")
    array = Written(chunk_rows, (3,), codec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_LARGE_PART", large)
        collected = ChunkedArray(array, native)
        start = 0
        for size in sizes:
            rows = values[start : start + size].copy()
            collected.append(rows, borrowed=borrowed)
            start += size
            assert collected.written == start // chunk_rows * chunk_rows
            if borrowed:
                rows[:] = 1
        collected.flush()
    expected = values.astype(native.newbyteorder("<"))
    parts = [expected[i : i + chunk_rows].tobytes() for i in range(0, start, chunk_rows)]
    assert array.octets == parts
    assert all(count == chunk_rows for count in array.rows[:-1])
    crcs = b"".join(google_crc32c.value(part).to_bytes(4, "big") for part in parts)
    known = collected.checksums("a", start)["a"]
    assert known == ChunkChecksums(max(1, min(chunk_rows, start)), crcs.hex())


def test_large_uncompressed_rows_are_not_copied() -> None:
    contents: list[Any] = []

    class Kept(Written):
        def write(self, start: int, chunks: Sequence[Chunk]) -> None:
            contents.extend(part for chunk in chunks for part in chunk.content)

    batches = [np.full((32, 1024), i, np.float32) for i in range(4)]
    collected = ChunkedArray(Kept(64, (1024,), "none"), batches[0].dtype)
    for batch in batches:
        collected.append(batch)
    found = [np.frombuffer(part, np.float32) for part in contents]
    assert all(np.shares_memory(*pair) for pair in zip(found, batches, strict=True))
