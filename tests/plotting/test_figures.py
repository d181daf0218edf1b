"""What is in a chart's data against what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.charts import captions, rows, texts
from support.families import dump_family, make_pictures
from support.networks import mlp, saved

import cnatool

pytest.importorskip("altair", reason="pictures are drawn with Altair")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of 12 networks, a study of them, and a run of 4 checkpoints with a landscape."""
    folder = tmp_path_factory.mktemp("here")
    dump_family(folder, seeds=6)
    cnatool.study(folder / "stores", folder=folder / "study", cluster="run", resamples=200)
    data = make_pictures(folder / "more")
    (folder / "run").mkdir()
    for step in range(4):
        model = saved(mlp(seed=step), folder / "net.onnx")
        tags = {"epoch": str(10 * step)}
        cnatool.dump(model, data, folder / f"run/{step}.zarr", keep="full", tags=tags)
    cnatool.trajectory(folder / "run", folder=folder / "trajectory")
    cnatool.landscape(folder / "run", folder=folder / "landscape", grid=5, samples=40)
    return folder


@pytest.fixture(scope="module")
def store(here: Path) -> Path:
    return here / "stores/shape0-1.zarr"


def spec(source: Any, figure: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = cnatool.plot(source, figure, **options).to_dict()
    return found


@pytest.mark.parametrize("convention", ["paper", "legacy"])
def test_depth_profile_is_what_layers_says(store: Path, convention: str) -> None:
    chart = spec(store, "depth-profile", convention=convention, overrides={"alpha_groups": 3})
    found = cnatool.score_layers(store, convention=convention, overrides={"alpha_groups": 3})
    assert f"convention {found.convention}" in captions(chart)
    views = rows(chart, "depth", "z", "line")
    for split, drawn in zip(found.splits.values(), views, strict=True):
        assert [row["z"] for row in drawn] == [z for group in split.groups for z in group.z]
        depths = [layer.depth for layer in found.layers]
        assert [row["depth"] for row in drawn] == depths * 3
        for place, group in enumerate(split.groups):
            own = drawn[place * len(depths) : (place + 1) * len(depths)]
            slope, start = np.polyfit(depths, group.z, 1)
            assert slope == pytest.approx(group.beta)
            assert [row["line"] for row in own] == pytest.approx(start + slope * np.array(depths))


def test_single_samples_over_depth(store: Path) -> None:
    chart = spec(store, "depth-profile", sample=["3", "7"], split="test")
    split = cnatool.score_layers(store, samples=["3", "7"]).splits["test"]
    drawn = rows(chart, "z", "line")[0]
    assert [row["z"] for row in drawn] == [z for one in split.profiles for z in one.z]
    assert {row["profile"].partition(":")[0] for row in drawn} == {"3", "7"}


def test_alpha_beta_is_what_score_says(store: Path) -> None:
    chart = spec(store, "alpha-beta")
    result, samples = cnatool.score(store), cnatool.score_samples(store)
    for split, drawn, curve in zip(
        ("train", "test"), rows(chart, "alpha", "beta")[::2], rows(chart, "place"), strict=True
    ):
        own = samples.filter(pl.col("split") == split)
        assert [row["alpha"] for row in drawn] == own["alpha"].to_list()
        assert [row["beta"] for row in drawn] == own["beta"].to_list()
        # Samples of equal α count with their mean β.
        merged = own.sort("alpha").with_columns(pl.col("beta").mean().over("alpha"))
        for name in ("alpha", "beta"):
            means = np.convolve(merged[name].to_numpy(), np.full(25, 1 / 25), "valid")
            assert [row[name] for row in curve] == pytest.approx(means)
        cna = result.splits[split].cna
        (title,) = (text for text in texts(chart) if text.startswith(f"{split}, n = {len(own)}"))
        numbers = [cna.value, *cna.interval, result.splits[split].coefficients.smoothed.value]
        assert title.endswith(
            "CNA {} [{}, {}] smoothed CNA {}".format(
                *(f"{one:.3f}".replace("-", "−") for one in numbers)
            )
        )


@pytest.mark.parametrize("form", ["total", "largest", "reference"])
@pytest.mark.parametrize("alpha", ["entropy", "compression"])
def test_area_is_that_of_score(store: Path, form: str, alpha: str) -> None:
    overrides = {"area": form, "alpha": alpha, "window": 10}
    chart = spec(store, "area", overrides=overrides)
    result, samples = (
        cnatool.score(store, overrides=overrides),
        cnatool.score_samples(store, overrides=overrides),
    )
    (lines,) = rows(chart, "place", "beta")
    for split in ("train", "test"):
        own = samples.filter(pl.col("split") == split)
        drawn = [row for row in lines if row["split"] == split]
        assert len(drawn) == len(own) - 9
    for axis in ("alpha", "beta"):
        both = [row[axis] for row in lines]
        assert (min(both), max(both)) == (0, 1)
    (between,) = rows(chart, "at", "low", "high")
    at, low, high = (np.array([row[name] for row in between]) for name in ("at", "low", "high"))
    fine = np.linspace(at[0], at[-1], 200_001)
    distance = np.interp(fine, at, low) - np.interp(fine, at, high)
    value = result.cna_area.value
    if form == "total":
        assert np.trapezoid(np.abs(distance), fine) == pytest.approx(value, abs=1e-6)
    assert any(text.startswith(f"{store.stem} CNA-A {value:.3f}") for text in texts(chart))


def test_landscape_marks_have_their_own_cna(here: Path) -> None:
    chart = spec(here / "landscape", "landscape")
    points = cnatool.landscape(here / "run", grid=5, samples=40).result.points
    drawn = rows(chart, "captured", "cna")[0]
    assert [row["cna"] for row in drawn] == [one.cna.value for one in points]
    (marks,) = (one for one in chart["layer"] if one["mark"]["type"] == "point")
    (surface, _) = (one for one in chart["layer"] if one["mark"]["type"] == "rect")
    assert marks["encoding"]["fill"]["condition"]["field"] == "cna"
    scale = surface["encoding"]["color"]["scale"]
    assert marks["encoding"]["fill"]["condition"]["scale"] == scale
    assert scale["domain"][1] >= max(abs(one.cna.value) for one in points)


def test_what_is_undefined_is_said(store: Path) -> None:
    chart = spec(store, "alpha-beta", overrides={"bins": 1}, split="test")
    assert any("CNA undefined: " in text for text in texts(chart))


def test_error_by_alpha_is_what_score_says(here: Path) -> None:
    stores = [here / f"stores/shape0-{seed}.zarr" for seed in (0, 1)]
    chart = spec(stores, "error-by-alpha")
    assert "convention paper;" in captions(chart)
    for store, drawn in zip(stores, rows(chart, "error"), strict=True):
        result = cnatool.score(store)
        groups = [
            (name, group.alpha_mean, group.error, group.samples)
            for name, split in result.splits.items()
            for group in split.alpha_groups
            if group.samples
        ]
        assert [(r["split"], r["alpha"], r["error"], r["samples"]) for r in drawn] == groups


def test_bins_are_the_studys(here: Path) -> None:
    study = cnatool.study(here / "stores", cluster="run", resamples=200)
    chart = spec(here / "study", "bins", measure=["cna_area", "margin"], by="shape")
    networks, means = rows(chart, "v0", "v1"), rows(chart, "mean")
    fits = rows(chart, "fit")
    for place, measure in enumerate(("cna_area", "margin")):
        frame = study.networks.select("id", measure, "test.accuracy", "tag.shape").drop_nulls()
        assert [tuple(row.values()) for row in networks[place]] == frame.select(
            "id", "tag.shape", measure, "test.accuracy"
        ).rows()
        assert [(row["mean"], row["accuracy"], row["networks"]) for row in means[place]] == [
            (one.means[measure], one.accuracy, one.networks) for one in study.result.bins
        ]
        x, y = (frame[name].to_numpy() for name in (measure, "test.accuracy"))
        at = np.array([row["measure"] for row in fits[place]])
        assert (at.min(), at.max()) == (x.min(), x.max())
        assert [row["fit"] for row in fits[place]] == pytest.approx(
            np.polyval(np.polyfit(x, y, 2), at)
        )
    assert "n = 12 networks in 6 clusters by run" in captions(chart)
    assert "bins of 3 networks by rising" in captions(chart)
    weak = [
        one.quadratic.r_squared < 0.25
        for one in study.result.correlations
        if one.target == "test.accuracy" and one.measure in ("cna_area", "margin")
    ]
    assert ("thin and dashed" in captions(chart)) == any(weak)
    assert json.dumps(chart).count('"strokeDash": [3, 3]') == sum(weak)
    assert "[ ]: 95 % interval, clusters resampled" in captions(chart)


def test_gap_and_its_correlations_are_the_studys(here: Path) -> None:
    study = cnatool.study(here / "stores", cluster="run", resamples=200)
    chart = spec(study, "gap", measure=["cna_margin", "log.l2"])
    for measure, drawn in zip(("cna_margin", "log.l2"), rows(chart, "v0", "v1"), strict=True):
        frame = study.networks.select(measure, "gap").drop_nulls()
        assert [(row["v0"], row["v1"]) for row in drawn] == frame.rows()
        (one,) = (c for c in study.result.correlations if (c.target, c.measure) == ("gap", measure))
        told = f"ρ = {one.spearman.value:.2f}"
        if one.spearman.interval is not None:
            told += " [{:.2f}, {:.2f}]".format(*one.spearman.interval)
        assert any(told.replace("-", "−") in text for text in texts(chart))
    assert "gap = accuracy(train) − accuracy(test)" in captions(chart)


@pytest.mark.parametrize("coefficient", ["pearson", "spearman", "kendall_a", "kendall_b"])
def test_measures_are_the_studys_correlations(here: Path, coefficient: str) -> None:
    study = cnatool.study(here / "stores", cluster="run", resamples=200)
    chart = spec(here / "study", "measures", coefficient=coefficient)
    for target, drawn in zip(
        ("test.accuracy", "gap"), rows(chart, "value", "low")[::2], strict=True
    ):
        wanted = {
            (getattr(c, coefficient).value, *(getattr(c, coefficient).interval or (None, None)))
            for c in study.result.correlations
            if c.target == target
            and ".cna." not in c.measure
            and not c.measure.endswith(".std")
            and getattr(c, coefficient).value is not None
        }
        assert {(row["value"], row["low"], row["high"]) for row in drawn} == wanted
    assert "train.cna" not in str(chart["datasets"])


@pytest.mark.parametrize("source", ["trajectory", "study"])
def test_trajectory_is_the_series(here: Path, tmp_path: Path, source: str) -> None:
    if source == "study":
        found: Any = cnatool.study(here / "run", resamples=0)
    else:
        found = here / "trajectory"
    steps = cnatool.trajectory(here / "run").steps
    chart = spec(found, "trajectory")
    drawn = rows(chart, "step", "value")
    cna, product, loss, accuracy = drawn
    assert [row["value"] for row in product] == steps["cna_margin"].to_list()
    for name, panel in (("cna", cna), ("loss", loss), ("accuracy", accuracy)):
        for split in ("train", "test"):
            own = [(row["step"], row["value"]) for row in panel if row["split"] == split]
            assert own == steps.select("step", f"{split}.{name}").rows()
    assert "n = 4 checkpoints" in captions(chart)


def test_error_over_training_is_the_series(here: Path) -> None:
    errors = cnatool.trajectory(here / "run").error_by_alpha.filter(pl.col("split") == "test")
    chart = spec(here / "trajectory", "error-by-alpha")
    (drawn,) = rows(chart, "group", "error")
    assert [(row["step"], row["group"], row["error"]) for row in drawn] == errors.select(
        "step", "group", "error"
    ).rows()
    assert "split test, n = 60 samples in 5 groups" in captions(chart)


def test_landscape_is_the_grid(here: Path) -> None:
    found = cnatool.landscape(here / "run", grid=5, samples=40)
    chart = spec(here / "landscape", "landscape")
    assert chart == spec(found, "landscape")
    cells = rows(chart, "x2")[0]
    assert [row["cna"] for row in cells] == found.grid["cna"].to_list()
    for name in ("x", "y"):
        middles = [(row[name] + row[f"{name}2"]) / 2 for row in cells]
        assert middles == pytest.approx(found.grid[name].to_list())
    way = rows(chart, "captured")[0]
    assert [(row["x"], row["y"]) for row in way] == found.points.select("x", "y").rows()
    assert "split train, n = 40 samples" in captions(chart)


def many(count: int) -> cnatool.Study:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=count) for name in ("test.accuracy", "gap", "cna_area")}
    ids = [f"n{number}" for number in range(count)]
    return cnatool.study(frame=pl.DataFrame({"id": ids, **columns}), resamples=0)


