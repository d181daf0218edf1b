"""Layers of architectures that PyTorch exported, against what hooks on their modules see."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)
from support.layer_truth import Truth, assert_layers, dumped
from support.mnist import exported, nn, torch

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import find_layers
from cnatool.errors import MetricError

F = torch.nn.functional
ROWS = 6

# What exporters warn of is theirs; what comes out is compared.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("DeprecationWarning", "FutureWarning", "UserWarning", "torch.jit.TracerWarning")
]


class Is(NamedTuple):
    """A linear module: the module whose result enters the nonlinearity, and its depth."""

    path: int
    follows: str = ""
    shortcut: bool = False
    output: bool = False


class Vgg(nn.Module):
    LAYERS: ClassVar = {
        "c1": Is(1),
        "c2": Is(2),
        "c3": Is(3),
        "f1": Is(4),
        "f2": Is(5, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c3, self.f1, self.f2 = nn.Conv2d(4, 6, 3), nn.Linear(24, 12), nn.Linear(12, 5)
        self.dropout = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.c2(F.relu(self.c1(x)))), 2)
        x = torch.flatten(F.relu(self.c3(x)), 1)
        return torch.softmax(self.f2(self.dropout(torch.tanh(self.f1(x)))), dim=1)


class Resnet(nn.Module):
    """A basic block without a projection, then a bottleneck with one."""

    LAYERS: ClassVar = {
        "stem": Is(1, "stem_bn"),
        "a1": Is(2, "a1_bn"),
        "a2": Is(3, "a2_bn"),
        "b1": Is(4, "b1_bn"),
        "b2": Is(5, "b2_bn"),
        "b3": Is(6, "b3_bn"),
        "down": Is(4, "down_bn", shortcut=True),
        "fc": Is(7, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        shapes = {
            "stem": (2, 4, 3, 1),
            "a1": (4, 4, 3, 1),
            "a2": (4, 4, 3, 1),
            "b1": (4, 3, 1, 1),
            "b2": (3, 3, 3, 2),
            "b3": (3, 8, 1, 1),
            "down": (4, 8, 1, 2),
        }
        for name, (inputs, outputs, size, stride) in shapes.items():
            conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
            self.add_module(name, conv)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))
        self.fc = nn.Linear(8, 5)

    def run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.run("stem", x))
        x = F.relu(self.run("a2", F.relu(self.run("a1", x))) + x)
        y = self.run("b3", F.relu(self.run("b2", F.relu(self.run("b1", x)))))
        x = F.relu(y + self.run("down", x))
        return self.fc(x.mean(dim=(2, 3)))


class Densenet(nn.Module):
    """BatchNorm and ReLU come before each convolution, whose result is concatenated."""

    LAYERS: ClassVar = {
        "c0": Is(1),
        "c1": Is(2),
        "c2": Is(3),
        "transition": Is(4),
        "fc": Is(5, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.c0 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.n1, self.c1 = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.n2, self.c2 = nn.BatchNorm2d(7), nn.Conv2d(7, 3, 3, padding=1, bias=False)
        self.n3, self.transition = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 1, bias=False)
        self.n4, self.fc = nn.BatchNorm2d(5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.c0(x)
        x = torch.cat([x, self.c1(F.relu(self.n1(x)))], dim=1)
        x = torch.cat([x, self.c2(F.relu(self.n2(x)))], dim=1)
        x = F.avg_pool2d(self.transition(F.relu(self.n3(x))), 2)
        return self.fc(F.relu(self.n4(x)).mean(dim=(2, 3)))


class Mobilenet(nn.Module):
    """An inverted residual with squeeze-and-excitation."""

    LAYERS: ClassVar = {
        "stem": Is(1, "stem_bn"),
        "expand": Is(2, "expand_bn"),
        "depthwise": Is(3, "depthwise_bn"),
        "squeeze": Is(4),
        "excite": Is(5),
        "project": Is(6, "project_bn"),
        "fc": Is(7, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.expand, self.expand_bn = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.project, self.project_bn = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.stem_bn(self.stem(x)))
        y = F.relu6(self.expand_bn(self.expand(x)))
        y = F.hardswish(self.depthwise_bn(self.depthwise(y)))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1))))
        x = x + self.project_bn(self.project(y * F.hardsigmoid(gate)))
        return self.fc(x.mean(dim=(2, 3)))


class Inception(nn.Module):
    LAYERS: ClassVar = {
        "stem": Is(1),
        "one": Is(2),
        "three_in": Is(2),
        "three": Is(3),
        "pooled": Is(2),
        "fc": Is(4, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 1)
        self.three_in, self.three = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.pooled, self.fc = nn.Conv2d(4, 2, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        branches = [
            self.one(x),
            self.three(F.relu(self.three_in(x))),
            self.pooled(F.max_pool2d(x, 3, stride=1, padding=1)),
        ]
        return self.fc(F.relu(torch.cat(branches, dim=1)).mean(dim=(2, 3)))


class Vit(nn.Module):
    """Patches by a convolution, a class token, PyTorch's own encoder layer."""

    LAYERS: ClassVar = {
        "patches": Is(1),
        "block.self_attn.in_proj": Is(2),
        "block.self_attn": Is(3),
        "block.linear1": Is(4),
        "block.linear2": Is(5),
        "head": Is(6, output=True),
    }
    SAMPLE = (2, 8, 8)
    NORM_FIRST = True

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(
            8, 2, 12, activation="gelu", batch_first=True, norm_first=self.NORM_FIRST
        )
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.block(x))[:, 0])


