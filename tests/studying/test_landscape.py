"""The landscape against principal components and inverse PCA of the whole activations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import onnx
import polars as pl
import pytest
import scipy.stats
from sklearn.decomposition import PCA
from support.families import make_pictures
from support.networks import mlp, residual_convnet, saved

import cnatool
from cnatool.errors import DataError, MetricError, NotAStoreError, UsageError
from cnatool.metrics.beta import aggregate, sum_activations
from cnatool.metrics.convention import Aggregate
from cnatool.schemas import schema_text
from cnatool.studying import minibatch

SEEDS = range(5)
SAMPLES = 30


def checkpoints(folder: Path, network: Callable[..., onnx.ModelProto]) -> Path:
    """Dump networks with different weights as if they were epochs of one run."""
    data = make_pictures(folder / "data")
    (folder / "stores").mkdir()
    for seed in SEEDS:
        model = saved(network(seed=seed), folder / "net.onnx")
        tags = {"epoch": str(seed * seed)}
        cnatool.dump(model, data, folder / f"stores/{9 - seed}.zarr", tags=tags)
    return folder / "stores"


@pytest.fixture(scope="module")
def perceptrons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints(tmp_path_factory.mktemp("mlp"), mlp)


@pytest.fixture(scope="module")
def convnets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints(tmp_path_factory.mktemp("conv"), residual_convnet)


class Literal:
    """Every step as it is defined, over explicit matrices."""

    def __init__(self, stores: list[Path], layers: list[str], split: str, aggregate: str) -> None:
        opened = [cnatool.open(path).splits[split] for path in stores]
        blocks = [
            [one.activations(name)[:SAMPLES].astype(np.float64) for name in layers]
            for one in opened
        ]
        self.shapes = [block.shape for block in blocks[0]]
        self.aggregate = aggregate
        self.points = np.stack([np.concatenate([b.ravel() for b in some]) for some in blocks])
        self.mean = self.points.mean(axis=0)
        _, s, axes = np.linalg.svd(self.points - self.mean, full_matrices=False)
        self.shares = s**2 / (s**2).sum()
        self.axes = axes[:2]
        self.alpha = np.array(
            [
                scipy.stats.entropy(np.unique(x, return_counts=True)[1], base=2)
                for x in opened[0].inputs()[:SAMPLES]
            ]
        )

    def beta(self, point: np.ndarray) -> np.ndarray:
        z, start = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            layer = point[start : start + size].reshape(shape)
            start += size
            total = layer.reshape(len(layer), -1).sum(axis=1)
            if self.aggregate == "mean":
                total = layer.reshape(len(layer), -1).mean(axis=1)
            elif self.aggregate == "channel-mean" or (
                self.aggregate == "channel-mean-spatial" and layer.ndim > 2
            ):
                total = layer.mean(axis=1).reshape(len(layer), -1).sum(axis=1)
            z.append(total)
        return np.polyfit(np.arange(1, len(z) + 1), np.array(z), 1)[0]

    def cna(self, point: np.ndarray) -> float:
        return float(np.corrcoef(self.alpha, self.beta(point))[0, 1])


def compare(found: cnatool.Landscape, literal: Literal) -> None:
    result = found.result
    np.testing.assert_allclose(result.variance_shares, literal.shares[:-1], atol=1e-12)
    assert result.dimension == literal.points.shape[1]
    places = np.array([[one.x, one.y] for one in result.points])
    expected = (literal.points - literal.mean) @ literal.axes.T
    signs = np.sign((places * expected).sum(axis=0))
    np.testing.assert_allclose(places * signs, expected, rtol=1e-8, atol=1e-8 * abs(places).max())
    axes = literal.axes * signs[:, None]
    for one, point in zip(result.points, literal.points, strict=True):
        assert one.cna.value == pytest.approx(literal.cna(point), abs=1e-9)
        nearest = literal.mean + axes.T @ [one.x, one.y]
        assert one.cna_projected.value == pytest.approx(literal.cna(nearest), abs=1e-9)
        rest = ((point - nearest) ** 2).sum() / ((point - literal.mean) ** 2).sum()
        assert one.captured == pytest.approx(1 - rest, abs=1e-9)
    for place in result.grid:
        point = literal.mean + axes.T @ [place.x, place.y]
        assert place.cna.value == pytest.approx(literal.cna(point), abs=1e-9)


@pytest.mark.parametrize("aggregate", get_args(Aggregate))
def test_grid_is_cna_of_the_inverse_pca(
    convnets: Path, aggregate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of some rows of all stores, and, of the widest layers, of parts of a row.
    monkeypatch.setattr(minibatch, "_BLOCK_VALUES", 5 * 300)
    found = cnatool.landscape(convnets, samples=SAMPLES, grid=7, overrides={"aggregate": aggregate})
    stores = [convnets / f"{9 - seed}.zarr" for seed in SEEDS]
    layers = ["stem_bn", "a1_bn", "a2_bn", "b1_bn", "b2_bn", "projection_bn"]
    assert [layer.name for layer in found.result.layers] == layers
    compare(found, Literal(stores, layers, "train", aggregate))


def test_grid_of_a_perceptron_by_another_convention(perceptrons: Path) -> None:
    found = cnatool.landscape(
        perceptrons, samples=SAMPLES, grid=5, split="test", overrides={"include_output": True}
    )
    stores = [perceptrons / f"{9 - seed}.zarr" for seed in SEEDS]
    compare(found, Literal(stores, ["fc1", "fc2", "fc3", "logits"], "test", "sum"))
    assert found.result.split == "test"
    assert [one.step for one in found.result.points] == [0, 1, 4, 9, 16]
    assert [one.id for one in found.result.points] == ["9", "8", "7", "6", "5"]


def test_scikit_learn_finds_the_same_plane(convnets: Path) -> None:
    stores = [convnets / f"{9 - seed}.zarr" for seed in SEEDS]
    found = cnatool.landscape(stores, samples=SAMPLES, grid=3).result
    literal = Literal(stores, [layer.name for layer in found.layers], "train", "sum")
    peer = PCA(2, svd_solver="full").fit(literal.points)
    np.testing.assert_allclose(peer.explained_variance_ratio_, found.variance_shares[:2])
    places = np.array([[one.x, one.y] for one in found.points])
    signs = np.sign((places * peer.transform(literal.points)).sum(axis=0))
    for one in [*found.points, *found.grid]:
        (point,) = peer.inverse_transform([[one.x, one.y] * signs])
        cna = one.cna_projected if hasattr(one, "cna_projected") else one.cna
        assert cna.value == pytest.approx(literal.cna(point), abs=1e-9)


@pytest.mark.parametrize("form", ["spearman", "kendall", "smoothed"])
def test_other_coefficients(perceptrons: Path, form: str) -> None:
    overrides = {"cna": form, "window": 3}
    found = cnatool.landscape(perceptrons, samples=SAMPLES, grid=3, overrides=overrides).result
    stores = [perceptrons / f"{9 - seed}.zarr" for seed in SEEDS]
    literal = Literal(stores, ["fc1", "fc2", "fc3"], "train", "sum")
    peers = {"spearman": scipy.stats.spearmanr, "kendall": scipy.stats.kendalltau}
    for one, point in zip(found.points, literal.points, strict=True):
        if form in peers:
            expected = peers[form](literal.alpha, literal.beta(point)).statistic
            assert one.cna.value == pytest.approx(expected)
    assert all(-1 <= one.cna.value <= 1 for one in found.grid)


def test_a_checkpoint_has_the_cna_that_score_gives(perceptrons: Path, tmp_path: Path) -> None:
    """By another way: a store of those samples alone."""
    found = cnatool.landscape(perceptrons, samples=SAMPLES, grid=2).result
    for one, seed in zip(found.points, SEEDS, strict=True):
        model = saved(mlp(seed=seed), tmp_path / "net.onnx")
        store = cnatool.dump(
            model, perceptrons.parent / "data", tmp_path / "few.zarr", limit=SAMPLES, overwrite=True
        )
        score = cnatool.score(store, overrides={"resamples": 0, "permutations": 0})
        assert one.cna.value == pytest.approx(score.splits["train"].cna.value, abs=1e-5)


def test_three_checkpoints_lie_in_their_plane(perceptrons: Path) -> None:
    stores = [perceptrons / f"{name}.zarr" for name in (9, 7, 5)]
    found = cnatool.landscape(stores, samples=SAMPLES, grid=2).result
    assert len(found.variance_shares) == 2
    assert sum(found.variance_shares) == pytest.approx(1)
    for one in found.points:
        assert one.captured == pytest.approx(1)
        assert one.cna_projected.value == pytest.approx(one.cna.value, abs=1e-9)


@pytest.mark.parametrize("how", get_args(Aggregate))
@pytest.mark.parametrize("shape", [(7,), (3, 4, 5)])
def test_every_aggregate_is_linear(how: Aggregate, shape: tuple[int, ...]) -> None:
    """What is not linear has no CNA that follows from those of the checkpoints."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 9, *shape))

    def z(block: np.ndarray) -> np.ndarray:
        return aggregate(sum_activations(block), shape, how)

    np.testing.assert_allclose(z(2.5 * one - 4 * other), 2.5 * z(one) - 4 * z(other), atol=1e-10)


