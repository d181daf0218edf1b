"""A store made of parts is read as the store of one process is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.command import document, run
from support.dumps import commit_often
from support.notes import Notes
from support.parts import TRAIN, Parts, tree
from support.stores import changed_attribute

import cnatool
from cnatool.errors import StoreDamagedError
from cnatool.store import parts as parted
from cnatool.store.integrity import attribute_digest

FORMS = ["zarr", "h5"]
KEYS = ["ids", "labels", "inputs/0", "outputs/0", "activations/0", "statistics/sum"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def here(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    commit_often(monkeypatch)
    return Parts(tmp_path, kept=kept)


def merged(here: Parts, count: int = 5, form: str = "zarr", **options: Any) -> cnatool.Store:
    return cnatool.merge(here.parts(count, form, **options), here.folder / f"merged.{form}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS)
def test_rows_are_indexed_as_those_of_one_store(key: str, form: str, here: Parts) -> None:
    truth = here.dump(f"whole.{form}").splits["train"].array(key)
    array = merged(here, 7, form).splits["train"].array(key)
    assert (array.shape, array.dtype, len(array)) == (truth.shape, truth.dtype, TRAIN)
    assert (array.chunk_rows, array.codec) == (truth.chunk_rows, truth.codec)
    values = truth[:]
    for index in (
        *(slice(None), slice(40, 41), slice(60, 200), slice(332, None), slice(10, 10), -1),
        *([331, 2, 70, 70], slice(None, None, -7), np.arange(TRAIN) % 50 == 3),
    ):
        np.testing.assert_array_equal(array[index], values[index])
    starts, blocks = zip(*array.blocks(), strict=True)
    assert starts == tuple(start for start, _ in truth.blocks())
    np.testing.assert_array_equal(np.concatenate(blocks), values)


@pytest.mark.parametrize(("keep", "form"), [("full", "h5"), ("statistics", "zarr")])
def test_commands_say_of_it_what_they_say_of_one_store(keep: str, form: str, here: Parts) -> None:
    """The same bytes of JSON, but for the path."""
    folder = here.folder
    for side in ("whole", "parted"):
        (folder / side).mkdir()
    here.dump(f"whole/s.{form}", keep=keep)
    paths = here.parts(6, form, keep=keep)
    cnatool.merge(paths, folder / f"parted/s.{form}")
    other = here.dump("other.zarr", model="other.onnx", keep=keep).path
    name = f"s.{form}"

    def printed(*words: object, side: str, code: int = 0) -> str:
        return run(*words, cwd=folder / side, code=code).stdout

    few = [f"--set={key}=20" for key in ("resamples", "permutations", "area_resamples")]
    for words in (
        ("score", name, "--json", *few),
        ("layers", name, "--json"),
        ("verify", name, "--json"),
        ("compare", name, other, "--json", *few),
        ("compare", other, name, "--json", *few),
    ):
        code = 1 if words[0] == "compare" else 0
        one, parts = (printed(*words, side=side, code=code) for side in ("whole", "parted"))
        assert one == parts
        assert json.loads(one)
    # The same network and the same data.
    same = json.loads(printed("compare", name, f"../whole/{name}", "--json", *few, side="parted"))
    assert {split["same_data"] for split in same["splits"].values()} == {True}
    for side in ("whole", "parted"):
        run("score", name, "--samples", "samples.csv", *few, cwd=folder / side)
        run("study", name, other, "-o", "study", "--resamples", 20, cwd=folder / side)
        run("convert", name, "copy.zarr", cwd=folder / side)
        run("plot", name, "--figure", "alpha-beta", "-o", "figure.json", cwd=folder / side)
    for file in ("samples.csv", "figure.json"):
        assert (folder / "whole" / file).read_text() == (folder / "parted" / file).read_text()
    frames = [pl.read_csv(folder / side / "study/networks.csv") for side in ("whole", "parted")]
    assert frames[0].equals(frames[1])
    assert tree(folder / "whole/copy.zarr") == tree(folder / "parted/copy.zarr")


def test_it_is_inspected(here: Parts) -> None:
    store = merged(here, 3)
    found = document("inspect", "inspect", store.path, cwd=here.folder)
    assert found["splits"]["train"]["rows"] == TRAIN
    assert [part["store"] for part in found["parts"]] == ["p1.zarr", "p2.zarr", "p3.zarr"]
    text = run("inspect", store.path, cwd=here.folder).stdout
    assert "merged from 3 parts, the first p1.zarr" in text
    part = document("inspect", "inspect", "p2.zarr", cwd=here.folder)["part"]
    assert (part["number"], part["count"]) == (2, 3)
    text = run("inspect", "p2.zarr", cwd=here.folder).stdout
    assert "part 2 of 3 of a dump: rows 192 to 332 of 333 of train; `cnatool merge`" in text


def test_the_fingerprint_is_that_of_one_store(here: Parts) -> None:
    whole = here.dump("whole.zarr")
    store = merged(here)
    for name, split in store.splits.items():
        assert split.record.fingerprint is None
        assert split.fingerprint == whole.splits[name].record.fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_few_parts_are_open_at_a_time(
    form: str, here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening reads no part, and reading opens each one once where rows are read in order."""
    monkeypatch.setattr(parted, "_MOST_OPEN", 2)
    path = merged(here, 9, form).path
    opened: list[int] = []
    original = parted.MergedParts._open

    def open_part(self: Any, number: int) -> parted.OpenedPart:
        opened.append(number)
        return original(self, number)

    monkeypatch.setattr(parted.MergedParts, "_open", open_part)
    store = cnatool.open(path)
    array = store.splits["train"].activations("fc2")
    assert opened == []
    for row in range(0, TRAIN, 5):
        array[row]
    assert opened == sorted(set(opened))
    assert len(opened) > 4


