"""Small ONNX networks, written node by node so that no exporter decides what a test sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights of a graph."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        value = self.rng.normal(0, 1 / np.sqrt(max(1, np.prod(shape[1:]))), shape)
        return self.constant(name, value.astype(np.float32))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def gemm(self, tensor: str, output: str, inputs: int, outputs: int) -> str:
        w = self.weight(f"{output}.weight", outputs, inputs)
        b = self.weight(f"{output}.bias", outputs)
        return self.node("Gemm", [tensor, w, b], output, transB=1)

    def conv(
        self, tensor: str, output: str, inputs: int, outputs: int, size: int, *, bias: bool = False
    ) -> str:
        names = [tensor, self.weight(f"{output}.weight", outputs, inputs, size, size)]
        if bias:
            names.append(self.weight(f"{output}.bias", outputs))
        return self.node("Conv", names, output, pads=[size // 2] * 4)

    def batch_norm(self, tensor: str, output: str, channels: int) -> str:
        parts = [self.weight(f"{output}.{p}", channels) for p in ("scale", "shift", "mean")]
        variance = self.rng.uniform(0.5, 2, channels).astype(np.float32)
        parts.append(self.constant(f"{output}.variance", variance))
        return self.node("BatchNormalization", [tensor, *parts], output)

    def model(
        self,
        inputs: dict[str, tuple[int | str, ...]],
        outputs: dict[str, tuple[int | str, ...]],
        *,
        opset: int = 17,
        dtype: int = TensorProto.FLOAT,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, dtype, s) for n, s in outputs.items()],
            self.weights,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def mlp(
    sizes: tuple[int, ...] = (64, 20, 16, 12, 10), *, seed: int = 0, batch: int | str = "n"
) -> onnx.ModelProto:
    """Gemm and Relu in turn; tensors ``fc1``, ``relu1``, …; the last is ``logits``."""
    b = Builder(seed)
    tensor = "x"
    last = len(sizes) - 1
    for i in range(1, last):
        tensor = b.node("Relu", [b.gemm(tensor, f"fc{i}", *sizes[i - 1 : i + 1])], f"relu{i}")
    b.gemm(tensor, "logits", *sizes[last - 1 :])
    return b.model({"x": (batch, sizes[0])}, {"logits": (batch, sizes[last])})


def residual_convnet(*, seed: int = 0) -> onnx.ModelProto:
    """A ResNet in small: an identity block and one with a projection, BatchNorm not folded."""
    b = Builder(seed)
    b.node("Relu", [b.batch_norm(b.conv("x", "stem", 1, 4, 3), "stem_bn", 4)], "stem_relu")
    b.node("Relu", [b.batch_norm(b.conv("stem_relu", "a1", 4, 4, 3), "a1_bn", 4)], "a1_relu")
    b.batch_norm(b.conv("a1_relu", "a2", 4, 4, 3), "a2_bn", 4)
    b.node("Relu", [b.node("Add", ["a2_bn", "stem_relu"], "a_sum")], "a_out")
    b.node("Relu", [b.batch_norm(b.conv("a_out", "b1", 4, 6, 3), "b1_bn", 6)], "b1_relu")
    b.batch_norm(b.conv("b1_relu", "b2", 6, 6, 3), "b2_bn", 6)
    b.batch_norm(b.conv("a_out", "projection", 4, 6, 1), "projection_bn", 6)
    b.node("Relu", [b.node("Add", ["b2_bn", "projection_bn"], "b_sum")], "b_out")
    b.node("Flatten", [b.node("GlobalAveragePool", ["b_out"], "pooled")], "flat")
    b.node("Softmax", [b.gemm("flat", "logits", 6, 10)], "probabilities", axis=1)
    return b.model({"x": ("n", 1, 8, 8)}, {"probabilities": ("n", 10)})


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model and give its path."""
    onnx.save(model, path)
    return path
