"""A store that another replaces while it is read: said so, not called damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import cnatool
from cnatool.errors import StoreDamagedError, StoreInUseError
from cnatool.store import verify as verifying


def made(path: Path, rows: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    with cnatool.create_store(path, tensors=["y"], outputs=["y"], overwrite=True) as store:
        store.append("train", inputs=x, outputs=x)


@pytest.mark.parametrize("rows", [20, 30])
@pytest.mark.parametrize("held", [False, True])
def test_replaced_while_it_is_read(tmp_path: Path, rows: int, held: bool) -> None:
    path = tmp_path / "s.zarr"
    made(path, 20, seed=0)
    split = cnatool.open(path).splits["train"]
    array = split.outputs() if held else None
    made(path, rows, seed=1)
    with pytest.raises(StoreInUseError, match=r"s\.zarr was replaced or removed while it was read"):
        (split.outputs() if array is None else array)[:]
    shutil.rmtree(path)
    with pytest.raises(StoreInUseError, match="replaced or removed"):
        (split.outputs() if array is None else array)[:]


def test_verify_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    made(path, 20, seed=0)
    found = verifying.find_metadata_faults

    def replaced(store: Path):
        made(path, 30, seed=1)
        return found(store)

    monkeypatch.setattr(verifying, "find_metadata_faults", replaced)
    with pytest.raises(StoreInUseError, match="replaced or removed"):
        cnatool.verify(path)
    assert cnatool.verify(path).committed == 30


def test_an_open_file_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    made(path, 20, seed=0)
    array = cnatool.open(path).splits["train"].outputs()
    first = array[:]
    made(path, 20, seed=1)
    np.testing.assert_array_equal(array[:], first)


def test_damage_is_still_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    made(path, 20, seed=0)
    split = cnatool.open(path).splits["train"]
    shutil.rmtree(path / "splits/train/outputs")
    with pytest.raises(StoreDamagedError):
        split.outputs()[:]
    assert cnatool.verify(path).faults
