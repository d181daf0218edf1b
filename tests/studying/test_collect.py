"""Stores into rows: what is scored, what is kept, and what is told of the rest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from support.families import dump_family
from support.notes import Notes
from support.recorded import record_network
from support.stores import changed_attribute, forget_checksums

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.studying import collect as collection
from cnatool.studying.find import find_stores, name_stores


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    dump_family(folder)
    return folder / "stores"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the stores that are scored, whatever comes from kept scores."""
    names = []
    score = collection.score_store

    def counted(store: cnatool.Store, *words: object, **options: object) -> object:
        names.append(store.path.name)
        return score(store, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(collection, "score_store", counted)
    return names


def test_a_row_is_what_score_says(family: Path) -> None:
    study = cnatool.study(family, resamples=0)
    assert study.networks["id"].to_list() == [p.stem for p in sorted(family.iterdir())]
    for row in study.networks.to_dicts():
        result = cnatool.score(row["path"])
        assert row["tag.seed"] == result.tags["seed"]
        assert row["model"] == result.model.sha256
        assert row["convention"] == "paper"
        for name, split in result.splits.items():
            assert row[f"{name}.samples"] == split.samples
            assert row[f"{name}.accuracy"] == split.accuracy
            assert row[f"{name}.loss"] == split.loss
            assert row[f"{name}.alpha.mean"] == split.alpha.mean
            assert row[f"{name}.beta.mean"] == split.beta.mean
            assert row[f"{name}.cna"] == split.cna.value
            assert row[f"{name}.cna.kendall"] == split.coefficients.kendall.value
            assert row[f"{name}.cna.minibatches"] == split.coefficients.minibatches.mean
        for name in ("gap", "gap_loss", "cna_area", "margin", "cna_margin"):
            assert row[name] == getattr(result, name).value
        assert row["log.l2"] == result.baselines.l2.log
        assert row["log.parameters"] == result.baselines.parameters.log
        assert row["log.distance"] is None
    reasons = {one.measure: one for one in study.result.undefined}
    assert reasons["log.distance"].networks == 8
    assert reasons["log.distance"].reason == result.baselines.distance.reason


def test_scores_are_kept_and_taken(family: Path, tmp_path: Path, scored: list[str]) -> None:
    stores = sorted(family.iterdir())
    first = cnatool.study(stores[:5], folder=tmp_path)
    assert (len(scored), first.reused) == (5, 0)
    whole = cnatool.study(stores, folder=tmp_path)
    assert (len(scored), whole.reused) == (8, 5)
    again = cnatool.study(family, folder=tmp_path)
    assert (len(scored), again.reused) == (8, 8)
    assert again.networks.equals(whole.networks)
    assert again.result == whole.result
    fresh = cnatool.study(family)
    assert fresh.networks.equals(again.networks)
    # Another convention is another score, and leaves the first where it is.
    del scored[:]
    other = cnatool.study(family, folder=tmp_path, convention="reference")
    assert (len(scored), other.reused) == (8, 0)
    assert other.networks["convention"].unique().to_list() == ["reference"]
    assert cnatool.study(family, folder=tmp_path, overrides={"bins": 9}).reused == 0
    assert cnatool.study(family, folder=tmp_path).reused == 8


def test_a_study_that_was_cut_off_goes_on(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: list[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        cnatool.study(family, folder=tmp_path, observer=Notes(at=3))
    assert len(scored) == 3
    study = cnatool.study(family, folder=tmp_path)
    assert (len(scored), study.reused) == (8, 3)
    # A kept score that is broken is computed again.
    kept = sorted((tmp_path / "scores").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    kept[1].unlink()
    assert cnatool.study(family, folder=tmp_path).reused == 6


def test_what_changes_a_store_changes_its_score(
    family: Path, tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "net.zarr"
    shutil.copytree(family / "shape0-0.zarr", store)
    out = tmp_path / "out"
    # The same store elsewhere is the same.
    assert cnatool.study([family / "shape0-0.zarr", store], folder=out).reused == 1
    with changed_attribute(store) as attribute:
        attribute["splits"]["train"]["fingerprint"] = "0" * 64
    assert cnatool.study(store, folder=out).reused == 0
    monkeypatch.setattr("cnatool.studying.collect.__version__", "9.9.9")
    assert cnatool.study(store, folder=out).reused == 0
    # The same values recorded once more are the same, without a model's digest too.
    for reused in (0, 1):
        shutil.rmtree(tmp_path / "mine.zarr", ignore_errors=True)
        record_network(tmp_path / "mine.zarr", {"train": 60, "test": 50})
        assert cnatool.study(tmp_path / "mine.zarr", folder=out).reused == reused


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_stores_are_told_apart_by_content(tmp_path: Path, scored: list[str], suffix: str) -> None:
    """Three recordings over the same data, equal in size, as if made at the same time."""
    folder = tmp_path / "nets"
    folder.mkdir()
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8), np.uint8), rng.integers(0, 2, 60)
    for name in "abc":
        tensors = dict.fromkeys(("one", "two", "three"), "Linear")
        path = folder / f"{name}{suffix}"
        with cnatool.create_store(path, tensors=tensors, outputs=["three"], codec="none") as store:
            one, two, three = rng.standard_normal((3, 60, 4)).astype(np.float32)
            values = {"one": one, "two": two, "three": three}
            for split in ("train", "test"):
                store.append(split, inputs=x, labels=y, outputs=three, activations=values)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18))
    out = tmp_path / "out"
    first = cnatool.study(folder, folder=out)
    assert (first.reused, len(scored)) == (0, 3)
    assert first.networks["test.accuracy"].n_unique() > 1
    again = cnatool.study(folder, folder=out)
    assert (again.reused, len(scored)) == (3, 3)
    assert again.networks.equals(first.networks)
    # Without checksums nothing tells what is in them.
    for path in folder.iterdir():
        forget_checksums(path)
    assert cnatool.study(folder, folder=out).reused == 0
    assert cnatool.study(folder, folder=out).reused == 0


def test_what_cannot_be_scored_is_told(family: Path, tmp_path: Path) -> None:
    good, broken, unfinished, flipped = (
        tmp_path / f"{name}.zarr" for name in ("good", "broken", "unfinished", "flipped")
    )
    for store in (good, broken, unfinished, flipped):
        shutil.copytree(family / "shape1-0.zarr", store)
    (broken / "zarr.json").write_text("{}")
    with changed_attribute(unfinished) as attribute:
        attribute["splits"]["test"] |= {
            "complete": False,
            "committed": [[0, 40]],
            "checksums": None,
        }
    sums = next(
        p
        for p in (flipped / "splits/test/statistics/sum").rglob("*")
        if p.name != "zarr.json" and p.is_file()
    )
    content = bytearray(sums.read_bytes())
    content[len(content) // 2] ^= 1
    sums.write_bytes(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("no store")
    study = cnatool.study(
        [
            good,
            broken,
            unfinished,
            flipped,
            "nowhere.zarr",
            tmp_path / "text.h5",
            tmp_path / "empty",
        ]
    )
    assert study.networks["id"].to_list() == ["good"]
    reasons = {Path(one.path).name: one.reason for one in study.result.not_scored}
    assert list(reasons) == [
        "empty", "broken.zarr", "unfinished.zarr", "flipped.zarr", "nowhere.zarr", "text.h5"
    ]  # fmt: skip
    assert reasons["empty"] == "no store is in this folder"
    assert "zarr.json cannot be read" in reasons["broken.zarr"]
    assert reasons["unfinished.zarr"].endswith(
        "is not finished: it has 40 of 60 rows of test. Wait until its dump ends or, if that "
        "was interrupted, run the same dump again with `resume=True` to continue it."
    )
    assert "checksum" in reasons["flipped.zarr"]
    assert reasons["nowhere.zarr"] == "nowhere.zarr: no such file or folder."
    with pytest.raises(DataError, match="no network could be scored. nowhere.zarr: no such file"):
        cnatool.study("nowhere.zarr")
    with pytest.raises(UsageError, match="`convention` 'x': choose"):
        cnatool.study(good, convention="x")


def test_a_frame_joins_by_id_and_replaces(family: Path) -> None:
    extra = pl.DataFrame(
        {
            "id": ["shape0-1", "shape1-3", "elsewhere"],
            "sharpness": [1.0, 2.0, 3.0],
            "margin": [0.25, None, 0.75],
            "tag.shape": ["9", None, "7"],
        }
    )
    alone = cnatool.study(family, resamples=0).networks
    study = cnatool.study(family, frame=extra, resamples=0)
    rows = {row["id"]: row for row in study.networks.to_dicts()}
    assert list(rows) == [*alone["id"], "elsewhere"]
    assert rows["shape0-1"]["margin"] == 0.25
    assert rows["shape0-1"]["tag.shape"] == "9"
    before = {row["id"]: row for row in alone.to_dicts()}
    assert rows["shape1-3"]["margin"] == before["shape1-3"]["margin"]
    assert rows["shape1-3"]["tag.shape"] == "1"
    assert rows["shape0-0"] == before["shape0-0"] | {"sharpness": None}
    assert rows["elsewhere"]["test.accuracy"] is None
    assert rows["elsewhere"]["margin"] == 0.75


def test_a_frame_stands_where_no_store_could_be_scored() -> None:
    frame = pl.DataFrame({"id": ["a", "b", "c"], "gap": [1.0, 2, 3], "m": [3.0, 2, 1]})
    study = cnatool.study("nowhere.zarr", frame=frame, resamples=0)
    assert study.networks["id"].to_list() == ["a", "b", "c"]
    assert len(study.result.not_scored) == 1
    (one,) = study.result.correlations
    assert one.pearson.value == pytest.approx(-1)


def test_test_splits_in_stores_of_their_own(tmp_path: Path, family: Path) -> None:
    data = family.parent / "data"
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for seed in range(3):
            cnatool.dump(
                family.parent / f"shape0-{seed}.onnx",
                data / f"{part}.npz",
                tmp_path / part / f"net{seed}.zarr",
                keep="statistics",
            )
    shutil.rmtree(tmp_path / "test/net2.zarr")
    study = cnatool.study(tmp_path / "train", test=tmp_path / "test", folder=tmp_path / "out")
    assert study.networks["id"].to_list() == ["net0", "net1"]
    expected = cnatool.score(tmp_path / "train/net1.zarr", tmp_path / "test/net1.zarr")
    assert study.networks["cna_area"][1] == expected.cna_area.value
    assert study.networks["test_path"][1] == str(tmp_path / "test/net1.zarr")
    (missing,) = study.result.not_scored
    assert missing.path.endswith("train/net2.zarr")
    assert missing.reason.endswith("test/net2.zarr: no such file or folder.")
    with pytest.raises(UsageError, match="not a folder of stores"):
        cnatool.study(tmp_path / "train", test=tmp_path / "nothing")


def test_folders_are_searched_and_ids_tell_apart(tmp_path: Path) -> None:
    names = ["a/x.zarr", "a/y.h5", "b/x.zarr", "b/c/z.zarr.zip", "b/x.h5", "note.txt", ".h.zarr"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith(".zarr") else path.touch()
    (tmp_path / "a/x.zarr/inner.zarr").mkdir()
    found = find_stores([tmp_path / "b/c", tmp_path, tmp_path / "a" / "x.zarr"])
    stores = found.stores
    assert [str(path.relative_to(tmp_path)) for path in stores] == [
        "b/c/z.zarr.zip", "a/x.zarr", "a/y.h5", "b/x.h5", "b/x.zarr"
    ]  # fmt: skip
    assert (found.rejected, found.notes) == ([], ())
    assert name_stores(stores) == ["z", "x", "y", "x.h5", "x.zarr"]
    assert name_stores([stores[1], tmp_path / "b/x", stores[2]]) == ["a/x", "b/x", "y"]
    assert len(set(name_stores(stores))) == len(stores)


def test_folders_that_link_to_each_other_or_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs/a/x.zarr").mkdir(parents=True)
    (tmp_path / "elsewhere/y.zarr").mkdir(parents=True)
    (tmp_path / "runs/back").symlink_to(tmp_path / "runs")
    (tmp_path / "runs/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/secret").mkdir()
    listing = Path.iterdir

    def refusing(path: Path) -> object:
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    found = find_stores([tmp_path / "runs"])
    assert [path.name for path in found.stores] == ["x.zarr", "y.zarr"]
    assert [(Path(one.path).name, one.reason) for one in found.rejected] == [
        ("secret", "it cannot be read: Permission denied")
    ]


def test_kept_scores_are_small_and_valid(family: Path, tmp_path: Path) -> None:
    from cnatool.scoring.results import ScoreResult

    cnatool.study(family, folder=tmp_path)
    for path in (tmp_path / "scores").iterdir():
        kept = msgspec.json.decode(path.read_bytes())
        assert kept.keys() == {"sha256", "score"}
        result = msgspec.convert(kept["score"], ScoreResult)
        assert result.splits["train"].samples == 80
        assert path.stat().st_size < 50_000


def test_a_network_that_counts_twice_is_said(family: Path, tmp_path: Path) -> None:
    first, *others = sorted(family.iterdir())
    copy = shutil.copytree(first, tmp_path / "copy.zarr")
    converted = cnatool.convert(first, tmp_path / "other.h5").path
    stores = [first, *others]
    assert not any("counts twice" in text for text in cnatool.study(stores).result.notes)
    for copies, more in (([copy], ""), ([copy, converted], ", and 1 more")):
        study = cnatool.study([*stores, *copies], resamples=0)
        assert study.result.networks == len(stores) + len(copies)
        assert study.result.notes[0] == (
            f"the same network counts twice: copy and {first.stem} have the same model, samples "
            f"and scores{more}. Remove the copies"
        )
