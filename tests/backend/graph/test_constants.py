"""Biases that a graph makes itself, as exporters write them where a layer has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support.networks import Builder, saved

import cnatool
from cnatool.records.weights import WeightsRecord

CHANNELS = 4


def bias(b: Builder, kind: str, value: float) -> list[str]:
    """Return the names of a bias with one value for all channels, or none."""
    if kind == "none":
        return []
    if kind == "given":
        return [b.constant("bias", np.full(CHANNELS, value, np.float32))]
    if kind == "attribute":
        b.node("Constant", [], "number", value_float=value)
        b.node("Constant", [], "size", value_ints=[CHANNELS])
        return [b.node("Expand", ["number", "size"], "bias")]
    if kind == "shape of the data":
        b.node("Shape", ["x"], "whole")
        index = b.constant("index", np.array([1]))
        b.node("Gather", ["whole", index], "channels")
        number = b.constant("number", np.float32(value))
        return [b.node("Expand", [number, "channels"], "bias")]
    number = b.constant("number", np.array(value, np.float32))
    if kind == "like the data":
        b.node("CastLike", [number, "x"], "cast")
    else:
        b.node("Cast", [number], "cast", to=TensorProto.FLOAT)
    b.node("Shape", [b.weight("shaped", CHANNELS)], "size")
    return [b.node("Expand", ["cast", "size"], "bias")]


def weights(kind: str, value: float, folder: Path) -> WeightsRecord:
    b = Builder()
    kernel = b.weight("kernel", CHANNELS, CHANNELS, 3, 3)
    second = b.weight("second", 3, CHANNELS, 1, 1)
    b.node("Conv", ["x", kernel, *bias(b, kind, value)], "c", pads=[1] * 4)
    b.node("GlobalAveragePool", [b.node("Conv", [b.node("Relu", ["c"], "r"), second], "d")], "y")
    model = b.model({"x": ("n", CHANNELS, 5, 5)}, {"y": ("n", 3, 1, 1)}, opset=18)
    np.save(folder / "x.npy", np.random.default_rng(0).random((6, CHANNELS, 5, 5), np.float32))
    path = saved(model, folder / "model.onnx")
    store = cnatool.dump(path, folder / "x.npy", folder / "store.zarr")
    found = store.record.weights
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["attribute", "like the data", "cast", "shape of the data"])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_norms_are_those_of_a_given_bias(kind: str, value: float, tmp_path: Path) -> None:
    plain, made = tmp_path / "plain", tmp_path / "made"
    plain.mkdir()
    made.mkdir()
    expected = weights("given" if value else "none", value, plain)
    found = weights(kind, value, made)
    assert [layer.reason for layer in found.layers] == [None, None]
    assert found.layers == expected.layers
    assert found.path_norm_reason is None
    assert found.log_path_norm == pytest.approx(expected.log_path_norm, rel=1e-12)
    if not value:
        assert found.parameters == expected.parameters
