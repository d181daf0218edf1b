"""A PyTorch module with the nodes and weights of a small ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn


class _Add(nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first + second


class _Twin(nn.Module):
    """Runs the nodes in order; each is a module, so that hooks can be attached."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._steps = []
        for node in model.graph.node:
            constants = [torch.tensor(weights[name]) for name in node.input if name in weights]
            self.add_module(node.output[0], _make_module(node, constants))
            inputs = [name for name in node.input if name not in weights]
            self._steps.append((node.output[0], inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {self._input: x}
        for name, inputs in self._steps:
            values[name] = self.get_submodule(name)(*(values[i] for i in inputs))
        return values[self._output]


def _make_module(node: onnx.NodeProto, constants: list[torch.Tensor]) -> nn.Module:
    if node.op_type == "Gemm":
        weight, bias = constants
        return _fill(nn.Linear(*weight.shape), weight.T, bias)
    if node.op_type == "Conv":
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight, bias = constants
        fan_out, fan_in, *size = weight.shape
        sides = (size[0], size[1])
        conv = nn.Conv2d(fan_in, fan_out, sides, options["strides"], options["pads"][:2])
        return _fill(conv, weight, bias)
    if node.op_type == "BatchNormalization":
        scale, bias, mean, variance = constants
        norm = nn.BatchNorm2d(len(scale))
        norm.running_mean, norm.running_var = mean, variance
        return _fill(norm, scale, bias)
    simple: dict[str, Callable[[], nn.Module]] = {
        "Add": _Add,
        "Flatten": nn.Flatten,
        "GlobalAveragePool": lambda: nn.AdaptiveAvgPool2d(1),
        "Relu": nn.ReLU,
    }
    return simple[node.op_type]()


def _fill(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    module.weight.data, module.bias.data = weight.contiguous(), bias
    return module


def build_twin(path: Path) -> nn.Module:
    """Build the twin of an ONNX model of `networks`."""
    return _Twin(onnx.load(path)).eval()
