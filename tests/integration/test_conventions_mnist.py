"""Every number of a score on MNIST networks, against docs/metrics.md written out a second time.

What is here follows the text of docs/metrics.md word by word, in loops, and shares nothing with the
package: images and labels come from the IDX files, activations from the Zarr arrays or from torch.
"""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.special
import scipy.stats
import zarr
from support.mnist import MNIST, Mlp, exported, images, labels, needs_mnist, torch, trained

import cnatool

pytestmark = needs_mnist

SIZES = (784, 100, 100, 100, 10)
STEPS = (0, 30, 1500)
ROWS = 1300  # of each split: no multiple of 128, so that the last batch of a margin is short
SPLITS = ("train", "test")
HIDDEN, LAST = ("fc1", "fc2", "fc3"), "fc4"


@dataclass(frozen=True)
class Settings:
    """The table of docs/metrics.md, section "Conventions", as far as an MLP can tell."""

    alpha: str
    include_output: bool
    area: str
    margin: str
    gap: str
    cna: str = "pearson"
    margin_split: str = "train"


# Nothing here is about intervals but Fisher's.
NONE = {"resamples": "0", "area_resamples": "0", "permutations": "0"}
CONVENTIONS = {
    "paper": Settings("levels", False, "total", "paper", "accuracy"),
    "reference": Settings("density", False, "reference", "reference", "loss"),
    "legacy": Settings("density", True, "reference", "percentile", "loss", "smoothed", "test"),
}
VARIANTS = {
    "paper": ("paper", {}),
    "reference": ("reference", {}),
    "legacy": ("legacy", {}),
    "paper with output": ("paper", {"include_output": "true"}),
    "legacy without output": ("legacy", {"include_output": "false"}),
}


class Point(NamedTuple):
    """A network at one point of its training, and the store made from it."""

    network: Mlp
    store: Path
    names: dict[str, str]  # from torch's modules to tensors


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Point]:
    folder = tmp_path_factory.mktemp("mnist")
    found = {}
    for step, network in trained(STEPS, *SIZES).items():
        modules = [name for name, _ in network.named_children()]
        # The TorchScript exporter names a tensor after its module, and the output as it is told.
        legacy = {name: f"/{name}/Gemm_output_0" for name in modules} | {LAST: "logits"}
        kinds = {f"{step}": (False, legacy)}
        if step == max(STEPS):  # the other takes seconds: at one point it has to do
            dynamo = [f"linear_{i}" if i else "linear" for i in range(len(modules))]
            kinds[f"{step} dynamo"] = (True, dict(zip(modules, dynamo, strict=True)))
        for key, (dynamo, names) in kinds.items():
            path = exported(network, (784,), folder / f"{key}.onnx", dynamo=dynamo)
            store = folder / f"{key}.zarr"
            cnatool.dump(path, MNIST, store, limit=ROWS, tags={"step": str(step)})
            found[key] = Point(network, store, names)
    return found


