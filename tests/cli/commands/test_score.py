"""`cnatool score` and `cnatool layers`, as installed, on a recorded store."""

from __future__ import annotations

import json
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from support.command import document, refused, run
from support.recorded import Recorded, record_network

import cnatool

ROWS = {"train": 300, "test": 150}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Recorded]]:
    folder = tmp_path_factory.mktemp("here")
    return folder, record_network(folder / "net.zarr", ROWS)


def alpha_beta(one: Recorded) -> tuple[np.ndarray, np.ndarray]:
    counts = [np.unique(x, return_counts=True)[1] for x in one.x]
    alpha = np.array([scipy.stats.entropy(count, base=2) for count in counts])
    # Equal histograms have equal α.
    return alpha.round(10), (one.z[:, 2] - one.z[:, 0]) / 2


def test_every_coefficient_and_group(here: tuple[Path, dict[str, Recorded]]) -> None:
    folder, truth = here
    found = document(
        "score", "score", "net.zarr", "--set", "cna_batch=50", "--set", "alpha_groups=4", cwd=folder
    )
    for split, one in truth.items():
        alpha, beta = alpha_beta(one)
        got = found["splits"][split]["coefficients"]
        for name, function in (
            ("pearson", scipy.stats.pearsonr),
            ("spearman", scipy.stats.spearmanr),
            ("kendall", scipy.stats.kendalltau),
        ):
            assert got[name]["value"] == pytest.approx(function(alpha, beta)[0], rel=1e-5)
        batches = [
            scipy.stats.pearsonr(alpha[i : i + 50], beta[i : i + 50])[0]
            for i in range(0, len(alpha), 50)
        ]
        assert got["minibatches"]["mean"] == pytest.approx(np.mean(batches), rel=1e-5)
        assert got["minibatches"]["std"] == pytest.approx(np.std(batches), rel=1e-4)

        wrong = one.o.argmax(axis=1) != one.y
        losses = -scipy.special.log_softmax(one.o, axis=1)[np.arange(len(alpha)), one.y]
        groups = found["splits"][split]["alpha_groups"]
        assert sum(group["samples"] for group in groups) == len(alpha)
        for group in groups:
            inside = (alpha >= group["alpha_min"] - 1e-9) & (alpha <= group["alpha_max"] + 1e-9)
            assert group["samples"] == inside.sum()
            assert group["error"] == pytest.approx(wrong[inside].mean())
            assert group["loss"] == pytest.approx(losses[inside].mean(), rel=1e-5)
    train, test = (found["splits"][split] for split in ROWS)
    right = [
        Fraction(round(one["accuracy"] * one["samples"]), one["samples"]) for one in (train, test)
    ]
    assert found["gap_accuracy"]["value"] == float(right[0] - right[1])
    assert found["gap_loss"]["value"] == abs(train["loss"] - test["loss"])
    assert found["gap"] == found["gap_accuracy"]


@pytest.mark.parametrize("form", ["pearson", "spearman", "kendall", "smoothed"])
def test_the_convention_chooses_the_coefficient(
    form: str, here: tuple[Path, dict[str, Recorded]]
) -> None:
    words = ("--set", f"cna={form}", "--set", "resamples=50", "--set", "area_resamples=20")
    found = document("score", "score", "net.zarr", *words, cwd=here[0])
    for split in found["splits"].values():
        assert split["cna"]["value"] == split["coefficients"][form]["value"]
        low, high = split["cna"]["interval"]
        assert low <= split["cna"]["value"] <= high
    low, high = found["cna_area"]["interval"]
    assert low < found["cna_area"]["value"] < high
    assert found["cna_margin"]["interval"][0] < found["cna_margin"]["value"]
    assert found["convention"]["fields"]["cna"] == form


