"""Norms of networks that PyTorch exported, against torch.linalg and a pass of squared weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
from support.mnist import exported, nn, torch

from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import measure_weights

F = torch.nn.functional

# What exporters warn of is theirs; what comes out is compared.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("DeprecationWarning", "FutureWarning", "UserWarning", "torch.jit.TracerWarning")
]


class Perceptron(nn.Module):
    SAMPLE = (1, 6, 6)
    NORMALISED = ()
    LAYERS = ("first", "second", "third")

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(36, 20), nn.Linear(20, 12, bias=False)
        self.third = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(torch.flatten(x, 1)))
        return torch.softmax(self.third(F.relu(self.second(x))), 1)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(torch.flatten(x, 1)))
        return self.third(F.relu(self.second(x)))


class Convnet(nn.Module):
    SAMPLE = (2, 12, 12)
    NORMALISED = (("c1", "n1"), ("c2", "n2"), ("c3", "n3"))
    LAYERS = ("c1", "c2", "c3", "fc")

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.c2, self.n2 = nn.Conv2d(6, 8, 3, 2, bias=False), nn.BatchNorm2d(8)
        self.c3, self.n3 = nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 9, 5)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.n1(self.c1(x))), 3, 2, 1)
        x = F.leaky_relu(self.n2(self.c2(x)), 0.1)
        x = F.avg_pool2d(F.relu(self.n3(self.c3(x))), 2, 1, 1)
        return self.fc(torch.flatten(x, 1))

    forward = scores


class Residual(nn.Module):
    """Depthwise, grouped and transposed convolutions, an identity and a projection."""

    SAMPLE = (3, 16, 16)
    NORMALISED = (("stem", "stem_n"), ("a", "a_n"), ("b", "b_n"), ("c", "c_n"), ("down", "down_n"))
    LAYERS = ("stem", "a", "b", "c", "down", "up", "fc")

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_n = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.a, self.a_n = nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8)
        self.b, self.b_n = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.c, self.c_n = nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.down, self.down_n = nn.Conv2d(8, 12, 1, 2, bias=False), nn.BatchNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1, groups=3)
        self.fc = nn.Linear(6, 5)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_n(self.stem(x)))
        x = F.relu(self.b_n(self.b(F.relu(self.a_n(self.a(x))))) + x)
        x = F.relu(self.c_n(self.c(x)) + self.down_n(self.down(x)))
        x = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = F.adaptive_avg_pool2d(F.relu(self.up(x)), 1)
        return self.fc(torch.flatten(x, 1))

    forward = scores


def network(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    made = kind()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return made.eval()


def without_normalisation(model: nn.Module) -> nn.Module:
    """Fold as PyTorch does, in float64."""
    folded = copy.deepcopy(model).double()
    for convolution, normalisation in model.NORMALISED:
        fused = torch.nn.utils.fuse_conv_bn_eval(
            getattr(folded, convolution), getattr(folded, normalisation)
        )
        setattr(folded, convolution, fused)
        setattr(folded, normalisation, nn.Identity())
    return folded


def matrix(module: nn.Module) -> torch.Tensor:
    """The weights as (out, in·kh·kw), block-diagonal for groups."""
    weight = module.weight.detach()
    if isinstance(module, nn.ConvTranspose2d):
        parts = [part.transpose(0, 1) for part in weight.chunk(module.groups)]
    else:
        parts = list(weight.chunk(getattr(module, "groups", 1)))
    return torch.block_diag(*[part.reshape(part.shape[0], -1) for part in parts])


EXPORTS = {
    "folded": {"dynamo": False},
    "unfolded": {
        "dynamo": False,
        "training": torch.onnx.TrainingMode.PRESERVE,
        "do_constant_folding": False,
    },
    "dynamo": {"dynamo": True},
}


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("kind", [Perceptron, Convnet, Residual])
def test_norms_are_those_of_torch(kind: type[nn.Module], export: str, tmp_path: Path) -> None:
    model = network(kind)
    path = exported(model, kind.SAMPLE, tmp_path / "net.onnx", **EXPORTS[export])
    graph = open_network(path)
    normalised = [node.op_type for node in graph.graph.nodes].count("BatchNormalization")
    if export != "dynamo":
        assert normalised == (len(kind.NORMALISED) if export == "unfolded" else 0)
    found = measure_weights(graph, [], (1, *kind.SAMPLE))

    folded = without_normalisation(model)
    weights = [matrix(getattr(folded, name)) for name in kind.LAYERS]
    for layer, truth in zip(found.layers, weights, strict=True):
        assert layer.shape == tuple(truth.shape)
        assert layer.frobenius == pytest.approx(torch.linalg.norm(truth).item(), rel=1e-6)
        largest = torch.linalg.matrix_norm(truth, 2).item()
        assert layer.spectral == pytest.approx(largest, rel=1e-6)
        assert layer.absolute_sum == pytest.approx(truth.abs().sum().item(), rel=1e-6)
    assert found.parameters == sum(value.numel() for value in folded.parameters())
    with torch.no_grad():
        for value in folded.parameters():
            value.square_()
        total = folded.scores(torch.ones(1, *kind.SAMPLE, dtype=torch.float64)).sum().item()
    assert found.log_path_norm == pytest.approx(0.5 * math.log(total), abs=1e-6)
