"""The last layer of fully convolutional classifiers, and scores with axes of length one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.networks import Builder, saved

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import find_layers

CLASSES, ROWS = 5, 30
# Operators behind the last convolution, and whether it is the output layer.
HEADS: list[tuple[list[str], int, bool]] = [
    (["GlobalAveragePool"], 3, True),
    (["GlobalAveragePool", "Flatten"], 1, True),
    (["GlobalAveragePool", "Softmax"], 1, True),
    (["GlobalAveragePool", "Squeeze", "LogSoftmax"], 1, True),
    (["AveragePool", "Sigmoid"], 1, True),
    (["ReduceMean", "Softmax"], 3, True),
    (["Dropout", "GlobalAveragePool", "Reshape"], 1, True),
    (["Softmax", "GlobalAveragePool"], 1, True),
    (["Relu", "GlobalAveragePool", "Softmax"], 1, True),
    (["Relu", "GlobalAveragePool", "Softmax"], 3, True),
    (["Relu", "AveragePool", "Flatten"], 1, True),
    # a feature extractor
    (["Relu", "GlobalAveragePool", "Flatten"], 3, False),
    (["Relu"], 1, False),
    (["Relu", "Softmax"], 1, False),
    (["GlobalMaxPool", "Flatten"], 1, False),
    (["Tanh", "GlobalAveragePool"], 1, False),
]


def network(head: list[str], kernel: int) -> onnx.ModelProto:
    b = Builder()
    tensor = b.node("Relu", [b.conv("x", "first", 3, 4, 3, bias=True)], "r1")
    tensor = b.node("Relu", [b.conv(tensor, "second", 4, 4, 3, bias=True)], "r2")
    tensor = b.conv(tensor, "last", 4, CLASSES, kernel, bias=True)
    shape: tuple[int | str, ...] = ("n", CLASSES, 6, 6)
    for number, operator in enumerate(head):
        inputs, attributes = [tensor], {}
        if operator == "Squeeze":
            inputs.append(b.constant("axes", np.array([2, 3])))
        if operator == "Reshape":
            inputs.append(b.constant("shape", np.array([-1, CLASSES])))
        if operator in ("Softmax", "LogSoftmax"):
            attributes["axis"] = 1
        if operator == "AveragePool":
            attributes["kernel_shape"] = [6, 6]
        if operator == "ReduceMean":
            attributes["axes"] = [2, 3]
        if operator in ("Squeeze", "Flatten", "Reshape"):
            shape = ("n", CLASSES)
        if "Pool" in operator or operator == "ReduceMean":
            shape = ("n", CLASSES, 1, 1)
        tensor = b.node(operator, inputs, f"h{number}", **attributes)
    return b.model({"x": ("n", 3, 6, 6)}, {tensor: shape})


@pytest.mark.parametrize(("head", "kernel", "output"), HEADS)
def test_last_layer(head: list[str], kernel: int, output: bool, tmp_path: Path) -> None:
    path = saved(network(head, kernel), tmp_path / "model.onnx")
    table = find_layers(load_graph(path))
    assert [layer.output for layer in table.layers] == [False, False, output]
    assert ("last" in table.output_tensors) == output
    if output:
        assert table.layers[2].leads_to == (f"h{len(head) - 1}",)


@pytest.mark.parametrize(
    "head",
    [
        ["GlobalAveragePool"],
        ["GlobalAveragePool", "Softmax"],
        ["ReduceMean", "Softmax"],
        ["Relu", "GlobalAveragePool", "Softmax"],
    ],
)
def test_scores_with_axes_of_length_one(head: list[str], tmp_path: Path) -> None:
    """What is scored is what the same scores without those axes give."""
    rng = np.random.default_rng(1)
    x = rng.random((ROWS, 3, 6, 6), np.float32)
    labels = rng.integers(0, CLASSES, ROWS)
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        np.savez(tmp_path / "data" / f"{split}.npz", x=x, y=labels)
    results = []
    for tail in ([], ["Flatten"]):
        model = saved(network([*head, *tail], 1), tmp_path / f"model{len(tail)}.onnx")
        store = cnatool.dump(model, tmp_path / "data", tmp_path / f"store{len(tail)}.zarr")
        results.append(cnatool.score(store))
    stored = cnatool.open(tmp_path / "store0.zarr").splits["train"].outputs(0)[:]
    assert stored.shape == (ROWS, CLASSES, 1, 1)
    expected = float((stored.argmax(axis=1).ravel() == labels).mean())
    assert results[0].splits["train"].accuracy == expected
    for result in results:
        assert len(result.layers) == 2
        assert result.splits["train"].outputs == (
            "probabilities" if "Softmax" in head else "logits"
        )
    for field in ("accuracy", "loss", "cna"):
        one, two = (getattr(result.splits["train"], field) for result in results)
        assert one == two
    assert results[0].margin == results[1].margin
    assert results[0].cna_margin == results[1].cna_margin
    compared = cnatool.compare(tmp_path / "store0.zarr", tmp_path / "store0.zarr")
    assert compared.splits["train"].outputs[0].predictions == 1.0


def test_squeezenet_of_the_onnx_package() -> None:
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    if not path.exists():
        pytest.skip("the onnx package has no light models")
    layers = find_layers(load_graph(path)).layers
    assert [layer.linear for layer in layers if layer.output] == ["r63"]
    assert layers[-1].leads_to == ("softmaxout_1",)


@pytest.mark.parametrize(("head", "kernel", "output"), HEADS)
def test_recorded(head: list[str], kernel: int, output: bool) -> None:
    torch = pytest.importorskip("torch")
    from cnatool.recorders import layer_rule as rule
    from cnatool.recorders.torch import trace as torch_trace

    nn = torch.nn
    modules = {
        "AveragePool": lambda: nn.AvgPool2d(6),
        "Dropout": nn.Dropout,
        "Flatten": nn.Flatten,
        "GlobalAveragePool": lambda: nn.AdaptiveAvgPool2d(1),
        "GlobalMaxPool": lambda: nn.AdaptiveMaxPool2d(1),
        "LogSoftmax": lambda: nn.LogSoftmax(1),
        "ReduceMean": lambda: nn.AdaptiveAvgPool2d(1),
        "Relu": nn.ReLU,
        "Reshape": nn.Flatten,
        "Sigmoid": nn.Sigmoid,
        "Softmax": lambda: nn.Softmax(1),
        "Squeeze": nn.Flatten,
        "Tanh": nn.Tanh,
    }
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, CLASSES, kernel, padding=kernel // 2),
        *(modules[operator]() for operator in head),
    ).eval()
    trace, _ = torch_trace.trace_network(net, (torch.rand(4, 3, 6, 6),), {}, 4)
    layers = rule.find_layers(trace.steps, trace.outputs.values())
    assert [layer.output for layer in layers] == [False, output]
