"""β that is rounding only: in results, in layers, in a study, and in nothing real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnatool

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


KEPT = [("sum", "full"), (["abs_sum"], "full"), (["abs_sum"], "statistics")]


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
        assert split.cna.reason == f"β is the same for all {split.samples} samples"
        for name in ("pearson", "spearman", "kendall", "smoothed"):
            assert getattr(split.coefficients, name).value is None
    assert scored.cna_area.reason == "β is the same all over each split but for rounding"
    assert scored.cna_margin.value is None
    assert cnatool.score_samples(path)["beta"].null_count() == 150
    for layers in cnatool.score_layers(path, samples=["0"]).splits.values():
        assert layers.beta is None
        assert layers.beta_reason is not None
        assert [part.correlation for part in layers.layers] == [None] * 3
        assert {group.beta for group in layers.groups} == {None}
        full = {group.reason for group in layers.groups if group.samples}
        assert full == {layers.beta_reason}
        assert {sample.beta for sample in layers.samples} <= {None}
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
        assert split.cna.reason == f"β is the same for all {split.samples} samples"
    assert scored.cna_area.value is None


def test_without_absolute_sums_beta_is_taken_as_it_is(tmp_path: Path) -> None:
    scored = cnatool.score(recorded(tmp_path / "ln.zarr", 0, "sum", "statistics"))
    assert scored.splits["train"].cna.value is not None


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
