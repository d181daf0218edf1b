"""Checkpoints along training: the numbers of single scores, in order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from support.families import make_pictures
from support.networks import mlp, saved
from support.recorded import record_network
from support.stores import changed_attribute

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.schemas import schema_text
from cnatool.studying import collect as collection

EPOCHS = (0, 2, 10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of three checkpoints, whose names are in another order than their steps."""
    folder = tmp_path_factory.mktemp("runs")
    data = make_pictures(folder / "data")
    (folder / "stores").mkdir()
    for run in ("a", "b"):
        for place, epoch in enumerate(EPOCHS):
            model = saved(mlp(seed=10 * place + ord(run)), folder / "net.onnx")
            cnatool.dump(
                model,
                data,
                folder / f"stores/{run}{9 - place}.zarr",
                keep="statistics",
                tags={"run": run, "epoch": str(epoch), "lr": "0.1"},
            )
    return folder / "stores"


@pytest.mark.parametrize("convention", ["paper", "legacy"])
def test_steps_are_what_score_says(runs: Path, convention: str) -> None:
    found = cnatool.trajectory(runs, by="run", convention=convention, overrides={"alpha_groups": 4})
    assert found.result.order == "epoch"
    assert found.steps["run"].to_list() == ["a"] * 3 + ["b"] * 3
    assert found.steps["step"].to_list() == [*EPOCHS, *EPOCHS]
    assert [[one.step for one in run.steps] for run in found.result.runs] == [[0, 2, 10]] * 2
    whole = cnatool.study(
        runs, convention=convention, overrides={"alpha_groups": 4}, resamples=0
    ).networks
    # But for their order, the rows are those of a study.
    for row in found.steps.to_dicts():
        expected = whole.row(by_predicate=pl.col("id") == row["id"], named=True)
        assert {k: v for k, v in row.items() if k in expected} == expected
        assert row["tag.epoch"] == f"{row['step']:.0f}"
    for run in found.result.runs:
        for one in run.steps:
            score = cnatool.score(one.path, convention=convention, overrides={"alpha_groups": "4"})
            assert one.cna_area.value == score.cna_area.value
            assert one.cna_margin.value == score.cna_margin.value
            assert one.margin == score.margin
            assert one.gap == score.gap
            rows = found.error_by_alpha.filter(pl.col("id") == one.id)
            assert rows["step"].unique().to_list() == [one.step]
            assert rows["split"].to_list() == ["train"] * 4 + ["test"] * 4
            for name, split in score.splits.items():
                here = one.splits[name]
                assert (here.accuracy, here.loss) == (split.accuracy, split.loss)
                assert here.cna.value == split.cna.value
                assert here.alpha_groups == split.alpha_groups
                groups = rows.filter(pl.col("split") == name)
                assert groups["group"].to_list() == [1, 2, 3, 4]
                for column in ("samples", "alpha_min", "alpha_mean", "alpha_max", "error", "loss"):
                    assert groups[column].to_list() == [
                        getattr(group, column) for group in split.alpha_groups
                    ]
                # All samples are in a group: the mean error over groups is that of the split.
                error = (groups["error"] * groups["samples"]).sum() / groups["samples"].sum()
                assert error == pytest.approx(1 - split.accuracy)


def test_intervals_are_those_that_were_asked_for(runs: Path) -> None:
    stores = [runs / "a9.zarr", runs / "a7.zarr"]
    plain = cnatool.trajectory(stores).steps
    names = ("train.cna", "test.cna", "cna_area", "cna_margin")
    edges = [f"{name}.{edge}" for name in names for edge in ("low", "high")]
    assert plain.columns[-8:] == edges
    assert plain.select(edges).null_count().row(0) == (2,) * 8
    overrides = {"resamples": 50, "area_resamples": 20}
    found = cnatool.trajectory(stores, overrides=overrides)
    for row, one in zip(found.steps.to_dicts(), found.result.runs[0].steps, strict=True):
        score = cnatool.score(row["path"], overrides=overrides)
        expected = [score.splits[name].cna.interval for name in ("train", "test")]
        expected += [score.cna_area.interval, score.cna_margin.interval]
        assert [row[name] for name in edges] == [edge for pair in expected for edge in pair]
        assert one.splits["test"].cna.interval == expected[1]
    # The numbers themselves are the same.
    assert found.steps.drop(edges, "convention").equals(plain.drop(edges, "convention"))


