"""Models that compute in bfloat16, on a CPU: against PyTorch's hooks, and the same in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.backend.graph.bfloat16_nodes import compute_in_float32, computes_in_bfloat16

BF16 = TensorProto.BFLOAT16
RNG = np.random.default_rng(4)


def rounded(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def weight(name: str, values: np.ndarray) -> onnx.TensorProto:
    raw = values.astype(ml_dtypes.bfloat16).tobytes()
    return helper.make_tensor(name, BF16, values.shape, raw, raw=True)


def model(nodes: list[Any], inputs: Any, outputs: Any, weights: list[Any]) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in each.items()]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *values, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def dump(made: onnx.ModelProto, folder: Path, name: str = "s.zarr", **data: Any) -> cnatool.Store:
    onnx.save(made, folder / "net.onnx")
    np.savez(folder / "data.npz", **data)
    return cnatool.dump(folder / "net.onnx", folder / "data.npz", folder / name)


def values(store: cnatool.Store, name: str) -> np.ndarray:
    found: np.ndarray = store.splits["all"].activations(name)[:]
    return found


def test_each_result_is_rounded(tmp_path: Path) -> None:
    """An input and weights of bfloat16, and a branch that reads both from around it."""
    x = RNG.normal(size=(9, 6)).astype(np.float32)
    w, b = RNG.normal(size=(6, 6)), RNG.normal(size=6)
    then, other = (
        helper.make_graph(
            [helper.make_node(op, ["h", "x"], [op])],
            op,
            [],
            [helper.make_tensor_value_info(op, BF16, None)],
        )
        for op in ("Add", "Mul")
    )
    nodes = [
        helper.make_node("Mul", ["x", "b"], ["m"]),
        helper.make_node("Exp", ["m"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["known"], to=TensorProto.FLOAT),
        helper.make_node("IsNaN", ["known"], ["nan"]),
        helper.make_node("If", ["nan"], ["f"], then_branch=other, else_branch=then),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"]),
        helper.make_node("Cast", ["p"], ["z"], to=TensorProto.FLOAT),
    ]
    made = model(
        nodes,
        {"x": (BF16, ["n", 6])},
        {"y": (BF16, ["n", 6]), "z": (TensorProto.FLOAT, ["n", 6])},
        [weight("w", w), weight("b", b)],
    )
    store = dump(made, tmp_path, x=x, y=np.arange(9) % 3)
    assert store.record.inputs[0].stored is msgspec.UNSET  # the data are float32
    assert [t.stored for t in store.tensors if t.name in ("m", "h", "f", "p")] == ["bfloat16"] * 4
    assert store.record.outputs[0].stored == "bfloat16"
    fed = rounded(x)
    m = rounded(fed * rounded(b))
    np.testing.assert_array_equal(values(store, "m"), m)
    # The runtime's exp is not NumPy's to the last bit.
    h = values(store, "h")
    np.testing.assert_array_equal(h, rounded(h))
    np.testing.assert_allclose(h, rounded(np.exp(m)), rtol=2**-8)
    f = rounded(h + fed)
    np.testing.assert_array_equal(values(store, "f"), f)
    exact = f.astype(float) @ rounded(w).astype(float)
    np.testing.assert_allclose(values(store, "y"), exact, rtol=2**-8, atol=1e-4)
    assert cnatool.verify(store.path).faults == ()


def test_values_that_nodes_make(tmp_path: Path) -> None:
    """ConstantOfShape and CastLike make bfloat16 of an attribute, or of what is like it."""
    made_tensor = helper.make_tensor("value", BF16, [1], [1.0099])
    nodes = [
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["ones"], value=made_tensor),
        helper.make_node("CastLike", ["x", "ones"], ["like"]),
        helper.make_node("Add", ["like", "ones"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
    ]
    kind = (TensorProto.FLOAT, ["n", 5])
    x = RNG.normal(size=(7, 5)).astype(np.float32)
    store = dump(model(nodes, {"x": kind}, {"y": kind}, []), tmp_path, x=x)
    np.testing.assert_array_equal(values(store, "like"), rounded(x))
    np.testing.assert_array_equal(values(store, "y"), rounded(rounded(x) + rounded(1.0099)))


def test_other_models_stay_as_they_are() -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    made = b.model({"x": ("n", 6)}, {"y": ("n", 6)})
    assert not computes_in_bfloat16(made.graph)
    assert compute_in_float32(made) is made


def test_a_note_says_so(tmp_path: Path) -> None:
    b = Builder()
    b.node("Cast", ["x"], "half", to=BF16)
    b.node("Abs", ["half"], "size")
    b.node("Cast", ["size"], "y", to=TensorProto.FLOAT)
    path = saved(b.model({"x": ("n", 6)}, {"y": ("n", 6)}), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=RNG.normal(size=(4, 6)).astype(np.float32))
    notes = Notes()
    cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", observer=notes)
    assert sum("each result is rounded to bfloat16" in text for text in notes.texts) == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_a_network_of_pytorch_equals_its_hooks_bit_for_bit(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm = nn.Embedding(30, 16), nn.LayerNorm(16)
            self.up, self.down = nn.Linear(16, 32, bias=False), nn.Linear(32, 16, bias=False)
            self.relu, self.head = nn.ReLU(), nn.Linear(16, 5, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids)
            return self.head(x + self.down(self.relu(self.up(self.norm(x)))))

    torch.manual_seed(0)
    net = Network().eval().to(torch.bfloat16)
    for module in (net.up, net.down, net.head):
        # Eighths, so that sums are the same in any order.
        module.weight.data = (module.weight.data * 16).round() / 8
    ids = torch.from_numpy(RNG.integers(0, 30, (12, 7)))
    found: dict[str, Any] = {}
    for name, module in net.named_children():
        module.register_forward_hook(
            lambda _, __, result, name=name: found.__setitem__(name, result.detach())
        )
    with torch.no_grad():
        net(ids)
    truth = {name: result.float().numpy() for name, result in found.items()}
    path = tmp_path / "net.onnx"
    if dynamo:
        shapes = ({0: torch.export.Dim("n")},)
        torch.onnx.export(net, (ids,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    else:
        torch.onnx.export(
            net, (ids,), path, dynamo=False, input_names=["ids"], dynamic_axes={"ids": {0: "n"}}
        )
    np.savez(tmp_path / "data.npz", ids=ids.numpy())
    for suffix in ("zarr", "h5"):
        store = cnatool.dump(path, tmp_path / "data.npz", tmp_path / f"s.{suffix}")
        stored = {tensor.name: values(store, tensor.name) for tensor in store.tensors}
        assert {tensor.onnx_type for tensor in store.tensors} == {"bfloat16"}
        for name, result in truth.items():
            same = [each for each, array in stored.items() if np.array_equal(array, result)]
            assert same, f"no tensor equals what {name} returns"
