"""Networks and data of the benchmarks: shapes of MNIST, random with a fixed seed."""

from __future__ import annotations

import gzip
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def mlp(path: Path) -> Path:
    """Write a perceptron for MNIST, 784-500-500-500-10, with random weights."""
    rng = np.random.default_rng(0)
    sizes = [784, 500, 500, 500, 10]
    nodes, weights, tensor = [], [], "x"
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        weights += [
            _weights(rng, f"w{i}", (fan_in, fan_out), fan_in),
            _weights(rng, f"b{i}", (fan_out,), fan_in),
        ]
        nodes.append(helper.make_node("Gemm", [tensor, f"w{i}", f"b{i}"], [f"fc{i}"]))
        tensor = f"fc{i}"
        if i < len(sizes) - 1:
            nodes.append(helper.make_node("Relu", [tensor], [f"relu{i}"]))
            tensor = f"relu{i}"
    return _save(path, nodes, weights, ("n", 784), tensor)


def convnet(path: Path) -> Path:
    """Write a small convolutional network: 16, 32 and 64 channels, then a linear layer."""
    rng = np.random.default_rng(0)
    nodes, weights, tensor = [], [], "x"
    for i, (fan_in, fan_out) in enumerate([(1, 16), (16, 32), (32, 64)], start=1):
        weights += [
            _weights(rng, f"w{i}", (fan_out, fan_in, 3, 3), fan_in * 9),
            _weights(rng, f"b{i}", (fan_out,), fan_in * 9),
        ]
        names = [tensor, f"w{i}", f"b{i}"]
        stride = 1 if i == 1 else 2
        nodes.append(
            helper.make_node("Conv", names, [f"conv{i}"], pads=[1] * 4, strides=[stride] * 2)
        )
        nodes.append(helper.make_node("Relu", [f"conv{i}"], [f"relu{i}"]))
        tensor = f"relu{i}"
    nodes.append(helper.make_node("Flatten", [tensor], ["flat"]))
    weights += [_weights(rng, "w4", (64 * 49, 10), 64 * 49), _weights(rng, "b4", (10,), 64 * 49)]
    nodes.append(helper.make_node("Gemm", ["flat", "w4", "b4"], ["logits"]))
    return _save(path, nodes, weights, ("n", 1, 28, 28), "logits")


def resnet18(path: Path, image: tuple[int, int, int] = (1, 28, 28), *, norm: bool = False) -> Path:
    """Write a ResNet-18 for small images; without ``norm``, BatchNorm is folded as by exporters."""
    net = _Graph(np.random.default_rng(0), norm=norm)
    tensor, channels = net.relu(net.conv("x", image[0], 64, 3)), 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            bypass = tensor if width == channels else net.conv(tensor, channels, width, 1, stride)
            tensor = net.relu(net.conv(tensor, channels, width, 3, stride))
            tensor = net.relu(net.node("Add", [net.conv(tensor, width, width, 3), bypass]))
            channels = width
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [tensor])])
    logits = net.node("Gemm", [flat, net.weight(channels, 10), net.weight(10)])
    return _save(path, net.nodes, net.weights, ("n", *image), logits)


