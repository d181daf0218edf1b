"""Dumps of networks that PyTorch exported, against what forward hooks on the network see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.stats
from support.mnist import Mlp, exported, nn, torch

import cnatool

ROWS = {"train": 300, "test": 200}
CONVENTIONS = ("paper", "reference", "legacy")
QUICK = {"resamples": 0, "area_resamples": 0, "permutations": 0}


class Convnet(nn.Module):
    """Two convolutions with BatchNorm, the second without a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 49, 20)
        self.fc2 = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """A stem, an identity block, and a block with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.a1, self.a1_bn = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a2, self.a2_bn = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.b1, self.b1_bn = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.b2, self.b2_bn = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.down, self.down_bn = nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_bn(self.stem(x)))
        branch = self.a2_bn(self.a2(torch.relu(self.a1_bn(self.a1(x)))))
        x = torch.relu(x + branch)
        branch = self.b2_bn(self.b2(torch.relu(self.b1_bn(self.b1(x)))))
        x = torch.relu(branch + self.down_bn(self.down(x)))
        return self.fc(x.mean(dim=(2, 3)))


# Linear modules in the order in which they run, each with the module whose result enters the
# nonlinearity or the addition.
NETWORKS = {
    "mlp": (
        partial(Mlp, 784, 60, 50, 40, 10),
        {"fc1": "fc1", "fc2": "fc2", "fc3": "fc3", "fc4": "fc4"},
    ),
    "convnet": (
        Convnet,
        {"conv1": "bn1", "conv2": "bn2", "fc1": "fc1", "fc2": "fc2"},
    ),
    "residual": (
        Residual,
        {
            **{name: f"{name}_bn" for name in ("stem", "a1", "a2", "b1", "b2", "down")},
            "fc": "fc",
        },
    ),
}
SHORTCUT = "down"

_PRESERVED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
EXPORTS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "mlp legacy": ("mlp", False, {}),
    "mlp dynamo": ("mlp", True, {}),
    "convnet legacy": ("convnet", False, {}),
    "convnet legacy preserved": ("convnet", False, _PRESERVED),
    "convnet dynamo": ("convnet", True, {}),
    "convnet dynamo not optimized": ("convnet", True, {"optimize": False}),
    "residual legacy": ("residual", False, {}),
    "residual legacy preserved": ("residual", False, _PRESERVED),
    "residual dynamo": ("residual", True, {}),
}
# Exports that agree in what they do with BatchNorm.
PAIRS = [
    ("mlp legacy", "mlp dynamo"),
    ("convnet legacy", "convnet dynamo"),
    ("convnet legacy preserved", "convnet dynamo not optimized"),
    ("residual legacy", "residual dynamo"),
]


@dataclass(frozen=True)
class Exported:
    """A store of an exported network, and what hooks on the network saw of the same images."""

    store: Path
    folded: bool  # no BatchNorm is left: a convolution gives what BatchNorm gave
    modules: dict[str, str]
    seen: dict[str, dict[str, np.ndarray]]  # split, module
    outputs: dict[str, torch.Tensor]
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    def hooked(self, rule: str, *, output: bool = True, shortcut: bool = True) -> list[str]:
        """Name the modules whose results are the layers under a rule."""
        *hidden, last = self.modules
        counted = [*hidden, last] if output else hidden
        return [
            self.modules[name] if rule == "preactivation" or self.folded else name
            for name in counted
            if shortcut or name != SHORTCUT
        ]


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("hooks")
    images, labels = _data(folder / "data")
    found = {}
    networks = {name: _network(name) for name in NETWORKS}
    for key, (name, dynamo, options) in EXPORTS.items():
        network = networks[name]
        sample = (784,) if name == "mlp" else (1, 28, 28)
        path = exported(network, sample, folder / f"{key}.onnx", dynamo=dynamo, **options)
        operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
        seen, outputs = {}, {}
        for split, x in images.items():
            seen[split], outputs[split] = _hooked(network, x.reshape(-1, *sample))
        store = folder / f"{key}.zarr"
        cnatool.dump(path, folder / "data", store, batch_size=64)
        found[key] = Exported(
            store,
            "BatchNormalization" not in operators,
            NETWORKS[name][1],
            seen,
            outputs,
            images,
            labels,
        )
    return found


@pytest.mark.parametrize("rule", ["linear", "preactivation"])
@pytest.mark.parametrize("key", EXPORTS)
def test_layers_are_what_hooks_see(key: str, rule: str, every: dict[str, Exported]) -> None:
    case = every[key]
    overrides = {"layers": rule, "include_output": "true"}
    modules = case.hooked(rule)
    layers = cnatool.score(case.store, overrides=overrides).layers
    store = cnatool.open(case.store)
    assert len(layers) == len(modules)
    for name in ROWS:
        split = store.splits[name]
        sums = split.statistics("sum")[:]
        for layer, module in zip(layers, modules, strict=True):
            truth = case.seen[name][module]
            atol = 1e-5 * np.abs(truth).max()
            stored = split.activations(layer.name)[:]
            np.testing.assert_allclose(stored, truth, rtol=1e-4, atol=atol, err_msg=module)
            flat = truth.reshape(len(truth), -1).astype(np.float64)
            error = np.abs(sums[:, store.tensor(layer.name).number] - flat.sum(axis=1))
            # What cancels in a sum leaves the rounding of its terms.
            assert (error <= 1e-5 * np.abs(flat).sum(axis=1)).all(), module


def test_batch_norm_was_folded_and_was_not(every: dict[str, Exported]) -> None:
    # Else the test above would see one of the two only.
    assert every["convnet legacy"].folded
    assert not every["convnet legacy preserved"].folded
    assert not every["residual legacy preserved"].folded
    case = every["convnet legacy preserved"]
    assert case.hooked("linear") != case.hooked("preactivation")


@pytest.mark.parametrize("key", ["residual legacy", "residual legacy preserved", "residual dynamo"])
def test_the_projection_is_found(key: str, every: dict[str, Exported]) -> None:
    case = every[key]
    store = cnatool.open(case.store)
    assert [layer.shortcut for layer in store.layers] == [name == SHORTCUT for name in case.modules]
    assert [layer.output for layer in store.layers] == [name == "fc" for name in case.modules]
    assert [layer.path for layer in store.layers] == [1, 2, 3, 4, 5, 4, 6]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("key", EXPORTS)
def test_scores_from_hooks(key: str, convention: str, every: dict[str, Exported]) -> None:
    case = every[key]
    legacy = convention == "legacy"
    rule = "linear" if convention == "reference" else "preactivation"
    modules = case.hooked(rule, output=legacy, shortcut=not legacy)
    result = cnatool.score(case.store, convention=convention, overrides=QUICK)
    frame = cnatool.score_samples(case.store, convention=convention)
    for split in ROWS:
        rows = frame.filter(frame["split"] == split)
        z = np.stack([_z(case.seen[split][module], legacy=legacy) for module in modules])
        depths = np.arange(1, len(modules) + 1)
        beta = np.polyfit(depths, z, 1)[0]
        points = np.stack([depths, np.ones(len(depths))], axis=1)
        np.testing.assert_allclose(np.linalg.lstsq(points, z, rcond=None)[0][0], beta, rtol=1e-9)
        atol = 1e-5 * np.abs(z).max()
        np.testing.assert_allclose(rows["beta"], beta, rtol=1e-4, atol=atol)
        alpha = np.array([_alpha(image, convention) for image in case.images[split]])
        np.testing.assert_allclose(rows["alpha"], alpha, rtol=1e-9)
        expected = scipy.stats.pearsonr(alpha, beta)
        found = result.splits[split]
        assert found.coefficients.pearson.value == pytest.approx(expected.statistic, abs=2e-5)
        if legacy:
            assert found.cna.value == pytest.approx(_smoothed(alpha, beta), abs=2e-5)
            assert found.cna.fisher is None
            continue
        assert found.cna.value == found.coefficients.pearson.value
        interval = expected.confidence_interval(0.95)
        assert found.cna.fisher == pytest.approx((interval.low, interval.high), abs=2e-5)


@pytest.mark.parametrize("key", EXPORTS)
def test_performance_is_torchs(key: str, every: dict[str, Exported]) -> None:
    case = every[key]
    results = {
        name: cnatool.score(case.store, convention=name, overrides=QUICK) for name in CONVENTIONS
    }
    frame = cnatool.score_samples(case.store)
    accuracy, loss = {}, {}
    for split in ROWS:
        y, outputs = torch.from_numpy(case.labels[split]), case.outputs[split]
        predicted = outputs.argmax(dim=1)
        accuracy[split] = (predicted == y).double().mean().item()
        loss[split] = nn.functional.cross_entropy(outputs.double(), y).item()
        rows = frame.filter(frame["split"] == split)
        np.testing.assert_array_equal(rows["prediction"], predicted.numpy())
        for result in results.values():
            found = result.splits[split]
            assert found.outputs == "logits"
            assert found.accuracy == pytest.approx(accuracy[split], rel=1e-12)
            assert found.loss == pytest.approx(loss[split], rel=1e-5)
    gap = accuracy["train"] - accuracy["test"]
    assert results["paper"].gap.value == pytest.approx(gap, abs=1e-12)
    for name in ("reference", "legacy"):
        gap = abs(loss["train"] - loss["test"])
        assert results[name].gap.value == pytest.approx(gap, abs=1e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_exporters_agree(one: str, other: str, convention: str, every: dict[str, Exported]) -> None:
    assert every[one].folded == every[other].folded
    first, second = (
        cnatool.score(every[k].store, convention=convention, overrides=QUICK) for k in (one, other)
    )
    assert [layer.depth for layer in first.layers] == [layer.depth for layer in second.layers]
    for split in ROWS:
        a, b = first.splits[split], second.splits[split]
        assert a.accuracy == b.accuracy
        assert a.alpha == b.alpha
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.cna.value == pytest.approx(b.cna.value, abs=2e-5)
        for word in ("mean", "std", "min", "max"):
            found, expected = getattr(a.beta, word), getattr(b.beta, word)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5 * b.beta.std)
    assert first.gap.value == pytest.approx(second.gap.value, abs=1e-5)
    assert first.margin.value == pytest.approx(second.margin.value, rel=1e-4)
    if convention == "paper":
        assert first.cna_area.value == pytest.approx(second.cna_area.value, rel=1e-4)
        assert first.cna_margin.value == pytest.approx(second.cna_margin.value, rel=2e-4)
    else:
        # The reference area interpolates α between neighbours in β, however close they are: it
        # makes percents of what differs by rounding.
        assert first.cna_area.value == pytest.approx(second.cna_area.value, abs=0.01)


def _data(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Images of 2 to 256 levels, so that their complexity differs, and their labels."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    images, labels = {}, {}
    for name, rows in ROWS.items():
        levels = rng.integers(2, 257, (rows, 1, 1))
        x = rng.integers(0, levels, (rows, 28, 28)) * 255 // (levels - 1)
        images[name] = x.astype(np.uint8)
        labels[name] = rng.integers(0, 10, rows)
        np.savez_compressed(folder / f"{name}.npz", x=images[name], y=labels[name])
    return images, labels


def _network(name: str) -> nn.Module:
    """Make a network whose BatchNorm has seen data and scales and shifts for itself."""
    torch.manual_seed(3)
    network = NETWORKS[name][0]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    if name != "mlp":
        network.train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.rand(32, 1, 28, 28))
    return network.eval()


def _hooked(network: nn.Module, x: np.ndarray) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Run a network on raw images as it was trained to see them; give every module's result."""
    seen: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: output.numpy()})
        )
        for name, module in network.named_children()
    ]
    with torch.no_grad():
        outputs = network(torch.from_numpy(x.astype(np.float32) / np.float32(255)))
    for hook in hooks:
        hook.remove()
    return seen, outputs


def _z(values: np.ndarray, *, legacy: bool) -> np.ndarray:
    """Sum in float64; the legacy code first averages over the channels of what has any."""
    values = values.astype(np.float64)
    if legacy and values.ndim == 4:
        values = values.mean(axis=1)
    return values.reshape(len(values), -1).sum(axis=1)


def _smoothed(alpha: np.ndarray, beta: np.ndarray) -> float:
    """Correlate running means over 25 samples by rising α; equal α have their mean β."""
    beta = np.array([beta[alpha == value].mean() for value in alpha])
    order = np.argsort(alpha, kind="stable")
    curves = [np.convolve(one[order], np.full(25, 1 / 25), "valid") for one in (alpha, beta)]
    return scipy.stats.pearsonr(*curves).statistic


def _alpha(image: np.ndarray, convention: str) -> float:
    if convention == "paper":
        return scipy.stats.entropy(np.histogram(image, 256, (0, 255))[0], base=2)
    d, _ = np.histogram(image.astype(np.float32) / np.float32(255), 1000, (0, 1), density=True)
    return -np.sum(d[d > 0] * np.log2(d[d > 0]))