KEYS = [str(step) for step in STEPS] + [f"{max(STEPS)} dynamo"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("key", KEYS)
def test_every_number_from_the_stored_activations(
    key: str, variant: str, points: dict[str, Point]
) -> None:
    point = points[key]
    result = _score(point, variant)
    settings = _settings(variant)
    expected = _scores(settings, {split: _stored(point, split) for split in SPLITS})
    names = [point.names[module] for module in _layers(settings)]
    assert [layer.name for layer in result.layers] == names
    assert [layer.depth for layer in result.layers] == list(range(1, len(names) + 1))
    _assert_same(result, expected, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("key", KEYS)
def test_every_number_from_the_stored_sums(
    key: str, variant: str, points: dict[str, Point]
) -> None:
    # What comes after z alone: in a test of its own, because the reference area makes percents
    # of what z loses in the eighth digit.
    point = points[key]
    measured = {split: _with_stored_sums(point, split) for split in SPLITS}
    _assert_same(_score(point, variant), _scores(_settings(variant), measured), rel=1e-7)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("step", STEPS)
def test_every_number_from_torch(step: int, convention: str, points: dict[str, Point]) -> None:
    # Another runtime multiplies float32 matrices in another order. The rounding that differs is
    # some 1e-7 of a sum of activations, and more of a slope, in which sums cancel.
    point = points[str(step)]
    result = _score(point, convention)
    settings = CONVENTIONS[convention]
    expected = _scores(settings, {s: _from_torch(point.network, s) for s in SPLITS})
    if settings.area == "reference":
        # It interpolates α between neighbours in β, which may lie closer together than that
        # rounding is large: percents of the area, whatever the precision of what follows. The
        # tests above hold it to the digit.
        assert result.cna_area.value == pytest.approx(expected.pop("area"), abs=0.01)
        assert result.cna_margin.value == result.margin.value * result.cna_area.value
        del expected["cna margin"]
    _assert_same(result, expected, rel=1e-4)


def test_samples_are_those_of_the_files(points: dict[str, Point]) -> None:
    frame = cnatool.score_samples(points["1500"].store)
    for split in SPLITS:
        rows = frame.filter(frame["split"] == split)
        np.testing.assert_array_equal(rows["label"], labels(split)[:ROWS])
        np.testing.assert_allclose(rows["alpha"], _alpha(split, "levels"), rtol=1e-12, atol=1e-12)


def test_training_is_visible(points: dict[str, Point]) -> None:
    # The comparisons above mean little if all networks were alike.
    accuracy = [
        _score(points[str(step)], "paper").splits["test"].accuracy for step in sorted(STEPS)
    ]
    assert accuracy[0] < 0.3
    assert accuracy[-1] > 0.8
    with_output = _score(points["1500"], "paper with output")
    without = _score(points["1500"], "paper")
    difference = with_output.splits["test"].cna.value - without.splits["test"].cna.value
    assert abs(difference) > 0.1


def _score(point: Point, variant: str) -> cnatool.ScoreResult:
    return _scored(point.store, variant)


@cache
def _scored(store: Path, variant: str) -> cnatool.ScoreResult:
    name, overrides = VARIANTS[variant]
    return cnatool.score(store, convention=name, overrides=NONE | overrides)


def _settings(variant: str) -> Settings:
    name, overrides = VARIANTS[variant]
    settings = CONVENTIONS[name]
    if "include_output" in overrides:
        include = overrides["include_output"] == "true"
        return replace(settings, include_output=include)
    return settings


def _layers(settings: Settings) -> tuple[str, ...]:
    return (*HIDDEN, LAST) if settings.include_output else HIDDEN


def _assert_same(result: cnatool.ScoreResult, expected: dict[str, float], *, rel: float) -> None:
    found: dict[str, float | None] = {}
    for name, split in result.splits.items():
        found[f"{name} samples"] = split.samples
        found[f"{name} accuracy"] = split.accuracy
        found[f"{name} loss"] = split.loss
        for letter, values in (("alpha", split.alpha), ("beta", split.beta)):
            for word in ("mean", "std", "min", "max"):
                found[f"{name} {letter} {word}"] = getattr(values, word)
        found[f"{name} cna"] = split.cna.value
        if split.cna.fisher is not None:
            found[f"{name} cna from"], found[f"{name} cna to"] = split.cna.fisher
    found["gap"] = result.gap.value
    found["area"] = result.cna_area.value
    found["margin"] = result.margin.value
    found["cna margin"] = result.cna_margin.value
    wrong = {
        key: (found[key], value)
        for key, value in expected.items()
        if found[key] != pytest.approx(value, rel=rel, abs=1e-12)
    }
    assert not wrong


# What follows is docs/metrics.md a second time.


class Measured(NamedTuple):
    """A split as docs/metrics.md speaks of it: labels y, outputs o, layer tensors z by module."""

    y: np.ndarray
    o: np.ndarray
    z: dict[str, np.ndarray]


def _stored(point: Point, split: str) -> Measured:
    root = zarr.open_group(point.store, mode="r")
    group = root[f"splits/{split}"]
    numbers = {tensor["name"]: tensor["number"] for tensor in _attribute(point)["tensors"]}
    outputs = np.asarray(group["outputs/0"][:])
    z = {LAST: outputs}
    for module in HIDDEN:
        z[module] = np.asarray(group[f"activations/{numbers[point.names[module]]}"][:])
    return Measured(np.asarray(group["labels"][:]), outputs, z)


def _with_stored_sums(point: Point, split: str) -> Measured:
    root = zarr.open_group(point.store, mode="r")
    sums = np.asarray(root[f"splits/{split}/statistics/sum"][:])
    numbers = {tensor["name"]: tensor["number"] for tensor in _attribute(point)["tensors"]}
    z = {module: sums[:, [numbers[name]]] for module, name in point.names.items()}
    return _stored(point, split)._replace(z=z)


def _attribute(point: Point) -> dict[str, Any]:
    return json.loads((point.store / "zarr.json").read_text())["attributes"]["cnatool"]


def _from_torch(network: Mlp, split: str) -> Measured:
    seen: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: output.numpy()})
        )
        for name, module in network.named_children()
    ]
    x = images(split)[:ROWS].reshape(-1, 784) / np.float32(255)
    with torch.no_grad():
        network(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return Measured(labels(split)[:ROWS], seen[LAST], seen)


@cache
def _alpha(split: str, form: str) -> np.ndarray:
    return np.array([_ALPHA[form](image) for image in images(split)[:ROWS]])


def _levels(image: np.ndarray) -> float:
    """−Σ p log2 p over 256 bins of 0 … 255: one bin a level."""
    counts, _ = np.histogram(image, bins=256, range=(0, 255))
    return scipy.stats.entropy(counts, base=2)


def _density(image: np.ndarray) -> float:
    """−Σ d log2 d, d NumPy's density over 1000 bins of [0, 1]; what lies outside is left out."""
    d, _ = np.histogram(
        image.astype(np.float32) / np.float32(255), bins=1000, range=(0, 1), density=True
    )
    return -sum(float(value) * math.log2(value) for value in d if value > 0)


_ALPHA = {"levels": _levels, "density": _density}


def _scores(settings: Settings, splits: dict[str, Measured]) -> dict[str, float]:
    found: dict[str, float] = {}
    points = {}
    for name, measured in splits.items():
        alpha = _alpha(name, settings.alpha)
        beta = _beta([measured.z[module] for module in _layers(settings)])
        points[name] = (alpha, beta)
        found[f"{name} samples"] = len(measured.y)
        found[f"{name} accuracy"] = np.mean(measured.o.argmax(axis=1) == measured.y)
        found[f"{name} loss"] = _loss(measured)
        for letter, values in (("alpha", alpha), ("beta", beta)):
            found[f"{name} {letter} mean"] = math.fsum(values) / len(values)
            found[f"{name} {letter} std"] = values.std()
            found[f"{name} {letter} min"] = min(values)
            found[f"{name} {letter} max"] = max(values)
        if settings.cna == "smoothed":
            a, b = zip(*_smoothed(alpha, beta), strict=True)
            found[f"{name} cna"] = scipy.stats.pearsonr(a, b).statistic
            continue
        correlation = scipy.stats.pearsonr(alpha, beta)
        found[f"{name} cna"] = correlation.statistic
        interval = correlation.confidence_interval(0.95)  # Fisher's
        found[f"{name} cna from"], found[f"{name} cna to"] = interval.low, interval.high
    found["gap"] = {
        "accuracy": found["train accuracy"] - found["test accuracy"],
        "loss": abs(found["train loss"] - found["test loss"]),
    }[settings.gap]
    found["area"] = _AREA[settings.area](*_curves(points["train"], points["test"]))
    found["margin"] = _MARGIN[settings.margin](splits[settings.margin_split])
    found["cna margin"] = found["margin"] * found["area"]
    return found


def _beta(layers: list[np.ndarray]) -> np.ndarray:
    """The slope of the points (d, z_d), d = 1 … L, z_d the sum over all elements."""
    d = np.arange(1, len(layers) + 1)
    z = [z_d.reshape(len(z_d), -1).astype(np.float64).sum(axis=1) for z_d in layers]
    return np.polyfit(d, z, 1)[0]


def _loss(measured: Measured) -> float:
    log_p = scipy.special.log_softmax(measured.o.astype(np.float64), axis=1)
    return -math.fsum(row[y] for row, y in zip(log_p, measured.y, strict=True)) / len(log_p)


def _smoothed(alpha: np.ndarray, beta: np.ndarray) -> list[tuple[float, float]]:
    """Sort by α and take running means over 25; samples of equal α count with their mean β."""
    beta = np.array([np.mean(beta[alpha == value]) for value in alpha])
    rows = sorted(range(len(alpha)), key=lambda row: alpha[row])
    curve = []
    for start in range(len(rows) - 24):
        window = rows[start : start + 25]
        a = math.fsum(alpha[row] for row in window) / 25
        b = math.fsum(beta[row] for row in window) / 25
        curve.append((a, b))
    return curve


def _curves(*splits: tuple[np.ndarray, np.ndarray]) -> list[list[tuple[float, float]]]:
    """The smoothed curves, both axes scaled to 0 … 1 over both splits."""
    curves = [_smoothed(*split) for split in splits]
    every = [point for curve in curves for point in curve]
    low = [min(point[axis] for point in every) for axis in (0, 1)]
    high = [max(point[axis] for point in every) for axis in (0, 1)]
    return [
        [tuple((p[axis] - low[axis]) / (high[axis] - low[axis]) for axis in (0, 1)) for p in curve]
        for curve in curves
    ]


def _total_area(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    """The polygons between the curves β(α), one between each two neighbouring knots, added up."""
    curves = [_merged(first), _merged(second)]
    low = max(curve[0][0] for curve in curves)
    high = min(curve[-1][0] for curve in curves)
    knots = sorted({low, high, *(a for curve in curves for a, _ in curve if low < a < high)})
    area = []
    for left, right in pairwise(knots):
        f, g = ((_at(curve, left), _at(curve, right)) for curve in curves)
        d0, d1 = f[0] - g[0], f[1] - g[1]
        if d0 * d1 >= 0:  # a trapezium
            area.append((right - left) * (abs(d0) + abs(d1)) / 2)
        else:  # two triangles that meet in the crossing
            crossing = left + (right - left) * abs(d0) / (abs(d0) + abs(d1))
            area += [(crossing - left) * abs(d0) / 2, (right - crossing) * abs(d1) / 2]
    return math.fsum(area)


def _merged(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    at: dict[float, list[float]] = {}
    for a, b in curve:
        at.setdefault(a, []).append(b)
    return [(a, math.fsum(b) / len(b)) for a, b in sorted(at.items())]


def _at(curve: list[tuple[float, float]], a: float) -> float:
    """The value of a piecewise-linear curve."""
    after = min(max(1, bisect.bisect_left(curve, (a, -math.inf))), len(curve) - 1)
    (a0, b0), (a1, b1) = curve[after - 1 : after + 1]
    return b0 + (b1 - b0) * (a - a0) / (a1 - a0)


def _reference_area(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    """The authors' ring: x is β, y is α, 100 points of one curve and back along the other."""
    ring = []
    for curve, step in ((first, 1), (second, -1)):
        ordered = sorted((b, a) for a, b in curve)
        x = [point[0] for point in ordered]
        even = np.linspace(x[0], x[-1], 100)
        ring += list(zip(even, np.interp(even, x, [p[1] for p in ordered]), strict=True))[::step]
    signed = [
        x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)
    ]
    return abs(math.fsum(signed)) / 2


def _paper_margin(measured: Measured) -> float:
    """The greatest γ_i, in probabilities, over a seeded tenth of the split."""
    p = scipy.special.softmax(measured.o.astype(np.float64), axis=1)
    n = len(p)
    drawn = np.random.default_rng(0).choice(n, size=round(n / 10), replace=False)
    return max(_gamma(p[row], measured.y[row]) for row in drawn)


def _percentile_margin(measured: Measured) -> float:
    s = measured.o.astype(np.float64)
    return np.percentile([_gamma(row, y) for row, y in zip(s, measured.y, strict=True)], 5)


def _gamma(s: np.ndarray, y: int) -> float:
    return s[y] - max(value for j, value in enumerate(s) if j != y)


def _released_margin(measured: Measured) -> float:
    """Overwrite row after row of a batch, and look at the whole batch each time."""
    appended = []
    for start in range(0, len(measured.y), 128):
        s = measured.o[start : start + 128].astype(np.float64)
        y = measured.y[start : start + 128]
        for k in range(len(s)):
            s[k, y[k]] = s[k].min()
            appended.append(s[np.arange(len(s)), y] - s.max(axis=1))
    return np.percentile(np.concatenate(appended), 5)


_AREA = {"total": _total_area, "reference": _reference_area}
_MARGIN = {
    "paper": _paper_margin,
    "percentile": _percentile_margin,
    "reference": _released_margin,
}