def test_all_prints_what_json_says(here: tuple[Path, dict[str, Recorded]]) -> None:
    folder, _ = here
    found = document("score", "score", "net.zarr", cwd=folder)
    short, long = (
        run("score", "net.zarr", cwd=folder).stdout,
        run("score", "net.zarr", "--all", cwd=folder).stdout,
    )
    assert "95 % interval" in short
    low, high = found["cna_area"]["interval"]
    assert f"{low:.3f} … {high:.3f}" in short
    chance = found["cna_area_by_chance"]
    assert chance["excess"] == found["cna_area"]["value"] - chance["mean"]
    assert chance["relabellings"] == 100
    (row,) = (line for line in short.splitlines() if line.startswith("CNA-A"))
    bound = "≤" if chance["p_value"] == chance["p_least"] == 1 / 101 else ""
    assert row.endswith(f" {chance['mean']:.4f}  {bound}{chance['p_value']:.2g}")
    for name, split in found["splits"].items():
        least = 1 / (1 + split["cna"]["permutations"])
        assert split["cna"]["p_least"] == least
        bound = "≤" if split["cna"]["p_value"] == pytest.approx(least) else ""
        (row,) = (line for line in short.splitlines() if line.startswith(f"{name} "))
        assert row.endswith(f"  {bound}{split['cna']['p_value']:.2g}")
    for form, header in (("kendall", "p (spearman)"), ("smoothed", "p (pearson)")):
        words = ("score", "net.zarr", "--set", f"cna={form}", "--set=resamples=0")
        table = run(*words, cwd=folder).stdout
        assert header in table
    assert "p (" not in short
    (line,) = (note for note in found["notes"] if note.startswith("CNA-A is above 0 by chance"))
    assert f"alone: {chance['mean']:.4f} ± {chance['std']:.4f} if train and test" in line
    assert f"note: {line}" in short
    for name, split in found["splits"].items():
        low, high = split["cna"]["interval"]
        assert f"{low:.3f} … {high:.3f}" in short
        for coefficient in ("spearman", "kendall", "smoothed"):
            value = split["coefficients"][coefficient]["value"]
            assert f"{value:.4f}" in long
        batches = split["coefficients"]["minibatches"]
        if name == "train":
            assert f"  {batches['mean']:.4f} ± {batches['std']:.4f}\n" in long
        else:  # 150 rows are one minibatch
            assert batches["std"] is None
            assert f"  {batches['mean']:.4f}\n" in long
            assert "  batches of 128 of test: one minibatch has no deviation\n" in long
        assert all(f"{group['error']:.4f}" in long for group in split["alpha_groups"])
    assert "Kendall" not in short
    assert f"{found['gap_loss']['value']:.4f} (loss)" in long
    ninety = run("score", "net.zarr", "--set", "level=0.9", cwd=folder).stdout
    assert "90 % interval" in ninety


def test_alpha_by_compression(here: tuple[Path, dict[str, Recorded]]) -> None:
    folder, truth = here
    found = document("score", "score", "net.zarr", "--set", "alpha=compression", cwd=folder)
    for split, one in truth.items():
        expected = [len(zlib.compress(x.tobytes(), 9)) / x.nbytes for x in one.x]
        assert found["splits"][split]["alpha"]["mean"] == pytest.approx(np.mean(expected))
    assert found["alpha_codec"] == f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level 9"
    assert document("score", "score", "net.zarr", cwd=folder)["alpha_codec"] is None
    table = run(
        "score", "net.zarr", "--set", "alpha=compression", "--set", "codec=png", cwd=folder
    ).stdout
    assert table.startswith("convention paper+alpha=compression+codec=png\n")
    assert "\nα: PNG of Pillow " in table
    layers = document("layers", "layers", "net.zarr", "--set", "alpha=compression", cwd=folder)
    assert layers["alpha_codec"] == found["alpha_codec"]


def test_codecs_for_pictures_refuse_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["fc1", "fc2", "logits"]
    with cnatool.create_store(tmp_path / "net.zarr", tensors=names, outputs=["logits"]) as store:
        store.append(
            "train",
            inputs=rng.integers(0, 50, (30, 12)),
            labels=rng.integers(0, 3, 30),
            outputs=rng.normal(size=(30, 3)),
            activations={"fc1": rng.normal(size=(30, 5)), "fc2": rng.normal(size=(30, 5))},
        )
    words = ("score", "net.zarr", "--set", "alpha=compression", "--set")
    message = refused(*words, "codec=png", cwd=tmp_path)
    assert "split 'train': codec=png needs 8-bit images, but the inputs are int64" in message
    assert run(*words, "codec=zstd", cwd=tmp_path).stdout
    assert "codec=gif: choose zlib, " in refused(*words, "codec=gif", cwd=tmp_path)


