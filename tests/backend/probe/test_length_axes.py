"""Axes that follow the length of samples, against shapes that the operators are known to give."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from support.networks import Builder

from cnatool.backend.inputs import Samples
from cnatool.backend.network import Network, open_network
from cnatool.backend.probe.length_axes import add_length_axes, find_length_axes, resize_samples
from cnatool.backend.session import RunOptions


def sequence_model() -> onnx.ModelProto:
    """Rows of 6 numbers: a convolution over time, products, attention scores and a mean."""
    b = Builder(4)
    b.node("Transpose", ["x"], "channels", perm=[0, 2, 1])
    conv = b.weight("kernel", 8, 6, 3)
    b.node("Conv", ["channels", conv], "half", strides=[2])
    b.node("MatMul", ["x", b.weight("w", 6, 5)], "rows")
    b.node("Transpose", ["rows"], "columns", perm=[0, 2, 1])
    b.node("MatMul", ["rows", "columns"], "scores")
    b.node("Reshape", ["rows", b.constant("flat", np.array([-1, 5]))], "merged")
    b.node("ReduceMean", ["rows"], "mean", axes=[1], keepdims=0)
    b.node("MatMul", ["mean", b.weight("v", 5, 3)], "y")
    return b.model({"x": ("n", "t", 6)}, {"y": ("n", 3)})


def probe(network: Network, length: int, bound: int | None = None) -> list:
    values = np.random.default_rng(length).normal(size=(3, length, 6)).astype(np.float32)
    run = RunOptions()
    return network.probe(Samples({"x": values}), bound=bound, run=run, shapes_only=True).tensors


@pytest.mark.parametrize("bound", [None, 1])
@pytest.mark.parametrize("lengths", [(5, 8), (6, 5, 9), (3, 7, 4)])
def test_axes(tmp_path: Path, lengths: tuple[int, ...], bound: int | None) -> None:
    onnx.save(sequence_model(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    axes = find_length_axes([probe(network, length, bound) for length in lengths])
    expected = {
        "channels": {1},
        "half": {1},
        "rows": {0},
        "columns": {1},
        "scores": {0, 1},
        "merged": {0},
        "mean": set(),
        "y": set(),
    }
    assert {name: set(found) for name, found in axes.items()} == expected


def test_lengths_that_a_convolution_does_not_tell_apart(tmp_path: Path) -> None:
    onnx.save(sequence_model(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    same = find_length_axes([probe(network, 5), probe(network, 6)])
    assert same["half"] == frozenset()
    assert find_length_axes([probe(network, n) for n in (5, 6, 9)])["half"] == {1}


def test_records(tmp_path: Path) -> None:
    onnx.save(sequence_model(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    tensors, skipped = add_length_axes([probe(network, 6), probe(network, 9)])
    assert not skipped
    by_name = {tensor.name: tensor for tensor in tensors}
    assert by_name["rows"].shape == (6, 5)
    assert by_name["rows"].ragged_axis == 0
    assert by_name["channels"].ragged_axis == 1
    assert by_name["scores"].ragged_axis is msgspec.UNSET
    assert by_name["scores"].varies
    assert not by_name["mean"].varies


def test_axis_that_depends_on_values_too(tmp_path: Path) -> None:
    onnx.save(sequence_model(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    first, second = probe(network, 6), probe(network, 9)

    def vary(name: str, axis: object) -> object:
        found = [
            msgspec.structs.replace(t, varies=True, ragged_axis=axis) if t.name == name else t
            for t in first
        ]
        return next(t for t in add_length_axes([found, second])[0] if t.name == name).ragged_axis

    assert vary("rows", 0) == 0
    assert vary("rows", 1) is msgspec.UNSET
    assert vary("rows", msgspec.UNSET) is msgspec.UNSET
    assert vary("mean", 0) == 0


def test_tensors_without_one_sample_axis_for_all_lengths(tmp_path: Path) -> None:
    onnx.save(sequence_model(), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    first, second = probe(network, 6), probe(network, 9)
    other = [msgspec.structs.replace(t, batch_axis=1) if t.name == "half" else t for t in second]
    tensors, skipped = add_length_axes([first, other])
    assert [tensor.name for tensor in skipped] == ["half"]
    assert [tensor.number for tensor in tensors] == list(range(len(first) - 1))
    # Where samples are as short as that it does not show, others show it.
    tensors, skipped = add_length_axes([first, other, second])
    assert not skipped
    assert next(t for t in tensors if t.name == "half").ragged_axis == 1


def test_resized_samples() -> None:
    values = {"ids": np.arange(6).reshape(2, 3), "flag": np.ones((2, 1))}
    shorter = resize_samples(Samples(values), {"ids": 0}, {"ids": 2}).values
    assert shorter["ids"].tolist() == [[0, 1], [3, 4]]
    assert shorter["flag"].shape == (2, 1)
    longer = resize_samples(Samples(values), {"ids": 0}, {"ids": 5}).values
    assert longer["ids"].tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4]]