def test_frames_and_files(perceptrons: Path, tmp_path: Path) -> None:
    found = cnatool.landscape(perceptrons, samples=SAMPLES, grid=4, folder=tmp_path)
    result = found.result
    text = (tmp_path / "landscape.json").read_text("utf-8")
    assert text == result.to_json()
    jsonschema.validate(json.loads(text), json.loads(schema_text("landscape")))
    assert text == cnatool.landscape(perceptrons, samples=SAMPLES, grid=4).result.to_json()
    assert found.points.columns == [
        "run", "step", "id", "path", "x", "y", "captured", "cna", "cna_projected",
    ]  # fmt: skip
    for row, one in zip(found.points.to_dicts(), result.points, strict=True):
        for name in ("run", "step", "id", "path", "x", "y", "captured"):
            assert row[name] == getattr(one, name)
        assert row["cna"] == one.cna.value
        assert row["cna_projected"] == one.cna_projected.value
    assert found.grid.rows() == [(one.x, one.y, one.cna.value) for one in result.grid]
    assert len(found.grid) == 16
    for axis in ("x", "y"):
        points, grid = found.points[axis], found.grid[axis]
        beyond = 0.2 * (points.max() - points.min())
        assert grid.min() == pytest.approx(points.min() - beyond)
        assert grid.max() == pytest.approx(points.max() + beyond)
    for name, frame in (("landscape_points", found.points), ("landscape_grid", found.grid)):
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(frame)
        assert pl.read_csv(tmp_path / f"{name}.csv").columns == frame.columns