class VitNormLast(Vit):
    NORM_FIRST = False


class CrossAttention(nn.Module):
    """Keys and values narrower than queries: three matrices, and a scale after the split."""

    LAYERS: ClassVar = {
        "narrow": Is(1),
        "attention.q_proj": Is(1),
        "attention.k_proj": Is(2),
        "attention.v_proj": Is(2),
        "attention": Is(3),
        "head": Is(4, output=True),
    }
    SAMPLE = (5, 8)

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.head = nn.Linear(8, 6), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.narrow(x)
        return self.head(torch.tanh(self.attention(x, y, y)[0]).mean(1))


class Bert(nn.Module):
    """Token ids, an embedding, attention written by hand."""

    LAYERS: ClassVar = {
        "q": Is(1),
        "k": Is(1),
        "v": Is(1),
        "o": Is(2),
        "up": Is(3),
        "down": Is(4),
        "head": Is(5, output=True),
    }
    SAMPLE = (6,)
    TOKENS = 11

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(self.TOKENS, 8)
        self.position = nn.Parameter(torch.randn(6, 8))
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.position
        n, length, width = x.shape
        q, k, v = (
            layer(x).view(n, length, 2, width // 2).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // 2), dim=-1)
        x = self.norm1(x + self.o((weights @ v).transpose(1, 2).reshape(n, length, width)))
        x = self.norm2(x + self.down(F.gelu(self.up(x))))
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    """What is inside LSTM and GRU is not seen; the linear layers around them are."""

    LAYERS: ClassVar = {"before": Is(1), "between": Is(2), "after": Is(3, output=True)}
    SAMPLE = (5, 4)

    def __init__(self) -> None:
        super().__init__()
        self.before, self.lstm = nn.Linear(4, 6), nn.LSTM(6, 7, batch_first=True)
        self.between, self.gru = nn.Linear(7, 6), nn.GRU(6, 5, batch_first=True)
        self.after = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.lstm(torch.relu(self.before(x)))
        x, _ = self.gru(torch.relu(self.between(x)))
        return self.after(x[:, -1])


class RootMeanSquare(nn.Module):
    """As it is written where there is no module for it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Normalized(nn.Module):
    """Each normalisation between a linear layer and its nonlinearity."""

    LAYERS: ClassVar = {
        "c1": Is(1, "group"),
        "c2": Is(2, "instance"),
        "f1": Is(3, "layer"),
        "f2": Is(4, "root"),
        "f3": Is(5, output=True),
    }
    SAMPLE = (2, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.group = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)
        self.c2, self.instance = nn.Conv2d(4, 3, 2), nn.InstanceNorm2d(3, affine=True)
        self.f1, self.layer = nn.Linear(27, 9, bias=False), nn.LayerNorm(9)
        self.f2, self.root = nn.Linear(9, 8), RootMeanSquare(8)
        self.f3 = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.group(self.c1(x)))
        x = torch.relu(self.instance(self.c2(x))).flatten(1)
        x = torch.relu(self.layer(self.f1(x)))
        return self.f3(torch.relu(self.root(self.f2(x))))


class Activated(nn.Module):
    """Nonlinearities that exporters write in several nodes, some without an operator of ONNX."""

    LAYERS: ClassVar = {f"f{i}": Is(i, output=i == 10) for i in range(1, 11)}
    SAMPLE = (7,)

    def __init__(self) -> None:
        super().__init__()
        for i in range(1, 11):
            self.add_module(f"f{i}", nn.Linear(7, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functions: list[Callable[[torch.Tensor], torch.Tensor]] = [
            F.silu,
            F.gelu,
            lambda z: F.gelu(z, approximate="tanh"),
            F.hardswish,
            F.mish,
            lambda z: z * F.relu6(z + 3) / 6,
            lambda z: F.relu6(z + 3) / 6,
            lambda z: z * torch.sigmoid(1.702 * z),
            lambda z: z * z,
        ]
        *hidden, last = self.children()
        for layer, function in zip(hidden, functions, strict=True):
            x = function(layer(x))
        return torch.sigmoid(last(x))


NETWORKS = (
    Vgg,
    Resnet,
    Densenet,
    Mobilenet,
    Inception,
    Vit,
    VitNormLast,
    CrossAttention,
    Bert,
    Recurrent,
    Normalized,
    Activated,
)
_PRESERVED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
EXPORTS: dict[str, dict[str, Any]] = {
    "legacy": {"dynamo": False},
    "legacy opset 14": {"dynamo": False, "opset_version": 14},
    "legacy preserved": {"dynamo": False, **_PRESERVED},
    "dynamo": {"dynamo": True},
    "dynamo not optimized": {"dynamo": True, "optimize": False},
}
CASES = [
    *[(network, "legacy") for network in NETWORKS],
    *[(network, "dynamo") for network in (Resnet, Bert, CrossAttention)],
    *[(network, "legacy opset 14") for network in (VitNormLast, Bert, Normalized, Activated)],
    *[(network, "legacy preserved") for network in (Resnet, Densenet, Bert)],
    (Normalized, "dynamo not optimized"),
]


@pytest.mark.parametrize(
    ("kind", "way"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_layers_are_the_modules(kind: type[nn.Module], way: str, tmp_path: Path) -> None:
    network, x = made(kind)
    path = tmp_path / "model.onnx"
    exported(network, kind.SAMPLE, path, dtype=x.dtype, **EXPORTS[way])
    store = dumped(path, x.numpy(), tmp_path / "dump")
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    assert_layers(store, truths(network, x, folded="BatchNormalization" not in operators))


class Quantisable(nn.Module):
    """A residual sum around a convolution, nonlinearities that can be left out and one that not."""

    LAYERS: ClassVar = {
        "c1": Is(1, "b1"),
        "c2": Is(2),
        "depthwise": Is(3),
        "f1": Is(4),
        "f2": Is(5, output=True),
    }
    SAMPLE = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.f1, self.f2 = nn.Linear(64, 12), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.b1(self.c1(x)))
        x = F.relu(x + self.c2(x))
        x = F.max_pool2d(F.relu6(self.depthwise(x)), 2).flatten(1)
        return torch.softmax(self.f2(torch.tanh(self.f1(x))), dim=1)


class Samples(CalibrationDataReader):
    def __init__(self, x: np.ndarray) -> None:
        self.batches = iter([{"x": x}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


class Quantised(NamedTuple):
    """A float model, and what hooks on it saw."""

    model: Path
    x: np.ndarray
    truths: list[Truth]


@pytest.fixture
def quantisable(tmp_path: Path) -> Quantised:
    network, x = made(Quantisable)
    path = exported(network, Quantisable.SAMPLE, tmp_path / "float.onnx", dynamo=False)
    return Quantised(path, x.numpy(), truths(network, x, folded=True))


def test_quantise_and_dequantise(quantisable: Quantised, tmp_path: Path) -> None:
    path = tmp_path / "qdq.onnx"
    quantize_static(quantisable.model, path, Samples(quantisable.x), quant_format=QuantFormat.QDQ)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert "Relu" not in operators  # left out: the quantisation after it clips at zero
    assert "Clip" not in operators
    store = dumped(path, quantisable.x, tmp_path / "dump")
    assert_layers(store, quantisable.truths, error=0.1)


def test_dynamic_quantisation(quantisable: Quantised, tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    # Seven bits: sums of products of eight saturate on processors without VNNI.
    quantize_dynamic(quantisable.model, path, reduce_range=True)
    store = dumped(path, quantisable.x, tmp_path / "dump")
    assert [r.operator for r in store.layers] == ["ConvInteger"] * 3 + ["MatMulInteger"] * 2
    assert_layers(store, quantisable.truths, error=0.1)

    fused = optimised(path, tmp_path / "fused.onnx", "ALL")
    store = dumped(fused, quantisable.x, tmp_path / "fused")
    assert [r.operator for r in store.layers][3:] == ["DynamicQuantizeMatMul"] * 2
    assert_layers(store, quantisable.truths, error=0.1)


def test_quantised_operators(quantisable: Quantised, tmp_path: Path) -> None:
    path = tmp_path / "operators.onnx"
    quantize_static(
        quantisable.model, path, Samples(quantisable.x), quant_format=QuantFormat.QOperator
    )
    store = dumped(path, quantisable.x, tmp_path / "dump")
    found = store.layers
    # the Relu after the first and the third convolution is part of their quantisation
    assert [record.operator for record in found] == [
        "QLinearConv+Relu",
        "QLinearConv",
        "QLinearConv+Relu",
        "QGemm",
        "QGemm",
    ]
    assert [record.path for record in found] == [1, 2, 3, 4, 5]
    # behind the last layer there is a QLinearSoftmax
    assert [record.output for record in found] == [False] * 4 + [True]
    assert not any(record.shortcut for record in found)
    # f1's codes are made values for the Tanh; before, there are codes alone, which have no sum
    (split,) = store.splits.values()
    truth = quantisable.truths[3].linear
    for name in (found[3].linear, found[3].preactivation):
        off = split.activations(name)[:] - truth
        assert np.sqrt(np.mean(off**2)) < 0.1 * truth.std()
    with pytest.raises(MetricError, match="quantised codes"):
        cnatool.score(store.path)


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
def test_fused_activations_are_named(quantisable: Quantised, level: str, tmp_path: Path) -> None:
    path = optimised(quantisable.model, tmp_path / "fused.onnx", level)
    store = dumped(path, quantisable.x, tmp_path / "dump")
    operators = [record.operator for record in store.layers]
    assert [operator.partition("+")[2] for operator in operators] in (
        ["Relu", "", "Clip", "Tanh", ""],
        # the residual sum as well
        ["Relu", "Add+Relu", "Clip", "Tanh", ""],
    )
    assert [record.path for record in store.layers] == [1, 2, 3, 4, 5]
    assert [record.output for record in store.layers] == [False] * 4 + [True]
    assert not any(record.shortcut for record in store.layers)
    (split,) = store.splits.values()
    tanh = split.activations(store.layers[3].preactivation)[:]
    np.testing.assert_allclose(tanh, np.tanh(quantisable.truths[3].linear), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
def test_optimised_residual_network(level: str, tmp_path: Path) -> None:
    network, _ = made(Resnet)
    path = exported(network, Resnet.SAMPLE, tmp_path / "float.onnx", dynamo=False)
    found = find_layers(load_graph(optimised(path, tmp_path / "fused.onnx", level))).layers
    # The runtime may put the projection before the path that it goes around.
    assert sorted(record.path for record in found) == [1, 2, 3, 4, 4, 5, 6, 7]
    assert [record.path for record in found if record.shortcut] == [4]
    assert [record.path for record in found if record.output] == [7]


def test_four_bit_weights(tmp_path: Path) -> None:
    quantizer = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    network, x = made(Bert)
    path = exported(network, Bert.SAMPLE, tmp_path / "float.onnx", dtype=x.dtype, dynamo=False)
    work = quantizer.MatMulNBitsQuantizer(onnx.load(path), block_size=16)
    work.process()
    packed = tmp_path / "packed.onnx"
    work.model.save_model_to_file(str(packed))
    store = dumped(packed, x.numpy(), tmp_path / "dump")
    assert [r.operator for r in store.layers] == ["MatMulNBits"] * 6 + ["Gemm"]
    assert_layers(store, truths(network, x, folded=True), error=0.4)


def optimised(model: Path, path: Path, level: str) -> Path:
    """Let ONNX Runtime write what it makes of a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return path


def made(kind: type[nn.Module]) -> tuple[nn.Module, torch.Tensor]:
    """Make a network whose normalisations scale and shift, and samples for it."""
    torch.manual_seed(4)
    network = kind()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            # Else a bias or a scale that is lost on the way would not show.
            offset = 0.0 if name.endswith("bias") else 1.0
            nn.init.normal_(parameter, offset, 0.3)
    if hasattr(kind, "TOKENS"):
        return network.eval(), torch.randint(0, kind.TOKENS, (ROWS, *kind.SAMPLE))
    x = torch.randn(ROWS, *kind.SAMPLE)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        with torch.no_grad():
            for _ in range(10):
                network(torch.randn(16, *kind.SAMPLE))
    return network.eval(), x


def truths(network: nn.Module, x: torch.Tensor, *, folded: bool) -> list[Truth]:
    """Run a network under hooks; the order is that in which the linear modules ran."""
    seen: dict[str, np.ndarray] = {}

    def hook(name: str) -> Callable[..., None]:
        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(module, nn.MultiheadAttention):
                # It multiplies by its weights without a module of their own.
                weights = {"in_proj": module.in_proj_weight}
                biases = [module.in_proj_bias]
                if module.in_proj_weight is None:
                    weights = {f"{x}_proj": getattr(module, f"{x}_proj_weight") for x in "qkv"}
                    biases = module.in_proj_bias.chunk(3)
                for (part, weight), bias, x in zip(weights.items(), biases, inputs, strict=False):
                    seen[f"{name}.{part}"] = F.linear(x, weight, bias).detach().numpy()
            result = output[0] if isinstance(output, tuple) else output
            seen[name] = result.detach().numpy()

        return see

    hooks = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    # With gradients, or an encoder layer would take a way on which its modules do not run.
    network(x)
    for handle in hooks:
        handle.remove()
    layers: dict[str, Is] = network.LAYERS
    normalized = {name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return [
        Truth(
            name,
            seen[layers[name].follows if folded and layers[name].follows in normalized else name],
            seen[layers[name].follows or name],
            layers[name].path,
            layers[name].output,
            layers[name].shortcut,
        )
        for name in seen
        if name in layers
    ]
