"""Drift between splits and stores, against NumPy and SciPy over whole arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from support.dumps import make_data
from support.networks import residual_convnet, saved

import cnatool
from cnatool.comparing.drift import numbers, unit_drift
from cnatool.errors import MetricError, UsageError

SHAPES = {"conv": (4, 3, 3), "tokens": (5, 6), "logits": (3,)}
ROWS = {"train": 300, "test": 200}
BRIGHTER = 2


def draw(rows: int, rng: np.random.Generator) -> dict[str, Any]:
    levels = rng.integers(2, 257, (rows, 1))
    conv = np.maximum(rng.normal(size=(rows, *SHAPES["conv"])), 0)
    conv[:, 3] = 0  # a dead unit
    # Far from 0, with a deviation of each sample and of each position.
    tokens = 1000 + rng.normal(size=(rows, 1, 6)) + rng.normal(size=(rows, *SHAPES["tokens"])) / 4
    return {
        "x": rng.integers(0, levels, (rows, 30)).astype(np.uint8),
        "y": rng.integers(0, 3, rows),
        "conv": conv.astype(np.float32),
        "tokens": tokens.astype(np.float32),
        "logits": rng.normal(size=(rows, 3)).astype(np.float32),
    }


def draw_splits(seed: int = 0) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    data = {split: draw(rows, rng) for split, rows in ROWS.items()}
    data["test"]["conv"][:, BRIGHTER] *= 1.5
    data["test"]["tokens"][:, :, 1] += 0.8
    return data


def write(path: Path, data: dict[str, dict[str, Any]], **options: Any) -> Path:
    names = list(SHAPES)
    with cnatool.create_store(path, tensors=names, outputs=["logits"], **options) as store:
        for split, arrays in data.items():
            store.append(
                split,
                inputs=arrays["x"],
                labels=arrays["y"],
                outputs=arrays["logits"],
                activations={name: arrays[name] for name in names[:-1]},
            )
    return path


def unit_values(array: Any) -> Any:
    """Return (samples, units, positions) as float64."""
    moved = np.moveaxis(array, -1, 1) if array.ndim == 3 else array
    return moved.reshape(*moved.shape[:2], -1).astype(np.float64)


@pytest.fixture(scope="module")
def data() -> dict[str, dict[str, Any]]:
    return draw_splits()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, data: dict[str, dict[str, Any]]) -> Path:
    return write(tmp_path_factory.mktemp("drift") / "a.zarr", data)


@pytest.fixture(scope="module")
def found(store: Path) -> cnatool.Drift:
    return cnatool.drift(store, splits=["train", "test"], overrides={"layers": "all"})


def check_units(frame: pl.DataFrame, data: dict[str, dict[str, Any]]) -> None:
    for name, shape in SHAPES.items():
        first, second = (unit_values(data[split][name]) for split in ("train", "test"))
        rows = frame.filter(tensor=name)
        assert rows["unit"].to_list() == list(range(shape[-1] if len(shape) == 2 else shape[0]))
        for unit, row in enumerate(rows.iter_rows(named=True)):
            x, y = (each[:, unit].ravel() for each in (first, second))
            assert (row["count"], row["count2"]) == (x.size, y.size)
            assert row["mean"] == pytest.approx(x.mean(), rel=1e-9)
            assert row["std2"] == pytest.approx(y.std(ddof=1), rel=1e-7)
            exact = stats.ks_2samp(x, y, method="exact" if x.size < 400 else "auto").statistic
            assert row["ks"] - 1e-12 <= exact <= row["ks_high"] + 1e-12
            means, means2 = (each[:, unit].mean(axis=1) for each in (first, second))
            of_samples = stats.ks_2samp(means, means2, method="exact")
            assert row["ks_samples"] == pytest.approx(of_samples.statistic, abs=1e-12)
            if x.any():
                smd = (y.mean() - x.mean()) / np.sqrt(
                    ((x.size - 1) * x.var(ddof=1) + (y.size - 1) * y.var(ddof=1))
                    / (x.size + y.size - 2)
                )
                assert row["smd"] == pytest.approx(smd, rel=1e-7, abs=1e-7)
            # Asymptotic p-values are nearly exact, and far in the tail too large.
            if of_samples.pvalue < 0.2:
                assert row["p_value"] >= 0.97 * of_samples.pvalue
            if 1e-4 < of_samples.pvalue < 0.2:
                assert row["p_value"] == pytest.approx(of_samples.pvalue, rel=0.35)


def test_units_are_those_of_whole_arrays(
    found: cnatool.Drift, data: dict[str, dict[str, Any]]
) -> None:
    check_units(found.frame(), data)
    # Bins around 0 would be wider than the values that lie around 1000.
    tokens = found.frame().filter(tensor="tokens")
    assert (tokens["ks_high"] - tokens["ks"]).max() < 0.03
    # Each sample has one value, so that nothing is in doubt.
    logits = found.frame().filter(tensor="logits")
    assert (logits["ks_high"] == logits["ks"]).all()
    dead = found.frame().filter(tensor="conv", unit=3).row(0, named=True)
    assert (dead["ks"], dead["ks_high"], dead["p_value"], dead["smd"]) == (0, 0, 1, None)


def test_what_was_shifted_drifts_and_nothing_else(found: cnatool.Drift) -> None:
    drifting = found.frame().filter(pl.col("p_adjusted") <= 0.05)
    assert set(drifting.select("tensor", "unit").rows()) == {("conv", BRIGHTER), ("tokens", 1)}
    result = found.result
    assert (result.units.comparisons, result.units.drifting) == (13, 2)
    known = found.frame()["p_value"].to_numpy()
    np.testing.assert_allclose(found.frame()["p_adjusted"], stats.false_discovery_control(known))
    assert result.ordered_by == "units"
    means = [tensor.units.ks_mean for tensor in result.drift if tensor.units]
    assert means == sorted(means, reverse=True)
    assert result.drift[0].name == "tokens"
    first = result.drift[0].units
    assert first is not None
    assert (first.farthest, first.unit_axis, first.drifting) == (1, 1, 1)
    assert any("2 of 13 units" in text for text in result.meaning_notes)
    assert found._repr_html_().startswith('<div class="cnatool">')
    assert "2 of 13 units drift" in result._repr_html_()


def test_means_of_tensors_alpha_and_beta(
    found: cnatool.Drift, store: Path, data: dict[str, dict[str, Any]]
) -> None:
    for tensor in found.result.drift:
        x, y = (
            data[split][tensor.name].reshape(ROWS[split], -1).mean(axis=1, dtype=np.float64)
            for split in ("train", "test")
        )
        exact = stats.ks_2samp(x, y).statistic
        assert tensor.means.ks == pytest.approx(exact, abs=1e-9)
        assert tensor.means.mean == pytest.approx(x.mean(), rel=1e-9)
        assert tensor.means.p_adjusted is not None
    scored = cnatool.score_samples(store, overrides={"layers": "all"})
    for name in ("alpha", "beta"):
        number = getattr(found.result, name)
        x, y = (scored.filter(split=split)[name].to_numpy() for split in ("train", "test"))
        assert number.ks == pytest.approx(stats.ks_2samp(x, y).statistic, abs=1e-9)
        assert number.reason is None


def test_few_samples_are_held_and_units_read_in_parts(
    store: Path, data: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_drift, "UNITS_AT_ONCE", 2)
    check_units(cnatool.drift(store).frame(), data)
    monkeypatch.setattr(numbers, "MOST_NUMBERS", 240)
    frame = cnatool.drift(store, tensors="conv").frame()
    assert frame.select("samples", "samples2", "tested", "tested2").unique().rows() == [
        (300, 200, 60, 60)
    ]
    drifting = frame.filter(unit=BRIGHTER).row(0, named=True)
    assert drifting["p_value"] < 0.05
    assert drifting["ks_samples"] != pytest.approx(drifting["ks"])


def test_two_stores_of_other_samples(
    tmp_path: Path, store: Path, data: dict[str, dict[str, Any]], found: cnatool.Drift
) -> None:
    one = write(tmp_path / "one.h5", {"all": data["train"]})
    two = write(tmp_path / "two.zarr", {"new": data["test"]})
    apart = cnatool.drift(one, two)
    assert apart.frame().equals(found.frame())
    assert (apart.result.reference.split, apart.result.other.split) == ("all", "new")
    assert cnatool.drift(store, two, splits=["train", "new"]).frame().equals(found.frame())
    same = cnatool.drift(store, store, splits=["test", "train"])
    assert same.frame()["smd"].to_list()[BRIGHTER] < 0
    again = cnatool.drift(two, write(tmp_path / "again.zarr", {"new": data["test"]}))
    assert (again.frame()["ks"] == 0).all()
    assert any("the same, byte for byte" in text for text in again.result.notes)


def test_statistics_alone_compare_means(
    tmp_path: Path, data: dict[str, dict[str, Any]], found: cnatool.Drift
) -> None:
    narrow = write(tmp_path / "s.zarr", data, keep="statistics")
    result = cnatool.drift(narrow, tensors=["conv", "tokens"]).result
    assert result.ordered_by == "means"
    assert [tensor.units for tensor in result.drift] == [None, None]
    assert "statistics" in (result.drift[0].units_reason or "")
    assert any("2 tensors without units" in text for text in result.notes)
    assert result.units.comparisons == 0
    assert result.tensors.comparisons == 2
    whole = {tensor.name: tensor.means for tensor in found.result.drift}
    for tensor in result.drift:
        assert tensor.means.ks == pytest.approx(whole[tensor.name].ks, abs=1e-9)
        assert tensor.means.smd == pytest.approx(whole[tensor.name].smd, abs=1e-9)


def test_units_that_dumps_counted(tmp_path: Path) -> None:
    make_data(tmp_path, 120, 80)
    saved(residual_convnet(), tmp_path / "net.onnx")
    whole, counted = (
        cnatool.drift(
            cnatool.dump(tmp_path / "net.onnx", tmp_path / "data", tmp_path / name, **options),
            splits=["train", "test"],
        )
        for name, options in (
            ("whole.zarr", {}),
            ("counted.zarr", {"keep": "statistics", "units": True}),
        )
    )
    # The outputs are whole in both.
    inner = pl.col("tensor").is_in(
        [tensor.name for tensor in counted.result.drift if tensor.units and tensor.units.reason]
    )
    first, second = whole.frame().filter(inner), counted.frame().filter(inner)
    assert len(first) == len(second) > 10
    for name in ("count", "mean", "std2", "smd"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6, atol=1e-7)
    assert (second["ks"] <= first["ks_high"] + 1e-12).all()
    assert (second["ks_high"] >= first["ks"] - 1e-12).all()
    assert second["p_value"].null_count() == len(second)
    tensor = next(tensor for tensor in counted.result.drift if tensor.layer == 1)
    assert counted.result.ordered_by == "units"
    assert tensor.units is not None
    assert "single samples, which are not stored" in (tensor.units.reason or "")
    assert tensor.means.p_value is not None


def test_the_axis_of_units(store: Path, data: dict[str, dict[str, Any]]) -> None:
    found = cnatool.drift(store, tensors=["conv", "tokens"], axes={"conv": "element", "tokens": 0})
    conv = found.frame().filter(tensor="conv")
    assert len(conv) == 36
    unit = np.ravel_multi_index((1, 2, 0), SHAPES["conv"])
    values = [data[split]["conv"][:, 1, 2, 0] for split in ("train", "test")]
    exact = stats.ks_2samp(*values).statistic
    assert conv["ks"][int(unit)] == pytest.approx(exact, abs=1e-12)
    assert len(found.frame().filter(tensor="tokens")) == 5
    assert {tensor.units.unit_axis for tensor in found.result.drift if tensor.units} == {
        "element",
        0,
    }


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    data = draw_splits(1)
    data["train"]["conv"][:20, 1, 0, 0] = np.nan
    data["test"]["conv"][:5, 1, 2, 2] = np.inf
    data["test"]["conv"][:, 0] = np.nan
    found = cnatool.drift(write(tmp_path / "a.zarr", data))
    broken, other = found.frame().filter(tensor="conv").head(2).rows(named=True)
    assert (broken["nonfinite2"], broken["mean2"], broken["ks"]) == (200 * 9, None, None)
    assert broken["p_value"] is None
    assert (other["nonfinite"], other["nonfinite2"]) == (20, 5)
    assert (other["samples"], other["samples2"]) == (280, 195)
    x, y = (data[split]["conv"][:, 1].ravel() for split in ("train", "test"))
    exact = stats.ks_2samp(x[np.isfinite(x)], y[np.isfinite(y)]).statistic
    assert other["ks"] <= exact <= other["ks_high"]
    conv = next(tensor for tensor in found.result.drift if tensor.name == "conv")
    assert conv.units is not None
    assert conv.units.reason == "no sample has a finite value"
    assert any(text.startswith("conv: 20 values") for text in found.result.notes)


def test_few_samples_have_a_reason_in_place_of_p_values(tmp_path: Path) -> None:
    data = draw_splits()
    few = {
        split: {name: values[:n] for name, values in data[split].items()}
        for split, n in (("train", 40), ("test", 6))
    }
    result = cnatool.drift(write(tmp_path / "a.zarr", few)).result
    assert result.units.comparisons == result.tensors.comparisons == 0
    for tensor in result.drift:
        assert tensor.means.p_value is None
        assert tensor.means.ks is not None
        assert "40 and 6 samples" in (tensor.means.reason or "")
        assert tensor.units is not None
        assert tensor.units.reason == tensor.means.reason
    assert "40 and 6 samples" in (result.alpha.reason or "")


def test_rounding_is_no_drift(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {split: draw(rows, rng) for split, rows in ROWS.items()}
    for split, sign in (("train", 1), ("test", -1)):
        values = rng.normal(size=(ROWS[split], 4, 3, 3))
        values -= values.mean(axis=(2, 3), keepdims=True)
        values += sign * 1e-8
        data[split]["conv"] = values.astype(np.float32)
    found = cnatool.drift(write(tmp_path / "a.zarr", data), tensors="conv")
    assert (found.frame()["p_value"] == 1).all()
    assert (found.frame()["ks_samples"] == 0).all()
    assert (found.frame()["ks"] > 0).all()
    (note,) = [note for note in found.result.notes if "rounding" in note]
    assert note.startswith("conv: the sets differ by no more than rounding can cause in 4 units")


def test_samples_of_different_lengths(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "r.zarr"
    samples = {
        "train": [rng.normal(size=(length, 3)) for length in rng.integers(0, 6, 200)],
        "test": [rng.normal(0.7, 1, size=(length, 3)) for length in rng.integers(1, 9, 150)],
    }
    with cnatool.create_store(path, tensors=["h"], outputs=["h"], ragged={"h": 0}) as store:
        for split, rows in samples.items():
            store.append(
                split,
                inputs=np.zeros((len(rows), 2), np.float32),
                outputs=cnatool.Ragged.join([r.astype(np.float32) for r in rows]),
            )
    frame = cnatool.drift(path).frame()
    for unit, row in enumerate(frame.iter_rows(named=True)):
        x, y = (
            np.concatenate([r[:, unit] for r in samples[split]]).astype(np.float32)
            for split in ("train", "test")
        )
        assert (row["count"], row["count2"]) == (x.size, y.size)
        exact = stats.ks_2samp(x, y).statistic
        assert row["ks"] - 1e-12 <= exact <= row["ks_high"] + 1e-12
        assert row["ks_high"] < row["ks"] + 0.05
        means = [
            np.array(
                [r[:, unit].astype(np.float32).mean(dtype=float) for r in samples[s] if len(r)]
            )
            for s in ("train", "test")
        ]
        assert row["samples"] == means[0].size
        assert row["ks_samples"] == pytest.approx(stats.ks_2samp(*means).statistic, abs=1e-9)


def test_halves_of_one_split_do_not_drift(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    whole = rng.normal(size=(400, 1, 300)) + rng.normal(size=(400, 6, 300)) / 3
    path = tmp_path / "h.zarr"
    with cnatool.create_store(path, tensors=["h"], outputs=["h"]) as store:
        for split, rows in (("a", whole[:211]), ("b", whole[211:])):
            store.append(
                split,
                inputs=np.zeros((len(rows), 2), np.float32),
                outputs=rows.astype(np.float32),
            )
    found = cnatool.drift(path)
    p = found.frame()["p_value"].to_numpy()
    # Of so few samples, asymptotic p-values are a little too large, and never too small.
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.05
    assert 0.02 < (p < 0.05).mean() < 0.08
    assert abs(np.median(p) - 0.5) < 0.12
    assert found.result.units.drifting == 0
    # Values of one sample are not independent: a test that takes them so finds drift.
    pooled = [
        stats.ks_2samp(whole[:211, :, u].ravel(), whole[211:, :, u].ravel(), method="asymp").pvalue
        for u in range(0, 300, 10)
    ]
    assert np.mean(np.array(pooled) < 0.05) > 0.15


def test_what_is_compared_has_to_be_clear(
    tmp_path: Path, store: Path, data: dict[str, dict[str, Any]]
) -> None:
    single = write(tmp_path / "one.zarr", {"train": data["train"]})
    three = write(tmp_path / "three.zarr", {**data, "val": data["test"]})
    for arguments, kind, text in (
        ((store, ["train", "train"]), UsageError, "split 'train' is named twice"),
        ((store, ["train", "nope"]), MetricError, "has no split 'nope'; it has train, test"),
        ((store, ["train"]), UsageError, "Name two of them as `splits`"),
        ((store, ["train", "test", "val"]), UsageError, "3 splits are named"),
        ((three, []), UsageError, "has the splits train, test, val"),
        ((single, []), UsageError, "has the split train alone"),
    ):
        with pytest.raises(kind, match=text):
            cnatool.drift(arguments[0], splits=arguments[1])
    with pytest.raises(UsageError, match="Name one of each as `splits`"):
        cnatool.drift(store, three)
    assert cnatool.drift(store, single).result.other.split == "train"
    for options, text in (
        ({"tensors": "nothing*"}, "has no such tensor"),
        ({"tensors": "!*"}, "leaves no tensor"),
        ({"level": 0}, "between 0 and 1"),
        ({"correction": "holm"}, "there are benjamini-hochberg"),
    ):
        with pytest.raises(UsageError, match=text):
            cnatool.drift(store, **options)  # type: ignore[arg-type]


def test_stores_of_other_models_are_refused(
    tmp_path: Path, store: Path, data: dict[str, dict[str, Any]]
) -> None:
    other = {"test": {**data["test"], "conv": data["test"]["conv"].reshape(200, 4, 9)}}
    with pytest.raises(MetricError, match=r"different models: 'conv' is \(4, 3, 3\) float32"):
        cnatool.drift(store, write(tmp_path / "b.zarr", other))


def test_corrections(store: Path, found: cnatool.Drift) -> None:
    strict = cnatool.drift(store, correction="bonferroni", level=0.01)
    p = found.frame()["p_value"].to_numpy()
    np.testing.assert_allclose(strict.frame()["p_adjusted"], np.minimum(1, 13 * p))
    assert any("Bonferroni" in text for text in strict.result.meaning_notes)
    assert "of 13 units at 0.01" in repr(strict)
