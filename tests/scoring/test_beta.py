"""β that is rounding only: in results, in layers, in a study, and in nothing real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import cnatool
from cnatool.store.reader import open_store

LAYERS = ["fc1", "fc2", "fc3"]


def recorded(path: Path, shift: float, statistics: Any = "sum", keep: Any = "full") -> Path:
    """Record rows of layers that are normalised, and then shifted by `shift`·depth."""
    rng = np.random.default_rng(3)
    with cnatool.create_store(
        path, tensors=[*LAYERS, "o"], outputs=["o"], statistics=statistics, keep=keep
    ) as store:
        for split, rows in (("train", 90), ("test", 60)):
            levels = rng.integers(2, 257, rows)
            layers = {}
            for depth, name in enumerate(LAYERS, start=1):
                x = rng.normal(size=(rows, 50)).astype(np.float32)
                x -= x.mean(axis=1, keepdims=True)
                layers[name] = x / x.std(axis=1, keepdims=True) + np.float32(shift * depth)
            store.append(
                split,
                inputs=np.stack([rng.integers(0, k, (5, 5)) for k in levels]).astype(np.uint8),
                labels=rng.integers(0, 3, rows),
                outputs=rng.normal(size=(rows, 3)).astype(np.float32),
                activations=layers,
            )
    return path


KEPT = [
    ("sum", "full"),
    ("sum", "statistics"),
    (["abs_sum"], "full"),
    (["abs_sum"], "statistics"),
]


@pytest.mark.parametrize(("statistics", "keep"), KEPT)
def test_a_beta_of_rounding_alone_is_undefined(tmp_path: Path, statistics: Any, keep: Any) -> None:
    path = recorded(tmp_path / "ln.zarr", 0, statistics, keep)
    scored = cnatool.score(path)
    for split in scored.splits.values():
        assert split.beta_reason is not None
        assert split.beta_reason.startswith(
            f"the layers' sums give a β of 0 for all {split.samples}"
        )
        assert (split.beta.mean, split.beta.std, split.beta.min, split.beta.max) == (None,) * 4
        assert split.cna.value is None
        assert split.cna.reason == f"β is the same for all {split.samples} samples but for rounding"
        for name in ("pearson", "spearman", "kendall", "smoothed"):
            assert getattr(split.coefficients, name).value is None
            assert getattr(split.coefficients, name).reason == split.cna.reason
        assert split.coefficients.minibatches.reason == split.cna.reason
    assert scored.cna_area.reason == "β is the same all over both splits but for rounding"
    assert scored.cna_margin.value is None
    assert cnatool.score_samples(path)["beta"].null_count() == 150
    for layers in cnatool.score_layers(path, samples=["0"]).splits.values():
        assert (
            layers.cna.reason == f"β is the same for all {layers.samples} samples but for rounding"
        )
        assert layers.beta is None
        assert layers.beta_reason is not None
        assert [part.correlation for part in layers.layers] == [None] * 3
        assert {group.beta for group in layers.groups} == {None}
        full = {group.reason for group in layers.groups if group.samples}
        assert full == {layers.beta_reason}
        assert {sample.beta for sample in layers.profiles} <= {None}
    found = cnatool.study([path], resamples=0)
    assert found.networks["train.beta.mean"].to_list() == [None]
    assert found.networks["train.cna"].to_list() == [None]
    reasons = {(one.measure, one.reason) for one in found.result.undefined}
    assert any(m == "train.beta.mean" and "but for rounding" in reason for m, reason in reasons)


@pytest.mark.parametrize(("statistics", "keep"), KEPT)
def test_a_beta_that_differs_by_rounding_is_one_value(
    tmp_path: Path, statistics: Any, keep: Any
) -> None:
    scored = cnatool.score(recorded(tmp_path / "ln.zarr", 2, statistics, keep))
    for split in scored.splits.values():
        assert split.beta_reason is None
        assert split.beta.mean == pytest.approx(100, rel=1e-5)  # 50 elements, 2 more a layer
        assert split.beta.std == pytest.approx(0, abs=1e-12)
        assert split.cna.reason == f"β is the same for all {split.samples} samples but for rounding"
    assert scored.cna_area.value is None


def test_recorded_sums_without_values_are_taken_as_they_are(tmp_path: Path) -> None:
    path, rng = tmp_path / "sums.zarr", np.random.default_rng(3)
    with cnatool.create_store(
        path,
        tensors=[*LAYERS, "o"],
        outputs=["o"],
        keep="statistics",
        shapes=dict.fromkeys(LAYERS, (50,)),
    ) as store:
        store.append(
            "train",
            inputs=rng.integers(0, 256, (90, 40)).astype(np.uint8) // 5,
            outputs=rng.normal(size=(90, 3)).astype(np.float32),
            statistics={"sum": {name: 1e-6 * rng.normal(size=90) for name in LAYERS}},
        )
    assert open_store(path).record.magnitudes[:3] == (None,) * 3
    assert cnatool.score(path).splits["train"].cna.value is not None


def test_one_layer_of_rounding_leaves_beta_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "net.zarr"
    rng = np.random.default_rng(0)
    with cnatool.create_store(path, tensors=["a", "b"], outputs=["b"]) as store:
        x = rng.normal(size=(80, 40)).astype(np.float32)
        x -= x.mean(axis=1, keepdims=True)
        store.append(
            "train",
            inputs=rng.integers(0, 99, (80, 6)),
            outputs=rng.normal(size=(80, 4)).astype(np.float32),
            activations={"a": x},
        )
    fields = {"layers": "a,b"}
    (split,) = cnatool.score_layers(path, overrides=fields).splits.values()
    first, second = split.layers
    assert first.correlation is None
    assert first.reason == "z is the same for all 80 samples but for rounding"
    assert second.correlation is not None
    assert split.cna.value is not None
    assert split.beta_reason is None


def normalised_network(path: Path, shift: float) -> Path:
    """Write a perceptron with a LayerNormalization, shifted by `shift`·depth, for each layer."""
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"

    def weight(name: str, values: Any) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    for depth in range(1, 5):
        w = weight(f"w{depth}", rng.normal(size=(30, 30)))
        scale, bias = weight(f"s{depth}", np.ones(30)), weight(f"b{depth}", [shift * depth] * 30)
        nodes += [
            helper.make_node("Gemm", [last, w], [f"g{depth}"]),
            helper.make_node("LayerNormalization", [f"g{depth}", scale, bias], [f"n{depth}"]),
            helper.make_node("Relu", [f"n{depth}"], [f"r{depth}"]),
        ]
        last = f"r{depth}"
    nodes.append(helper.make_node("Gemm", [last, weight("w", rng.normal(size=(30, 3)))], ["o"]))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", width])
        for name, width in (("x", 30), ("o", 3))
    ]
    graph = helper.make_graph(nodes, "normalised", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
@pytest.mark.parametrize("shift", [0, 2])
def test_a_dump_of_sums_alone_knows_how_large_the_tensors_are(
    tmp_path: Path, shift: float, suffix: str
) -> None:
    rng = np.random.default_rng(1)
    data = tmp_path / "train.npz"
    np.savez(data, x=rng.random((70, 30), np.float32), y=rng.integers(0, 3, 70))
    model = normalised_network(tmp_path / "net.onnx", shift)
    store = cnatool.dump(model, data, tmp_path / f"net.{suffix}", keep="statistics")
    assert store.record.statistics == ("sum",)
    named = dict(zip((t.name for t in store.tensors), store.record.magnitudes, strict=True))
    whole = cnatool.dump(model, data, tmp_path / f"whole.{suffix}")
    (split,) = whole.splits.values()
    for name in ("n1", "n4", "r2", "o"):
        expected = np.abs(split.activations(name)[:5].astype(np.float64)).sum(axis=1).mean()
        assert named[name] == pytest.approx(expected, rel=0.5)
    (scored,) = cnatool.score(store).splits.values()
    assert scored.cna.reason == "β is the same for all 70 samples but for rounding"
    assert (scored.beta_reason is None) == bool(shift)
    assert scored.beta.mean == (pytest.approx(60, rel=1e-5) if shift else None)


def test_two_values_of_beta_that_rounding_cannot_make_have_an_area(tmp_path: Path) -> None:
    path = tmp_path / "net.zarr"
    inputs = np.zeros((60, 64), np.uint8)
    for row in range(60):
        inputs[row, : row + 4] = np.arange(row + 4)
    with cnatool.create_store(path, tensors=["a", "b", "o"], outputs=["o"]) as store:
        for split, slope in (("train", 1), ("test", 2)):
            store.append(
                split,
                inputs=inputs,
                outputs=np.zeros((60, 4), np.float32),
                activations={
                    name: np.full((60, 5), slope * depth, np.float32)
                    for depth, name in enumerate("ab")
                },
            )
    scored = cnatool.score(path)
    assert scored.splits["train"].beta.mean == 5
    assert scored.splits["test"].beta.mean == 10
    # One of the normalised curves is 0 throughout, the other 1.
    assert scored.cna_area.value == pytest.approx(1)


def test_a_beta_that_is_not_finite_says_so_wherever_it_is_null(tmp_path: Path) -> None:
    path = tmp_path / "net.zarr"
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(40, 5)) for name in "ab"}
    layers["b"][3, 2] = np.nan
    layers["b"][7, 1] = np.inf
    with cnatool.create_store(path, tensors=["a", "b", "o"], outputs=["o"]) as store:
        inputs = rng.integers(0, 256, (40, 40)).astype(np.uint8)
        outputs = np.zeros((40, 4), np.float32)
        store.append("train", inputs=inputs, outputs=outputs, activations=layers)
    reason = "β is not finite for 2 of 40 samples"
    (split,) = cnatool.score(path).splits.values()
    assert (split.beta.mean, split.beta_reason, split.cna.reason) == (None, reason, reason)
    (profile,) = cnatool.score_layers(path).splits.values()
    assert (profile.beta, profile.beta_reason, profile.cna.reason) == (None, reason, reason)


@pytest.mark.parametrize("scale", [1e306, 2e307])
def test_sums_beyond_float64_are_undefined_without_a_warning(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "net.zarr"
    rng = np.random.default_rng(0)
    with cnatool.create_store(path, tensors=["a", "b", "o"], outputs=["o"]) as store:
        for split in ("train", "test"):
            layers = {name: scale * rng.uniform(1, 2, (60, 1)) for name in "ab"}
            layers["b"] *= 4
            inputs = rng.integers(0, 256, (60, 40)).astype(np.uint8) // 9
            outputs = np.tile([1.7e308, -1.7e308], (60, 1))
            labels = rng.integers(0, 2, 60)
            store.append(split, inputs=inputs, outputs=outputs, labels=labels, activations=layers)
    for form in ("pearson", "smoothed"):
        scored = cnatool.score(path, overrides={"cna": form})
        for one in scored.splits.values():
            assert one.beta.std is None
            assert one.beta_reason == "β is too large for float64"
            assert (one.cna.value is None) == (one.cna.reason is not None)
            assert one.loss is None
            assert one.performance_reason is not None
        assert scored.gap_loss.value is None
        assert (scored.cna_area.value is None) == (scored.cna_area.reason is not None)