def test_more_networks_than_a_picture_takes() -> None:
    study = many(4000)
    for figure in ("bins", "gap"):
        chart = spec(study, figure, measure=["cna_area"])
        (drawn,) = rows(chart, "v0")
        assert len(drawn) == 3000
        own = study.networks.select("id", "cna_area").rows()
        assert {(row["id"], row["v0"]) for row in drawn} <= set(own)
        assert "n = 4,000 networks; drawn: 3,000 of them, at random" in captions(chart)
    assert len(rows(spec(study, "bins", measure=["cna_area"]), "mean")[0]) == 160


def test_more_samples_than_a_picture_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = saved(mlp(), tmp_path / "net.onnx")
    np.savez(
        tmp_path / "test.npz",
        x=rng.integers(0, 256, (5000, 8, 8), np.uint8),
        y=rng.integers(0, 10, 5000),
    )
    cnatool.dump(model, tmp_path / "test.npz", tmp_path / "s.zarr", keep="statistics")
    chart = spec(tmp_path / "s.zarr", "alpha-beta")
    points, curve = rows(chart, "alpha")
    assert (len(points), len(curve)) == (2000, 600)
    samples = cnatool.score_samples(tmp_path / "s.zarr")
    assert {(p["alpha"], p["beta"]) for p in points} <= set(samples.select("alpha", "beta").rows())
    assert "drawn: 2,000 samples of a split, at random" in captions(chart)
    assert any("n = 5,000" in text for text in texts(chart))
    assert chart == spec(tmp_path / "s.zarr", "alpha-beta")


