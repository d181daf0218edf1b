"""Blocks of samples that differ in length, and which of them are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnatool
from cnatool.errors import StoreDamagedError
from cnatool.store import ragged
from cnatool.store.damaged_rows import divide_into_blocks, find_damaged_rows
from cnatool.store.ragged import RaggedArray

LENGTHS = [0] * 50 + [30] * 10


@pytest.fixture
def stored(tmp_path: Path) -> RaggedArray:
    """Samples without values, and long ones behind them."""
    with cnatool.create_store(
        tmp_path / "s.h5", tensors=["h", "y"], outputs=["y"], ragged=["h"]
    ) as store:
        rows = [np.zeros((length, 4)) for length in LENGTHS]
        zeros = np.zeros((len(rows), 2))
        store.append("all", inputs=zeros, outputs=zeros, activations={"h": rows})
    array = cnatool.open(tmp_path / "s.h5").splits["all"].activations("h")
    assert isinstance(array, RaggedArray)
    return array


def test_blocks_are_as_large_as_their_own_samples(
    stored: RaggedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as the mean of all, by which the ten long samples would be one block."""
    monkeypatch.setattr(ragged, "BLOCK_BYTES", 2000)
    blocks = list(divide_into_blocks(stored, 3, len(LENGTHS)))
    assert blocks == [(3, 52), *((row, row + 2) for row in range(52, 60, 2))]
    assert max(stored[start:stop].values.nbytes for start, stop in blocks) <= 2000
    assert [start for start, _ in stored.blocks(3)] == [start for start, _ in blocks]


def test_damaged_rows_of_one_reason_are_one_range(
    stored: RaggedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RaggedArray.__getitem__

    def read(array: RaggedArray, row: int) -> object:
        if row in (4, 5, 6, 9):
            raise StoreDamagedError("values" if row < 6 else "offsets")
        return whole(array, row)

    monkeypatch.setattr(RaggedArray, "__getitem__", read)
    found = [(rows, str(error)) for rows, error in find_damaged_rows(stored, 0, 12)]
    assert found == [((4, 6), "values"), ((6, 7), "offsets"), ((9, 10), "offsets")]
