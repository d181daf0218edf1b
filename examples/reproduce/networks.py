"""The networks of a collection, and their export to ONNX."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from tasks import Data
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

OPSET = 18

Shape = tuple[int, int, int]


class Standardize(nn.Module):
    """Subtract the mean of each channel over the training data, and divide by the deviation."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("deviation", deviation.reshape(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Standardize inputs, (n, channels, height, width)."""
        return (x - self.mean) / self.deviation


def perceptron(shape: Shape, classes: int) -> list[nn.Module]:
    """Build five hidden layers of 500 units."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = shape[0] * shape[1] * shape[2]
    for _ in range(5):
        layers += [nn.Linear(width, 500), nn.ReLU()]
        width = 500
    return [*layers, nn.Linear(width, classes)]


def vgg(shape: Shape, classes: int) -> list[nn.Module]:
    """Build five convolutions with batch normalisation in three blocks, and two linear layers."""
    layers: list[nn.Module] = []
    channels = shape[0]
    for block in ((16,), (32, 32), (64, 64)):
        for width in block:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        layers.append(nn.MaxPool2d(2))
    flat = channels * (shape[1] // 8) * (shape[2] // 8)
    return [*layers, nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, classes)]


class Residual(nn.Module):
    """Two convolutions and a bypass, which is a projection if the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.bypass: nn.Module = nn.Identity()
        if before != after:
            self.bypass = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.bypass(x))


def resnet(shape: Shape, classes: int) -> list[nn.Module]:
    """Build a strided convolution, three residual blocks, and a linear layer on channels' means."""
    return [
        nn.Conv2d(shape[0], 24, 3, 2, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        Residual(24, 24, 1),
        Residual(24, 48, 2),
        Residual(48, 96, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, classes),
    ]


NETWORKS: dict[str, Callable[[Shape, int], list[nn.Module]]] = {
    "mlp": perceptron,
    "vgg": vgg,
    "resnet": resnet,
}


def build(name: str, data: Data) -> nn.Sequential:
    """Build a network for some data, with initial weights from PyTorch's generator."""
    channels = data.images["train"].reshape(-1, data.shape[0]).T
    counts = np.array([np.bincount(channel, minlength=256) for channel in channels])
    shares, levels = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ levels
    deviation = np.sqrt(shares @ levels**2 - mean**2)
    standardize = Standardize(
        torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)
    )
    return nn.Sequential(standardize, *NETWORKS[name](data.shape, data.classes))


def fold_norms(network: nn.Module) -> nn.Module:
    """Copy a network for inference, with batch normalisation folded into the convolutions."""
    result = copy.deepcopy(network).eval()
    for module in result.modules():
        if isinstance(module, Residual):
            module.first = fuse_conv_bn_eval(module.first, module.first_norm)
            module.second = fuse_conv_bn_eval(module.second, module.second_norm)
            module.first_norm = module.second_norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                layer, norm = module[place], module[place + 1]
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[place] = fuse_conv_bn_eval(layer, norm)
                    module[place + 1] = nn.Identity()
    return result


class Exporter:
    """Writes checkpoints of one architecture.

    The graph is exported once; for all other checkpoints only the weights are replaced, which takes
    milliseconds instead of seconds.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width of an input.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._graph: onnx.ModelProto | None = None

    def write(self, network: nn.Module, path: Path) -> None:
        """Write a network as one ONNX file with a free batch axis."""
        plain = fold_norms(network)
        weights = dict(plain.named_parameters())
        if self._graph is None:
            self._graph = self._export(copy.deepcopy(plain))
        model = self._graph
        exported = [tensor for tensor in model.graph.initializer if tensor.name in weights]
        if len(exported) != len(weights):
            raise RuntimeError("the exported graph does not have the network's own weights")
        for tensor in exported:
            values = weights[tensor.name].detach().numpy()
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(model.SerializeToString(deterministic=True))
        partial.replace(path)

    def _export(self, network: nn.Module) -> onnx.ModelProto:
        # Equal weights, such as biases of 0 before training, would be merged.
        for weights in network.parameters():
            nn.init.normal_(weights)
        # Otherwise each export reports that torchvision, which is not needed, is missing.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *self._shape),),
            input_names=["pictures"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        return program.model_proto