def test_networks_without_tags_splits_or_intervals() -> None:
    study = many(4)
    caption = captions(spec(study, "measures"))
    assert "no intervals: no resamples are drawn" in caption
    with pytest.raises(cnatool.UsageError, match=r"`by` arch: no network has this tag"):
        cnatool.plot(study, "gap", by="arch")
    with pytest.raises(cnatool.DataError, match="none of the measures train.cna, test.cna"):
        cnatool.plot(study, "bins")


def test_a_long_name_does_not_stretch_the_picture() -> None:
    rng = np.random.default_rng(0)
    names = ("test.accuracy", "x" * 300)
    columns = {name: rng.normal(size=9) for name in names}
    frame = pl.DataFrame({"id": [f"n{number}" for number in range(9)], **columns})
    chart = spec(cnatool.study(frame=frame, resamples=0), "bins", measure=["x" * 300])
    assert "x" * 24 + "…" + "x" * 24 in json.dumps(chart, ensure_ascii=False)


def test_groups_of_one_name_stay_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.permuted(np.tile(np.arange(100), (60, 1)), axis=1).astype(np.uint8)
    pixels[::2, 0] = pixels[::2, 1]  # a little less entropy, the same to three digits
    pixels = np.tile(pixels, (1, 100))
    pixels[::2, 5000:] = np.arange(5000) % 100
    for step in range(2):
        with cnatool.create_store(
            tmp_path / f"{step}.zarr", tensors=["a", "b"], outputs=["b"], tags={"step": str(step)}
        ) as store:
            z = rng.normal(size=(2, 60, 3)).astype("f4")
            store.append(
                "test",
                inputs=pixels,
                labels=np.arange(60) % 3,
                outputs=z[1],
                activations={"a": z[0], "b": z[1]},
            )
    found = cnatool.trajectory(
        tmp_path, overrides={"alpha_groups": 2, "layers": "a,b", "alpha": "entropy"}
    )
    assert found.error_by_alpha["error"].null_count() == 0
    (drawn,) = rows(spec(found, "error-by-alpha"), "error")
    assert {row["alpha"] for row in drawn} == {"6.64 … 6.64", "6.64 … 6.64 (2)"}