def test_what_is_undefined_is_null_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["fc1", "fc2", "logits"]
    with cnatool.create_store(tmp_path / "net.zarr", tensors=names, outputs=["logits"]) as store:
        for split, rows in (("train", 20), ("test", 3)):
            store.append(
                split,
                inputs=np.full((rows, 4, 4), 3, np.uint8),
                labels=None,
                outputs=rng.normal(size=(rows, 3)),
                activations={"fc1": rng.normal(size=(rows, 5)), "fc2": np.ones((rows, 5))},
            )
    found = document("score", "score", "net.zarr", cwd=tmp_path)
    for split in found["splits"].values():
        assert split["cna"]["value"] is split["cna"]["interval"] is split["cna"]["p_value"] is None
        for name in ("pearson", "spearman", "kendall", "smoothed"):
            assert split["coefficients"][name]["value"] is None
            assert "α is the same for all" in split["coefficients"][name]["reason"]
        assert split["coefficients"]["minibatches"]["reason"]
        assert [group["error"] for group in split["alpha_groups"]] == [None] * 5
    for name in ("gap", "gap_accuracy", "gap_loss", "cna_area", "margin", "cna_margin"):
        assert found[name]["value"] is None
        assert found[name]["reason"]
    assert found["cna_area_by_chance"]["reason"].startswith("CNA-A is undefined: a split has 20")
    assert not found["notes"]
    assert found["cna_area"]["interval"] is found["cna_margin"]["interval"] is None
    text = run("score", "net.zarr", "--all", cwd=tmp_path).stdout
    assert "CNA of train: α is the same for all 20 samples" in text
    assert "CNA-A: a split has 20 samples, fewer than the window of 25" in text
    assert "\n  gap (loss): train and test: the split has no labels\n" in text
    assert "\n  error, loss of the groups of train: the split has no labels\n" in text
    assert "\n  groups 1, 2, 4, 5 of test: no samples, as equal α are never divided\n" in text
    assert "nan" not in text.lower()
    text = run("layers", "net.zarr", cwd=tmp_path).stdout
    assert "CNA of train: α is the same for all 20 samples" in text
    assert "fc1 of train: CNA is undefined: α is the same for all 20 samples\n" in text
    assert "group 1 of train: no samples\n" in text
    assert "-0.0000" not in text
    assert "nan" not in text.lower()


def test_each_dash_has_its_reason(tmp_path: Path) -> None:
    record_network(tmp_path / "net.zarr", {"train": 20, "test": 24})
    text = run("score", "net.zarr", "--all", "--set", "resamples=5", cwd=tmp_path).stdout
    said = text.partition("undefined (–):")[2]
    for name, rows in (("train", 20), ("test", 24)):
        (line,) = (line for line in said.splitlines() if f"  smoothed of {name}: " in line)
        assert line.endswith(
            f"{rows} samples are too few for a curve by windows of 25: it needs 34"
        )
        assert (
            f"  batches of 128 of {name}: {rows} samples do not fill a minibatch of 128\n" in said
        )
        assert f"  interval of CNA of {name}: an interval of 95 % needs at least 40 " in said
    assert "smoothed of" not in run("score", "net.zarr", cwd=tmp_path).stdout


def test_no_resamples_and_no_permutations(here: tuple[Path, dict[str, Recorded]]) -> None:
    words = [f"--set={field}=0" for field in ("resamples", "area_resamples", "permutations")]
    found = document("score", "score", "net.zarr", *words, cwd=here[0])
    for one in (found["splits"]["train"]["cna"], found["cna_area"], found["cna_margin"]):
        assert one["value"] is not None
        assert one["interval"] is None
        assert one["interval_reason"] == "no resamples are drawn"
    assert found["splits"]["train"]["cna"]["p_value"] is None
    assert found["cna_area_by_chance"]["reason"] == "no relabellings are drawn"
    assert any("--set area_resamples=100 estimates by how much" in note for note in found["notes"])
    text = run("score", "net.zarr", *words, cwd=here[0]).stdout
    assert "interval of CNA of train: no resamples are drawn" in text
    assert "p of CNA of train: no permutations are drawn" in text
    assert "interval of CNA-A: no resamples are drawn" in text


def test_layers(here: tuple[Path, dict[str, Recorded]]) -> None:
    folder, _ = here
    found = document("layers", "layers", "net.zarr", "--sample", "5", cwd=folder)
    assert found == json.loads(
        cnatool.score_layers(folder / "net.zarr", samples=["5"]).to_json()
    ) | {"store": "net.zarr"}
    text = run("layers", "net.zarr", "--sample", "5", cwd=folder).stdout
    assert text.startswith("convention paper\n\ntrain, 300 samples\n")
    for split in found["splits"].values():
        assert f"{split['cna']['value']:.4f}" in text
        for part in split["layers"]:
            for field in ("mean", "std", "coefficient", "beta", "cna", "correlation"):
                assert f"{part[field]:z.4f}" in text
        for group in split["groups"]:
            assert all(f"{value:.4f}" in text for value in group["z"])
        (sample,) = split["profiles"]
        assert f"5 (α {sample['alpha']:.2f})" in text
    assert "--sample x: net.zarr has no sample with this id" in refused(
        "layers", "net.zarr", "--sample", "x", cwd=folder
    )
    assert run("layers", "net.zarr", "--set", "depth=path", cwd=folder).stdout.startswith(
        "convention paper+depth=path\n"
    )