def test_parts_of_other_formats_in_other_folders(here: Parts) -> None:
    truth = cnatool.score(here.dump("whole.zarr").path).splits
    forms = enumerate(("h5", "zarr", "h5"), 1)
    paths = [here.dump(f"p{n}.{form}", part=(n, 3)).path for n, form in forms]
    (here.folder / "a/b").mkdir(parents=True)
    paths[2] = paths[2].rename(here.folder / "a/p3.h5")
    store = cnatool.merge(paths, here.folder / "a/b/s.h5")
    names = [part.store for part in store.record.parts]
    assert names == ["../../p1.h5", "../../p2.zarr", "../p3.h5"]
    assert cnatool.score(store.path).splits == truth
    # Moved together.
    moved = here.folder / "moved"
    moved.mkdir()
    for name in ("p1.h5", "p2.zarr", "a"):
        (here.folder / name).rename(moved / name)
    assert cnatool.score(moved / "a/b/s.h5").splits == truth


def test_a_part_that_was_moved(here: Parts) -> None:
    store = merged(here)
    (here.folder / "p2.zarr").rename(here.folder / "elsewhere.zarr")
    text = r"merged\.zarr: part 2 of 5 is .*/p2\.zarr, and there is no such store\. Move it back"
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.score(store.path)
    assert re.search(text, run("score", store.path, code=3, cwd=here.folder).stderr)
    (fault,) = cnatool.verify(store.path).faults
    assert (fault.where, fault.rows) == ("part 2", None)
    assert re.search(text, f"{store.path}: {fault.problem}")
    # Rows of other parts are still read.
    assert len(cnatool.open(store.path).splits["train"].ids[:50]) == 50


def test_a_part_that_was_replaced(here: Parts) -> None:
    store = merged(here)
    here.dump("p2.zarr", model="other.onnx", part=(2, 5), overwrite=True)
    text = r"part 2 of 5 is .*/p2\.zarr, which is not the store that was merged: its attribute has"
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.score(store.path)


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_is_damaged(form: str, here: Parts) -> None:
    store = merged(here, form=form)
    path = here.folder / f"p3.{form}"
    file = max(path.rglob("c.*"), key=lambda f: f.stat().st_size) if form == "zarr" else path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    faults = cnatool.verify(store.path).faults
    assert faults
    assert all(fault.problem.startswith(str(path)) for fault in faults)