@pytest.mark.parametrize("figure", ["trajectory", "error-by-alpha"])
def test_lines_are_not_told_by_colour_alone(here: Path, figure: str) -> None:
    chart = json.dumps(spec(here / "trajectory", figure))
    assert '"shape": {' in chart
    assert '"square"' in chart


def test_nothing_to_draw_is_said(here: Path) -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "gap": [0.1, 0.2], "cna_area": [1.0, 2.0]})
    study = cnatool.study(frame=frame, resamples=0)
    with pytest.raises(cnatool.DataError, match="networks have no test.accuracy"):
        cnatool.plot(study, "bins", measure=["cna_area"])
    with pytest.raises(cnatool.DataError, match="no measure of the study has a correlation"):
        cnatool.plot(study, "measures")
    unlabelled = cnatool.create_store(here / "plain.zarr", tensors=["a", "b"], outputs=["b"])
    with unlabelled as store:
        x = np.arange(120, dtype=np.uint8).reshape(30, 4)
        store.append(
            "test",
            inputs=x,
            outputs=np.ones((30, 3), "f4"),
            activations={"a": x.astype("f4"), "b": np.ones((30, 3), "f4")},
        )
    with pytest.raises(cnatool.MetricError, match="no error by α to draw"):
        cnatool.plot(here / "plain.zarr", "error-by-alpha", overrides={"layers": "a,b"})