def test_fewer_samples_than_asked_for_are_said(perceptrons: Path) -> None:
    found = cnatool.landscape(perceptrons, split="test", grid=2).result
    assert found.samples == 60
    assert found.notes == ("split test has only 60 of the 100 samples asked for",)


def refused(error: type[Exception], *stores: Path, **options: Any) -> str:
    with pytest.raises(error) as raised:
        cnatool.landscape(stores, **{"samples": SAMPLES, "grid": 2, "strict": True, **options})
    return str(raised.value)


def test_what_is_no_landscape(perceptrons: Path, convnets: Path, tmp_path: Path) -> None:
    a, b, c = (perceptrons / f"{name}.zarr" for name in (9, 8, 7))
    assert "at least three checkpoints, but there are 2" in refused(MetricError, a, b)
    assert "their layers differ" in refused(MetricError, a, b, convnets / "7.zarr")
    assert "gone.zarr: no such file" in refused(NotAStoreError, a, b, Path("gone.zarr"))
    (tmp_path / "empty").mkdir()
    assert "no store is in this folder" in refused(NotAStoreError, tmp_path / "empty")
    assert "no store is in this folder" in refused(DataError, tmp_path / "empty", strict=False)
    assert "has no such split; it has train, test" in refused(UsageError, a, b, c, split="x")
    assert "`samples` 1: at least 2 are needed" in refused(UsageError, a, b, c, samples=1)
    assert "`grid` 201: give from 2 to 200" in refused(UsageError, a, b, c, grid=201)
    assert "β needs at least two layers" in refused(
        MetricError, a, b, c, overrides={"layers": "fc1"}
    )
    copies = [shutil.copytree(a, tmp_path / f"{i}.zarr") for i in range(3)]
    assert "are both at 0" in refused(UsageError, *copies, order="epoch")
    assert "are the same at all checkpoints" in refused(MetricError, *copies)


def test_statistics_alone_are_no_activations(perceptrons: Path, tmp_path: Path) -> None:
    model = saved(mlp(seed=77), tmp_path / "net.onnx")
    store = tmp_path / "thin.zarr"
    cnatool.dump(model, perceptrons.parent / "data", store, keep="statistics", tags={"epoch": "99"})
    a, b = (perceptrons / f"{name}.zarr" for name in (9, 8))
    assert refused(MetricError, a, b, store) == (
        f"{store}: only statistics of tensor 'fc1' are stored. Dump with `keep='full'` to store it "
        "whole."
    )