def test_metadata_of_parts_are_verified(here: Parts) -> None:
    store = merged(here)
    (here.folder / "p3.zarr/splits/zarr.json").write_text("{")
    fault, _ = cnatool.verify(store.path).faults
    assert re.match(r"of part 3 \(.*/p3\.zarr\): zarr\.json cannot be read", fault.problem)


def test_a_part_made_of_parts_is_none(here: Parts) -> None:
    store = cnatool.open(merged(here).path)  # whose parts are not open yet
    inner = here.folder / "p1.zarr"
    shutil.rmtree(inner)
    shutil.copytree(store.path, inner)
    with pytest.raises(
        StoreDamagedError, match="is a part of a merged store, but consists of parts itself"
    ):
        store.splits["train"].ids[:]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"parts": []}, "it is made of 0 parts"),
        ({"store": "/etc/p1.zarr"}, "which is not a relative path"),
        ({"sha256": "12"}, "'12' is not a SHA-256"),
        ({"rows": {"train": 3}}, "but its parts have"),
        ({"rows": {"train": -3}}, "a negative number of rows"),
    ],
)
def test_references_that_cannot_be(change: dict[str, Any], text: str, here: Parts) -> None:
    store = merged(here)
    with changed_attribute(store.path) as about:
        if "parts" in change:
            about.update(change)
        else:
            about["parts"][0].update(change)
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.open(store.path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"number": 6}, "it is part 6 of 5"),
        ({"first": {"train": 300, "test": 0}}, "split 'train' has rows 300 to"),
        ({"rows": {"train": 333}}, "it is a part of a dump with other splits"),
    ],
)
def test_parts_that_cannot_be(change: dict[str, Any], text: str, here: Parts) -> None:
    store = here.dump("p.zarr", part=(1, 5))
    with changed_attribute(store.path) as about:
        about["part"].update(change)
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.open(store.path)


def test_a_part_with_other_arrays(here: Parts) -> None:
    """A reference can be made up, with the digest of a store whose arrays differ."""
    store = merged(here)
    other = here.dump("p2.zarr", part=(2, 5), keep="full", dtype="float16", overwrite=True)
    with changed_attribute(store.path) as about:
        about["parts"][1]["sha256"] = attribute_digest(other.attribute())
    text = r"p2\.zarr: array splits/train/activations/0 is .* of float16 instead of .* of float32"
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.open(store.path).splits["train"].activations("fc1")[:]


def test_it_is_replaced_as_any_store(here: Parts) -> None:
    store = merged(here)
    here.dump("merged.zarr", overwrite=True)
    assert cnatool.open(store.path).parts is None
    assert len(list(here.folder.glob("p?.zarr"))) == 5


def test_other_dumps_share_its_inputs(here: Parts) -> None:
    whole = here.dump("whole.zarr")
    store = merged(here)
    later = here.dump("later.zarr", model="other.onnx", inputs_from=store.path)
    own = here.dump("own.zarr", model="other.onnx")
    assert later.splits["train"].record.inputs_from.fingerprint == (
        whole.splits["train"].record.fingerprint
    )
    assert cnatool.score(later.path).splits == cnatool.score(own.path).splits
    # The copy of the merged store has the same inputs.
    shutil.rmtree(store.path)
    assert cnatool.score(later.path, inputs=whole.path).splits == cnatool.score(own.path).splits


def test_a_dump_that_resumes_it_leaves_it_alone(here: Parts) -> None:
    notes, before = Notes(), merged(here).record
    assert here.dump("merged.zarr", resume=True, observer=notes).record == before
    assert notes.texts[-1].endswith("merged.zarr is complete: there is nothing left to do")
    with pytest.raises(cnatool.UsageError, match="was started with batches of .*batch_size=32"):
        here.dump("merged.zarr", resume=True, batch_size=32)
