from __future__ import annotations

import io

import h5py
import numpy as np
import pytest

from cnatool.store.hdf5.fletcher32 import fletcher32


@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
@pytest.mark.parametrize("size", [1, 2, 3, 719, 720, 721, 8191, 8192, 8193, 1 << 20, 3_000_001])
def test_it_is_what_hdf5_computes(size: int, kind: str) -> None:
    data = np.full(size, {"zeros": 0, "ones": 255}.get(kind, 0), np.uint8)
    if kind == "random":
        data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    root = h5py.File(io.BytesIO(), "w")
    chunks = root.create_dataset("x", data=data, chunks=(size,), fletcher32=True)
    _, stored = chunks.id.read_direct_chunk((0,))
    assert stored[:-4] == data.tobytes()
    assert fletcher32(data) == int.from_bytes(stored[-4:], "little")


def test_large_data_overflow_nothing() -> None:
    """Sums over 600 MiB of the largest words, taken whole and taken as if by hand."""
    words = 300 * (1 << 20)
    data = np.full(2 * words, 255, np.uint8)
    # Every word is 65535, which is 0 modulo 65535, and never written as 0.
    assert fletcher32(data) == 0xFFFFFFFF
    data[0] = 0
    lost = 0xFF00
    first = (-lost) % 65535
    second = (-lost * words) % 65535
    assert fletcher32(data) == (second or 65535) << 16 | (first or 65535)


def test_nothing() -> None:
    assert fletcher32(b"") == 0
