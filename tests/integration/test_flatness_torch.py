"""Flatness of networks that PyTorch trained, against the same search written in PyTorch."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
from support.mnist import Mlp, exported, images, labels, needs_mnist, nn, torch, trained

import cnatool
from cnatool.records.weights import NoiseRecord

SAMPLES, DRAWS, SEED, EPSILON = 500, 4, 3, 1e-3

# What exporters warn of is theirs.
pytestmark = [
    needs_mnist,
    *(
        pytest.mark.filterwarnings(f"ignore::{name}")
        for name in ("DeprecationWarning", "FutureWarning", "UserWarning")
    ),
]


class Convnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 3, 2, 1, bias=False)
        self.last = nn.Linear(12 * 49, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.flatten(torch.relu(self.second(x)), 1))


def learnt_convnet() -> Convnet:
    torch.manual_seed(0)
    network = Convnet()
    x = torch.from_numpy(images("train")[:, None] / np.float32(255))
    y = torch.from_numpy(labels("train"))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for rows in torch.randperm(len(x))[:19_200].split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, sigma: float, epsilon: float | None
) -> float:
    """Mean accuracy over the draws; the noise is NumPy's, a generator a draw."""
    hits = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([SEED, draw])
        noisy = copy.deepcopy(network)
        for module in noisy.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                w = module.weight
                z = torch.from_numpy(rng.standard_normal(tuple(w.shape), np.float32))
                w += z * (sigma if epsilon is None else (sigma**2 * w**2 + epsilon**2).sqrt())
        hits.append((noisy(x).argmax(1) == y).double().mean().item())
    return float(np.mean(hits))


def searched(network: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float | None) -> float:
    """Bisect σ itself to a thousandth, from where accuracy is lost: doubled until then."""
    lost = accuracy(network, x, y, 0, None) - 0.1
    high = 1e-3
    while accuracy(network, x, y, high, epsilon) >= lost:
        high *= 2
    low = high / 2
    while high / low > 1.001:
        middle = (low + high) / 2
        if accuracy(network, x, y, middle, epsilon) >= lost:
            low = middle
        else:
            high = middle
    return low


@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_the_search_is_that_of_pytorch(tmp_path: Path, kind: str) -> None:
    network: nn.Module
    if kind == "mlp":
        points = trained([0, 400], 784, 100, 60, 10)
        network, before = points[400], points[0]
        shape: tuple[int, ...] = (784,)
    else:
        network, before, shape = learnt_convnet(), None, (1, 28, 28)
    pixels = images("train")[:SAMPLES].reshape(-1, *shape)
    # A convnet with its BatchNormalization in the file: exporters that fold it give other weights.
    options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    net = exported(network, shape, tmp_path / "net.onnx", dynamo=False, **options)
    initial = None
    if before is not None:
        initial = exported(before, shape, tmp_path / "first.onnx", dynamo=False, **options)
    np.savez(tmp_path / "train.npz", x=pixels, y=labels("train")[:SAMPLES])
    found = cnatool.dump(
        net,
        splits={"train": tmp_path / "train.npz"},
        store=tmp_path / "s.zarr",
        initial_model=initial,
        flatness=cnatool.Flatness(SAMPLES, DRAWS, 0.1, SEED),
        keep="statistics",
    ).record.flatness
    assert found is not None
    x, y = torch.from_numpy(pixels / np.float32(255)), torch.from_numpy(labels("train")[:SAMPLES])
    assert found.accuracy == pytest.approx(accuracy(network, x, y, 0, None))
    assert found.accuracy > 0.85
    for noise, epsilon in ((found.plain, None), (found.magnitude, EPSILON)):
        assert isinstance(noise, NoiseRecord)
        assert noise.sigma is not None
        assert noise.accuracy == pytest.approx(
            accuracy(network, x, y, noise.sigma, epsilon), abs=1e-3
        )
        # Both ends of both searches lie half a percent apart or less.
        assert noise.sigma == pytest.approx(searched(network, x, y, epsilon), rel=0.01)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    flat = torch.cat([w.detach().double().reshape(-1) for w in weights])
    assert found.weights == flat.numel()
    assert found.square_sum == pytest.approx(float(flat @ flat))
    if isinstance(before, Mlp):
        assert found.magnitude is not None
        assert found.magnitude.sigma is not None
        old = [m.weight for m in before.modules() if isinstance(m, nn.Linear)]
        moved = flat - torch.cat([w.detach().double().reshape(-1) for w in old])
        logs = torch.log(EPSILON**2 + found.magnitude.sigma**2 * moved**2).sum()
        assert found.distance_square_sum == pytest.approx(float(moved @ moved))
        assert found.distance_log_sum == pytest.approx(float(logs))
        assert math.isfinite(float(logs))
