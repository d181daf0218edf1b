from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from support.command import run
from support.recorded import Recorded, record_network
from support.stores import changed_attribute

import cnatool
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.layer_sums import LayerSums

ROWS = {"train": 260, "test": 120}


@pytest.fixture(scope="module", params=["full", "statistics"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers") / "net.zarr"
    truth = record_network(path, ROWS, keep=request.param)
    np.savez(
        path.with_suffix(".npz"),
        **{f"{split}.{key}": value for split, one in truth.items()
           for key, value in one._asdict().items()},
    )  # fmt: skip
    return path


def truth(path: Path, split: str) -> Recorded:
    saved = np.load(path.with_suffix(".npz"))
    return Recorded(*(saved[f"{split}.{key}"] for key in Recorded._fields))


def alpha_of(x: np.ndarray) -> np.ndarray:
    return np.array(
        [scipy.stats.entropy(np.unique(one, return_counts=True)[1], base=2) for one in x]
    )


@pytest.mark.parametrize("split", ROWS)
def test_parts_are_those_of_the_formula(recorded: Path, split: str) -> None:
    data = truth(recorded, split)
    alpha, d = alpha_of(data.x), np.array([1, 2, 3])
    c = (d - 2) / 2
    beta = np.polyfit(d, data.z.T, 1)[0]
    got = cnatool.score_layers(recorded).splits[split]
    assert got.samples == len(alpha)
    for place, part in enumerate(got.layers):
        z = data.z[:, place]
        assert part.number == place + 1
        assert part.coefficient == pytest.approx(c[place])
        assert part.mean == pytest.approx(z.mean(), rel=1e-6)
        assert part.std == pytest.approx(z.std(), rel=1e-6)
        assert part.beta == pytest.approx(c[place] * z.mean(), rel=1e-6, abs=1e-12)
        covariance = np.mean((alpha - alpha.mean()) * (z - z.mean()))
        share = c[place] * covariance / (alpha.std() * beta.std())
        assert part.cna == pytest.approx(share, rel=1e-6, abs=1e-12)
        assert part.correlation == pytest.approx(scipy.stats.pearsonr(alpha, z)[0], rel=1e-6)
    assert sum(part.beta for part in got.layers) == pytest.approx(got.beta, rel=1e-9)
    assert sum(part.cna for part in got.layers) == pytest.approx(got.cna.value, rel=1e-9)
    assert got.cna.value == pytest.approx(scipy.stats.pearsonr(alpha, beta)[0], rel=1e-6)
    assert got.cna.value == cnatool.score(recorded).splits[split].cna.value


def test_profiles_of_groups_and_samples(recorded: Path) -> None:
    data = truth(recorded, "train")
    alpha = alpha_of(data.x)
    result = cnatool.score_layers(recorded, overrides={"alpha_groups": 3}, samples=["7", "200"])
    got = result.splits["train"]
    order = np.argsort(alpha, kind="stable")
    start = 0
    for group in got.groups:
        rows = order[start : start + group.samples]
        start += group.samples
        assert abs(group.samples - 260 / 3) < 15  # but for ties
        assert group.alpha_mean == pytest.approx(alpha[rows].mean(), rel=1e-9)
        assert group.alpha_min == pytest.approx(alpha[rows].min(), rel=1e-9, abs=1e-12)
        assert group.alpha_max == pytest.approx(alpha[rows].max(), rel=1e-9)
        assert group.z == pytest.approx(data.z[rows].mean(axis=0), rel=1e-6)
        assert group.beta == pytest.approx((data.z[rows, 2] - data.z[rows, 0]).mean() / 2, rel=1e-6)
    assert start == 260
    assert [(one.id, one.row) for one in got.profiles] == [("7", 7), ("200", 200)]
    for one in got.profiles:
        assert one.z == pytest.approx(data.z[one.row], rel=1e-5)
        assert one.alpha == pytest.approx(alpha[one.row], rel=1e-9)
    assert [one.row for one in result.splits["test"].profiles] == [7]


def test_a_sample_that_there_is_not(recorded: Path) -> None:
    with pytest.raises(
        UsageError, match=r"`samples=\['9999'\]`: .*net.zarr has no sample with this id"
    ):
        cnatool.score_layers(recorded, samples=["9999"])


def test_one_layer_is_no_profile(recorded: Path) -> None:
    with pytest.raises(MetricError, match="split 'train': β needs at least two layers"):
        cnatool.score_layers(recorded, overrides={"layers": "fc1"})


def test_splits_in_two_stores_are_those_of_one(tmp_path: Path) -> None:
    record_network(tmp_path / "both.zarr", ROWS)
    record_network(tmp_path / "train.zarr", {"train": ROWS["train"]})
    both = cnatool.score_layers(tmp_path / "both.zarr").splits["train"]
    alone = cnatool.score_layers(tmp_path / "train.zarr").splits["train"]
    assert both == alone


def test_constant_inputs_have_no_cna_and_a_reason(tmp_path: Path) -> None:
    names = ["fc1", "fc2", "logits"]
    rng = np.random.default_rng(0)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=names, outputs=["logits"]) as store:
        one, two = rng.normal(size=(2, 30, 5))
        two[4] = np.inf
        store.append(
            "train",
            inputs=np.zeros((30, 4, 4), np.uint8),
            labels=rng.integers(0, 3, 30),
            outputs=rng.normal(size=(30, 3)),
            activations={"fc1": one, "fc2": two},
        )
    got = cnatool.score_layers(tmp_path / "s.zarr", samples=["4"])
    split = got.splits["train"]
    assert split.cna.reason == "β is not finite for 1 of 30 samples"
    assert [part.cna for part in split.layers] == [None, None]
    assert [part.correlation for part in split.layers] == [None, None]
    undefined = "CNA is undefined: β is not finite for 1 of 30 samples"
    broken = "z is not finite for 1 of 30 samples"
    assert [part.reason for part in split.layers] == [undefined, broken]
    assert {group.reason for group in split.groups} == {"no samples", broken}
    assert split.layers[0].mean is not None
    assert (split.layers[1].mean, split.layers[1].std, split.beta) == (None, None, None)
    assert split.profiles[0].z[1] is None
    # All samples share one α, so that they are one group.
    assert sorted(group.samples for group in split.groups) == [0, 0, 0, 0, 30]
    json.loads(got.to_json(), parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize("value", [7.0, np.inf, 1e308])
def test_each_null_has_a_reason(value: float, tmp_path: Path) -> None:
    names = ["fc1", "fc2", "fc3", "logits"]
    rng = np.random.default_rng(0)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=names, outputs=["logits"]) as store:
        store.append(
            "train",
            inputs=rng.integers(0, 256, (40, 4, 4), np.uint8),
            labels=rng.integers(0, 3, 40),
            outputs=rng.normal(size=(40, 3)),
            activations={
                "fc1": rng.normal(size=(40, 5)),
                "fc2": -np.abs(rng.normal(size=(40, 5))),
                "fc3": np.full((40, 1), value),
            },
        )
    split = cnatool.score_layers(tmp_path / "s.zarr").splits["train"]
    for part in split.layers:
        numbers = (part.mean, part.std, part.beta, part.cna, part.correlation)
        assert (None in numbers) == (part.reason is not None)
        assert all(math.copysign(1, number) > 0 for number in numbers if number == 0)
    for group in split.groups:
        numbers = (group.alpha_min, group.alpha_mean, group.alpha_max, group.beta, *group.z)
        assert (None in numbers) == (group.reason is not None)
    if value == 7:
        assert [part.reason for part in split.layers] == [
            None,
            None,
            "z is the same for all 40 samples but for rounding",
        ]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    with changed(tmp_path) as attribute:
        attribute["splits"]["train"]["available"] = 1000
        attribute["splits"]["test"]["skipped"] = [{"id": "a.png", "reason": "broken"}]
    layers, score = (
        cnatool.score_layers(tmp_path / "net.zarr"),
        cnatool.score(tmp_path / "net.zarr"),
    )
    assert layers.notes == (
        "scored: the first 260 of 1,000 samples of train",
        "could not be read and are left out: 1 of 121 samples of test (inspect lists them)",
        *layers.notes[2:],
    )
    assert layers.notes == score.notes[: len(layers.notes)]
    split = layers.splits["test"]
    assert (split.complete, split.samples, split.rows, split.skipped) == (True, 120, 120, 1)


def test_an_unfinished_dump_is_said(tmp_path: Path) -> None:
    with changed(tmp_path) as attribute:
        attribute["splits"]["test"].update(committed=[], complete=False, checksums=None)
    done = run("layers", tmp_path / "net.zarr")
    said = f"{tmp_path / 'net.zarr'} is not finished: it has 0 of 120 rows of test"
    assert said in done.stderr.splitlines()
    result = cnatool.score_layers(tmp_path / "net.zarr")
    assert result.notes[0] == said
    split = result.splits["test"]
    assert (split.complete, split.samples, split.rows) == (False, 0, 120)
    assert {part.reason for part in split.layers} == {"no samples"}


@contextmanager
def changed(folder: Path) -> Iterator[Any]:
    record_network(folder / "net.zarr", ROWS)
    with changed_attribute(folder / "net.zarr") as attribute:
        yield attribute


def test_sums_lose_no_digits_to_a_large_mean_or_to_blocks() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.normal(size=500)
    z = np.stack([alpha + rng.normal(size=500), rng.normal(size=500)], axis=1) + 2.0**30
    sums = LayerSums(alpha, np.zeros(500, np.int64), 1, 2)
    for start in range(0, 500, 70):
        sums.add(start, z[start : start + 70])
    expected = [np.cov(alpha, column, bias=True)[0, 1] for column in (z - 2.0**30).T]
    assert sums.covariances() == pytest.approx(expected, abs=1e-7)
    assert sums.deviations() == pytest.approx(z.std(axis=0), rel=1e-6)
    assert sums.means() == pytest.approx(z.mean(axis=0), rel=1e-15)