def transformer(path: Path, width: int = 128, blocks: int = 4, heads: int = 4) -> Path:
    """Write a small vision transformer as exporters give it: 16 patches of 7 by 7, GELU by Erf."""
    net = _Graph(np.random.default_rng(0))
    patches = [net.weight(width, 1, 7, 7), net.weight(width)]
    grid = net.node("Conv", ["x", *patches], strides=[7, 7])
    rows = net.node("Reshape", [grid, net.constant([0, width, 16])])
    tokens = net.node("Transpose", [rows], perm=[0, 2, 1])
    tensor = net.node("Add", [tokens, net.weight(16, width)])
    for _ in range(blocks):
        normed = net.norm(tensor, width)
        shape, whole = net.constant([0, 0, heads, width // heads]), net.constant([0, 0, width])
        query, key, value = (
            net.node("Reshape", [net.linear(normed, width, width), shape]) for _ in range(3)
        )
        query = net.node("Transpose", [query], perm=[0, 2, 1, 3])
        key = net.node("Transpose", [key], perm=[0, 2, 3, 1])
        value = net.node("Transpose", [value], perm=[0, 2, 1, 3])
        scores = net.node(
            "Mul", [net.node("MatMul", [query, key]), net.constant((width // heads) ** -0.5)]
        )
        mixed = net.node("MatMul", [net.node("Softmax", [scores], axis=-1), value])
        mixed = net.node("Reshape", [net.node("Transpose", [mixed], perm=[0, 2, 1, 3]), whole])
        tensor = net.node("Add", [net.linear(mixed, width, width), tensor])
        hidden = net.linear(net.norm(tensor, width), width, 4 * width)
        erf = net.node("Erf", [net.node("Div", [hidden, net.constant(2.0**0.5)])])
        gate = net.node("Mul", [hidden, net.node("Add", [erf, net.constant(1.0)])])
        gelu = net.node("Mul", [gate, net.constant(0.5)])
        tensor = net.node("Add", [net.linear(gelu, 4 * width, width), tensor])
    pooled = net.node("ReduceMean", [net.norm(tensor, width)], axes=[1], keepdims=0)
    logits = net.node("Gemm", [pooled, net.weight(width, 10), net.weight(10)])
    return _save(path, net.nodes, net.weights, ("n", 1, 28, 28), logits)


class _Graph:
    """Collects nodes and random weights under generated names."""

    def __init__(self, rng: np.random.Generator, *, norm: bool = False) -> None:
        self._rng = rng
        self._norm = norm
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        self.weights.append(_weights(self._rng, name, shape, fan_in))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: float | list[int]) -> str:
        name = f"c{len(self.weights)}"
        dtype = np.int64 if isinstance(value, list) else np.float32
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def linear(self, tensor: str, fan_in: int, fan_out: int) -> str:
        product = self.node("MatMul", [tensor, self.weight(fan_in, fan_out)])
        return self.node("Add", [product, self.weight(fan_out)])

    def norm(self, tensor: str, width: int) -> str:
        return self.node("LayerNormalization", [tensor, self.weight(width), self.weight(width)])

    def relu(self, tensor: str) -> str:
        return self.node("Relu", [tensor])

    def conv(self, tensor: str, fan_in: int, fan_out: int, size: int, stride: int = 1) -> str:
        names = [tensor, self.weight(fan_out, fan_in, size, size), self.weight(fan_out)]
        pads, strides = [size // 2] * 4, [stride] * 2
        values = self.node("Conv", names, pads=pads, strides=strides)
        return self.batch_norm(values, fan_out) if self._norm else values

    def batch_norm(self, tensor: str, width: int) -> str:
        scale, variance = self.positive(width), self.positive(width)
        names = [tensor, scale, self.weight(width), self.weight(width), variance]
        return self.node("BatchNormalization", names)

    def positive(self, width: int) -> str:
        name = f"w{len(self.weights)}"
        values = self._rng.uniform(0.5, 1.5, width).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name


def make_digits(rows: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make images, (n, 28, 28), as sparse as MNIST's, of whose pixels a fifth are not zero."""
    images = np.zeros((rows, 28, 28), np.uint8)
    images[:, 8:21, 8:20] = rng.integers(1, 500, (rows, 13, 12)).clip(max=255)
    return images


def write_digits(folder: Path, rows: int) -> Path:
    """Write a gzipped IDX pair of images as sparse as MNIST's; return the file of images."""
    rng = np.random.default_rng(0)
    images = make_digits(rows, rng)
    path = folder / "digits-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", 6) as stream:
        stream.write(struct.pack(">I3I", 0x803, *images.shape) + images.tobytes())
    with gzip.open(folder / "digits-labels-idx1-ubyte.gz", "wb", 6) as stream:
        labels = rng.integers(0, 10, rows, np.uint8)
        stream.write(struct.pack(">2I", 0x801, rows) + labels.tobytes())
    return path


def _weights(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int
) -> onnx.TensorProto:
    values = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shape: tuple[str | int, ...],
    output: str,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("n", 10))],
        weights,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path
