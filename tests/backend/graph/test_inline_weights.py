"""Weights taken out of an encoded model, against protobuf and ONNX Runtime on the whole of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import Builder, mlp, saved

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.inline_weights import lies_apart, take_weights
from cnatool.backend.session import RunOptions, Session

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(7)
LARGE: dict[str, NDArray[Any]] = {
    "float": RNG.standard_normal((3, 5000)).astype(np.float32),
    "double": RNG.standard_normal((70, 50)),
    "half": RNG.standard_normal((10, 1000)).astype(np.float16),
    "codes": RNG.integers(-128, 128, (4, 5000)).astype(np.int8),
    "indices": RNG.integers(0, 9, 5000),
    "mask": RNG.random((200, 100)) < 0.5,
}
SMALL: dict[str, NDArray[Any]] = {
    "bias": np.arange(3, dtype=np.float32),
    "shape": np.array([0, -1]),
    "scalar": np.array(1.5),
    "empty": np.zeros((0, 4), np.float32),
}


def whole_model(*tensors: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        list(tensors),
        doc_string="behind the initializers",
    )
    return helper.make_model(graph, producer_name="test")


def taken(content: bytes) -> tuple[bytes, dict[str, NDArray[Any]]]:
    return take_weights(memoryview(content))


def test_the_rest_and_the_weights_are_the_model() -> None:
    model = whole_model(
        *(numpy_helper.from_array(value, name) for name, value in (LARGE | SMALL).items())
    )
    rest, weights = taken(model.SerializeToString())
    assert weights.keys() == LARGE.keys()
    for name, value in weights.items():
        assert value.dtype == LARGE[name].dtype
        assert value.flags.aligned
        np.testing.assert_array_equal(value, LARGE[name])
    parsed = onnx.ModelProto.FromString(rest)
    assert {t.name for t in parsed.graph.initializer if lies_apart(t)} == LARGE.keys()
    for tensor in parsed.graph.initializer:
        if lies_apart(tensor):
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = weights[tensor.name].tobytes()
    assert parsed == model


def float_data() -> TensorProto:
    return helper.make_tensor("w", TensorProto.FLOAT, [9000], np.arange(9000, dtype=np.float32))


def raw(name: str, kind: int, shape: list[int], size: int) -> TensorProto:
    return TensorProto(name=name, data_type=kind, dims=shape, raw_data=bytes(size))


def external() -> TensorProto:
    tensor = raw("w", TensorProto.FLOAT, [9000], 36000)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def twice() -> TensorProto:
    tensor = float_data()
    tensor.raw_data = bytes(36000)
    return tensor


@pytest.mark.parametrize(
    "tensors",
    [
        [float_data()],
        [twice()],
        [external()],
        [raw("w", TensorProto.FLOAT, [9000], 35999)],
        [raw("w", TensorProto.FLOAT, [-1, -9000], 36000)],
        [raw("w", TensorProto.BFLOAT16, [18000], 36000)],
        [raw("w", TensorProto.UNDEFINED, [36000], 36000)],
        [raw("w", 999, [36000], 36000)],
        [raw("", TensorProto.FLOAT, [9000], 36000)],
        [raw("w", TensorProto.FLOAT, [9000], 36000)] * 2,
    ],
)
def test_what_is_unusual_stays_in_the_model(tensors: list[TensorProto]) -> None:
    model = whole_model(*tensors)
    rest, weights = taken(model.SerializeToString())
    assert not weights
    assert onnx.ModelProto.FromString(rest) == model


def test_a_graph_in_two_parts_is_left_to_protobuf() -> None:
    model = whole_model(numpy_helper.from_array(LARGE["float"], "w"))
    content = model.SerializeToString() + whole_model().SerializeToString()
    assert taken(content) == (content, {})


def test_damaged_content_is_left_to_protobuf() -> None:
    content = whole_model(
        *(numpy_helper.from_array(value, name) for name, value in (LARGE | SMALL).items())
    ).SerializeToString()
    for end in RNG.integers(0, len(content), 50):
        assert taken(content[:end]) == (content[:end], {})
    for _ in range(300):
        damaged = bytearray(content)
        damaged[RNG.integers(len(content))] ^= 1 << int(RNG.integers(8))
        rest, weights = taken(bytes(damaged))
        if not weights:
            assert rest == bytes(damaged)


def test_the_runtime_optimises_the_same_graph(tmp_path: Path) -> None:
    b = Builder()
    b.node("Conv", ["x", b.weight("w", 64, 32, 3, 3)], "conv", pads=[1, 1, 1, 1])
    shift = [
        b.constant(name, np.abs(RNG.standard_normal(64)).astype(np.float32)) for name in "abcd"
    ]
    b.node("BatchNormalization", ["conv", *shift], "norm")
    b.node("Relu", ["norm"], "relu")
    b.node("Flatten", ["relu"], "flat")
    b.node("Transpose", [b.weight("v", 10, 4096)], "turned")
    b.node("MatMul", ["flat", "turned"], "y")
    path = saved(b.model({"x": ("n", 32, 8, 8)}, {"y": ("n", 10)}), tmp_path / "m.onnx")
    graph = load_graph(path)
    assert graph.weights.keys() == {"w", "v"}
    x = RNG.standard_normal((3, 32, 8, 8)).astype(np.float32)
    (value,) = Session(graph.model, graph, RunOptions()).run(["y"], {"x": x})
    plain = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(["y"], {"x": x})
    assert value.tobytes() == expected.tobytes()


def test_weights_are_not_in_the_graph(tmp_path: Path) -> None:
    model = mlp((64, 300, 300, 10))
    graph = load_graph(saved(model, tmp_path / "m.onnx"))
    assert graph.weights
    assert graph.model.ByteSize() < model.ByteSize() // 4


def test_weights_that_are_overwritten_stay_in_the_model(tmp_path: Path) -> None:
    b = Builder()
    for name in ("scale", "shift", "mean", "variance"):
        b.constant(name, np.full(5000, 0.5, np.float32))
    b.node("BatchNormalization", ["x", "scale", "shift", "mean", "variance"], "y", training_mode=1)
    b.nodes[-1].output.extend(["new_mean", "new_variance"])
    b.node("Mul", ["y", b.weight("w", 5000)], "z")
    path = saved(b.model({"x": ("n", 5000)}, {"z": ("n", 5000)}), tmp_path / "m.onnx")
    graph = load_graph(path)
    assert graph.weights.keys() == {"w"}
    x = RNG.standard_normal((3, 5000)).astype(np.float32)
    first = Session(graph.model, graph, RunOptions()).run(["z"], {"x": x})[0]
    again = Session(graph.model, graph, RunOptions()).run(["z"], {"x": x})[0]
    assert first.tobytes() == again.tobytes()
