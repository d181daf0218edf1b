"""Dumps that commit often, in this process or another, and comparing what they leave."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import cnatool
from cnatool.backend import schedule
from cnatool.store import chunks, codec_choice
from support.networks import mlp, saved

# Rows between two commits: no whole number of blocks, nor of what a probe takes.
COMMIT = 64
_SMALL = (
    (chunks, "_MOST_ROWS", COMMIT),
    (chunks, "_LARGEST_CHUNK", 4096),
    # Small arrays are treated as large ones, so that some are compressed and some are not.
    (chunks, "_LARGE_PART", 512),
    (codec_choice, "_FEW_BYTES", 512),
    (schedule, "_LARGEST_BLOCK", 48),
)

# The command with small chunks and blocks.
_DRIVER = f"""
import importlib, sys
for module, name, value in {[(module.__name__, name, value) for module, name, value in _SMALL]!r}:
    setattr(importlib.import_module(module), name, value)
from cnatool.cli import main
sys.argv[0] = "cnatool"
main()
"""


def commit_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the dumps of this process commit every 64 rows."""
    for module, name, value in _SMALL:
        monkeypatch.setattr(module, name, value)


def make_small() -> None:
    """Let the dumps of this process commit every 64 rows, for good."""
    for module, name, value in _SMALL:
        setattr(module, name, value)


def command(*words: object) -> list[str]:
    """Give the command line of a dump that commits every 64 rows."""
    return [sys.executable, "-c", _DRIVER, *map(str, words)]


def make_data(folder: Path, train: int = 60, test: int = 40) -> Path:
    """Make a small network and data for it in a folder, which is returned."""
    rng = np.random.default_rng(1)
    saved(mlp(), folder / "net.onnx")
    (folder / "data").mkdir()
    for name, rows in (("train", train), ("test", test)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        np.savez(folder / f"data/{name}.npz", x=x, y=rng.integers(0, 10, rows))
    return folder


def same_arrays(store: Path, expected: Path) -> None:
    """Compare two stores by the formats' own libraries: every array, and the attribute."""
    assert cnatool.verify(store).faults == ()
    found, truth = cnatool.open(store), cnatool.open(expected)
    assert found.record == truth.record
    assert all(split.record.complete for split in found.splits.values())
    if store.suffix == ".zarr":
        one, other = dict(_zarr_arrays(store)), dict(_zarr_arrays(expected))
    else:
        one, other = _hdf5_arrays(store), _hdf5_arrays(expected)
    assert list(one) == list(other)
    for key, values in other.items():
        assert one[key].dtype == values.dtype
        np.testing.assert_array_equal(one[key], values, key)


def _zarr_arrays(path: Path) -> dict[str, np.ndarray]:
    root = zarr.open_group(path, mode="r", use_consolidated=True)
    return {key: array[:] for key, array in root.members(None) if isinstance(array, zarr.Array)}


def _hdf5_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as root:
        root.visititems(
            lambda key, one: arrays.update({key: one[:]}) if isinstance(one, h5py.Dataset) else None
        )
    return arrays


def files(folder: Path) -> set[str]:
    """Name what is in a folder."""
    return {path.name for path in folder.iterdir()}
