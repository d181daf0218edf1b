"""Samples of bfloat16: read as float32, and stored as they are."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from support.networks import Builder, saved

import cnatool
from cnatool.data.detect import open_source
from cnatool.errors import DataError

X = np.random.default_rng(6).normal(size=(50, 6)).astype(ml_dtypes.bfloat16)


def write_safetensors(path: Path, **arrays: np.ndarray) -> Path:
    header, content = {}, b""
    for name, array in arrays.items():
        data, kind = array.tobytes(), "BF16" if array.dtype == ml_dtypes.bfloat16 else "I64"
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    b = Builder()
    b.node("Mul", ["x", b.constant("two", np.float32(2))], "twice")
    b.node("Relu", ["twice"], "y")
    return saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), tmp_path / "net.onnx")


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_from_safetensors_and_from_a_store(suffix: str, net: Path, tmp_path: Path) -> None:
    data = write_safetensors(tmp_path / "x.safetensors", x=X, y=np.arange(50) % 3)
    first = cnatool.dump(net, data, tmp_path / f"s.{suffix}")
    again = cnatool.dump(net, f"{first.path}::splits/all/inputs/0", tmp_path / "again.zarr")
    for store in (first, again):
        assert store.record.inputs[0].stored == "bfloat16"
        split = store.splits["all"]
        np.testing.assert_array_equal(split.inputs()[:], X.astype(np.float32), strict=True)
        twice = 2 * X.astype(np.float32)
        np.testing.assert_array_equal(split.activations("twice")[:], twice)
        assert cnatool.verify(store.path).faults == ()
    # A store of float32 in the same values has the same data.
    np.savez(tmp_path / "wide.npz", x=X.astype(np.float32), y=np.arange(50) % 3)
    wide = cnatool.dump(net, tmp_path / "wide.npz", tmp_path / "wide.zarr")
    assert wide.splits["all"].fingerprint == first.splits["all"].fingerprint


def test_of_any_length(tmp_path: Path) -> None:
    offsets = np.array([0, 2, 2, 50])
    path = write_safetensors(tmp_path / "x.safetensors", **{"x/values": X, "x/offsets": offsets})
    source = open_source(path)
    assert (source.inputs[0].bfloat16, source.inputs[0].ragged_axis) == (True, 0)
    (block,) = source.blocks(10)
    np.testing.assert_array_equal(block.inputs[0].values, X.astype(np.float32))


def test_labels_are_none(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", x=X, y=X[:, 0].copy())
    with pytest.raises(DataError, match="real numbers are targets"):
        open_source(path)