def record(path: Path, x: np.ndarray, activations: dict[str, np.ndarray], epoch: int) -> Path:
    with cnatool.create_store(
        path, tensors=["a", "b", "out"], outputs=["out"], tags={"epoch": str(epoch)}
    ) as store:
        store.append("all", inputs=x, outputs=np.zeros((len(x), 2)), activations=activations)
    return path


def test_other_samples_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (40, 4, 4), np.uint8)
    stores = []
    for epoch in range(3):
        here = x.copy()
        if epoch == 2:
            here[20] += 1
        some = {name: rng.normal(size=(40, 3)) for name in "ab"}
        stores.append(record(tmp_path / f"{epoch}.zarr", here, some, epoch))
    message = refused(MetricError, *stores, samples=21)
    assert f"{stores[0]} and {stores[2]} do not hold the same first 21 samples" in message
    # What lies behind the minibatch does not count.
    assert cnatool.landscape(stores, samples=20, grid=2).result.samples == 20
    shorter = record(tmp_path / "3.zarr", x[:15], {n: rng.normal(size=(15, 3)) for n in "ab"}, 3)
    assert cnatool.landscape([*stores, shorter], grid=2).result.samples == 15


def test_activations_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (10, 4, 4), np.uint8)
    stores = []
    for epoch in range(3):
        some = {name: rng.normal(size=(10, 3)) for name in "ab"}
        if epoch == 1:
            some["b"][7, 2] = np.nan
        stores.append(record(tmp_path / f"{epoch}.zarr", x, some, epoch))
    assert refused(MetricError, *stores) == (
        f"{stores[1]}, split 'all': the activations of layer 'b' are not finite for sample row 7, "
        "so this checkpoint has no place in a plane."
    )
    assert cnatool.landscape(stores, samples=7, grid=2).result.samples == 7


def test_undefined_cna_has_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = np.zeros((10, 4, 4), np.uint8)
    stores = [
        record(tmp_path / f"{i}.zarr", x, {n: rng.normal(size=(10, 3)) for n in "ab"}, i)
        for i in range(3)
    ]
    found = cnatool.landscape(stores, grid=2)
    assert found.grid["cna"].null_count() == 4
    assert {one.cna.reason for one in found.result.grid} == {"α is the same for all 10 samples"}


def test_several_runs_in_one_plane(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (10, 4, 4), np.uint8)
    stores = []
    for name, tags in (
        ("p", {"run": "b", "epoch": "1"}),
        ("q", {"run": "a", "epoch": "3"}),
        ("r", {"run": "a", "epoch": "1"}),
        ("s", {}),
    ):
        path = tmp_path / f"{name}.zarr"
        with cnatool.create_store(
            path, tensors=["a", "b", "out"], outputs=["out"], tags=tags
        ) as store:
            some = {name: rng.normal(size=(10, 3)) for name in "ab"}
            store.append("all", inputs=x, outputs=np.zeros((10, 2)), activations=some)
        stores.append(path)
    found = cnatool.landscape(stores[:3], by="run", grid=2)
    assert [(one.run, one.step, one.id) for one in found.result.points] == [
        ("a", 1.0, "r"), ("a", 3.0, "q"), ("b", 1.0, "p"),
    ]  # fmt: skip
    assert found.points["run"].to_list() == ["a", "a", "b"]
    # The same points, whatever their order.
    other = cnatool.landscape(stores[2::-1], by="run", grid=2).points
    for column in ("x", "y", "cna"):
        np.testing.assert_allclose(found.points[column], other[column], atol=1e-9)
    assert "s.zarr: it has no tag run, which `by` names." in (
        refused(MetricError, *stores, by="run")
    )
    left_out = cnatool.landscape(stores, by="run", grid=2).result
    assert left_out.points == found.result.points
    assert [one.path for one in left_out.not_scored] == [str(stores[3])]
    assert "`by` x: no store has this tag" in refused(UsageError, *stores, by="x")
    places = cnatool.landscape(stores, grid=2, samples=10).result
    assert [one.step for one in places.points] == [1, 2, 3, 4]
    assert places.notes == (
        "no tag gives the steps of the checkpoints: steps are the positions in which they were "
        "given; name a tag with `order`",
    )