def test_scores_are_those_that_a_study_keeps(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    score = collection.score_store
    monkeypatch.setattr(
        collection,
        "score_store",
        lambda store, *a, **k: scored.append(store) or score(store, *a, **k),
    )
    cnatool.study(runs, folder=tmp_path, resamples=0)
    assert len(scored) == 6
    found = cnatool.trajectory(runs, by="run", folder=tmp_path)
    assert (len(scored), found.reused) == (6, 6)
    fresh = cnatool.trajectory(runs, by="run")
    assert found.result == fresh.result
    assert found.steps.equals(fresh.steps)
    text = (tmp_path / "trajectory.json").read_text("utf-8")
    assert text == fresh.result.to_json()
    jsonschema.validate(json.loads(text), json.loads(schema_text("trajectory")))
    for name, frame in (("steps", found.steps), ("error_by_alpha", found.error_by_alpha)):
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(frame)
        assert pl.read_csv(tmp_path / f"{name}.csv", infer_schema_length=None).shape == frame.shape
    # The study's own files are left alone.
    assert (tmp_path / "networks.parquet").exists()


def test_stores_without_tags_are_in_the_order_given(tmp_path: Path) -> None:
    for name in ("last", "first"):
        record_network(tmp_path / f"{name}.zarr", {"train": 60, "test": 50})
    found = cnatool.trajectory([tmp_path / "last.zarr", tmp_path / "first.zarr"])
    assert found.result.order is None
    assert list(zip(found.steps["id"], found.steps["step"], strict=True)) == [
        ("last", 1.0),
        ("first", 2.0),
    ]
    assert found.steps["run"].to_list() == [None, None]
    assert found.result.notes == (
        "no tag gives the steps of the checkpoints: steps are the positions in which they were "
        "given; name a tag with `order`",
    )


def test_what_cannot_be_scored_has_no_step(runs: Path, tmp_path: Path) -> None:
    for name in ("a7", "a8", "a9"):
        shutil.copytree(runs / f"{name}.zarr", tmp_path / f"{name}.zarr")
    (tmp_path / "a8.zarr/zarr.json").write_text("{")
    found = cnatool.trajectory([tmp_path, "gone.zarr"])
    assert found.steps["step"].to_list() == [0, 10]
    assert [Path(one.path).name for one in found.result.not_scored] == ["a8.zarr", "gone.zarr"]
    with pytest.raises(DataError, match=r"no network could be scored. .*a8.zarr: .*And 1 more"):
        cnatool.trajectory([tmp_path / "a8.zarr", "gone.zarr"])
    with pytest.raises(DataError, match="there is 1 store"):
        cnatool.trajectory([tmp_path / "a7.zarr", "gone.zarr"])


def test_what_is_not_one_network_over_the_same_data_is_said(runs: Path, tmp_path: Path) -> None:
    for name in ("a7", "a8", "a9"):
        shutil.copytree(runs / f"{name}.zarr", tmp_path / f"{name}.zarr")
    with changed_attribute(tmp_path / "a8.zarr") as attribute:
        attribute["splits"]["test"]["fingerprint"] = "0" * 64
    with changed_attribute(tmp_path / "a9.zarr") as attribute:
        attribute["layers"][0]["output"] = True
    assert cnatool.trajectory(tmp_path).result.notes == (
        "the layers behind β differ between steps",
        "the samples of split test differ between steps",
    )
    assert cnatool.trajectory(runs, by="run").result.notes == ()


def test_undefined_is_null_with_its_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for place in range(3):
        with cnatool.create_store(
            tmp_path / f"{place}.zarr", tensors=["a", "b", "out"], outputs=["out"],
            tags={"epoch": str(place)},
        ) as store:  # fmt: skip
            x = rng.integers(0, 200, (30, 4, 4), np.uint8)
            activations = {"a": rng.normal(size=(30, 3)), "b": rng.normal(size=(30, 3))}
            if place == 1:
                activations = {"a": np.ones((30, 3)), "b": np.ones((30, 3))}
            store.append(
                "only", inputs=x, outputs=rng.normal(size=(30, 2)), activations=activations
            )
    found = cnatool.trajectory(tmp_path)
    assert found.steps["only.cna"].is_null().to_list() == [False, True, False]
    assert found.steps["cna_area"].null_count() == 3
    assert found.error_by_alpha["error"].null_count() == 15
    (run,) = found.result.runs
    reason = "β is the same for all 30 samples but for rounding"
    assert run.steps[1].splits["only"].cna.reason == reason
    assert run.steps[0].splits["only"].performance_reason == "the split has no labels"
    assert run.steps[0].cna_margin.reason


def test_a_test_split_of_its_own_store(tmp_path: Path) -> None:
    for epoch in range(2):
        for name in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            record_network(tmp_path / f"{name}/{epoch}.zarr", {name: 60})
    found = cnatool.trajectory(tmp_path / "train", test=tmp_path / "test")
    assert found.steps["test.samples"].to_list() == [60, 60]
    assert found.result.notes[1:] == ()
    with pytest.raises(UsageError, match="`test` nowhere: not a folder"):
        cnatool.trajectory(tmp_path / "train", test="nowhere")


def test_an_unclear_order_is_refused_before_anything_is_scored(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "score_store", None)
    with pytest.raises(UsageError, match="`order` epoch and `by` run"):
        cnatool.trajectory(runs, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
