"""Stores that refer to the raw inputs of another: scored as if they held them, or refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from campaigns.processes import Commands
from PIL import Image
from support.command import run
from support.dumps import commit_often, make_data
from support.networks import mlp, saved
from support.stores import changed_attribute, forget_checksums

import cnatool
from cnatool._util.observer import Silent
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.scoring import alpha as scored_inputs

TRAIN, TEST = 333, 150
FORMATS = ["zarr", "h5"]
OUTPUT = {"include_output": True}
CONVENTIONS = ["paper", "reference", "legacy"]
FEWER = {"resamples": 20, "permutations": 20, "area_resamples": 20}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two networks, data, and a store of the first in both formats."""
    folder = make_data(tmp_path_factory.mktemp("made"), TRAIN, TEST)
    saved(mlp(seed=5), folder / "later.onnx")
    for form in FORMATS:
        cnatool.dump(folder / "net.onnx", folder / "data", folder / f"base.{form}")
    return folder


@pytest.fixture
def here(tmp_path: Path, made: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def later(here: Path, name: str = "s.zarr", base: str | None = "base.zarr", **more: Any) -> Path:
    """Dump the second network."""
    given = {} if base is None else {"inputs_from": here / base}
    cnatool.dump(here / "later.onnx", here / "data", here / name, **given | more)
    return here / name


def scored(path: Path, **options: Any) -> Any:
    """Score a store quickly; give the scores of its splits."""
    return cnatool.score(path, overrides=FEWER, **options).splits


def keys(path: Path) -> set[str]:
    """Name the arrays of a store by the format's own library."""
    found: set[str] = set()
    if path.suffix == ".h5":
        with h5py.File(path, "r") as root:
            root.visititems(
                lambda key, one: found.add(key) if isinstance(one, h5py.Dataset) else None
            )
    else:
        members = zarr.open_group(path, mode="r").members(None)
        found = {key for key, one in members if isinstance(one, zarr.Array)}
    return found


def alpha(path: Path, split: str, **options: Any) -> np.ndarray:
    frame = cnatool.score_samples(path, **options)
    return frame.filter(split=split)["alpha"].to_numpy()


@pytest.mark.parametrize(
    ("form", "base", "keep"),
    [("zarr", "h5", "full"), ("h5", "zarr", "statistics"), ("zarr", "zarr", "statistics")],
)
def test_scores_are_those_of_a_store_with_its_own_inputs(
    form: str, base: str, keep: str, here: Path
) -> None:
    own = later(here, f"own.{form}", None, keep=keep)
    path = later(here, f"s.{form}", f"base.{base}", keep=keep)
    assert keys(path) == {key for key in keys(own) if "/inputs/" not in key}
    for split in ("train", "test"):
        found, truth = cnatool.open(path).splits[split], cnatool.open(own).splits[split]
        np.testing.assert_array_equal(found.inputs()[:], np.load(here / f"data/{split}.npz")["x"])
        assert found.record.fingerprint == truth.record.fingerprint
        for convention in CONVENTIONS:
            one = alpha(path, split, convention=convention)
            assert one.tobytes() == alpha(own, split, convention=convention).tobytes()
    for convention in CONVENTIONS:
        one, other = (
            json.loads(cnatool.score(p, convention=convention, overrides=FEWER).to_json())
            for p in (path, own)
        )
        assert one | {"store": ""} == other | {"store": ""}
    assert cnatool.score_layers(path).splits == cnatool.score_layers(own).splits
    assert cnatool.verify(path).faults == ()
    assert cnatool.verify(path).bytes == cnatool.verify(own).bytes


def test_every_form_of_input(tmp_path: Path) -> None:
    """Histograms of levels, and samples that were skipped."""
    saved(mlp(), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 12)):
        (tmp_path / f"data/{split}/a").mkdir(parents=True)
        for row in range(count):
            picture = Image.fromarray(rng.integers(0, 256, (9, 11), np.uint8))
            picture.save(tmp_path / f"data/{split}/a/{row:03}.png")
        (tmp_path / f"data/{split}/a/010.png").write_bytes(b"no picture")
    options: dict[str, Any] = {"resize": (8, 8), "on_error": "skip"}
    words = (tmp_path / "net.onnx", tmp_path / "data")
    own = cnatool.dump(*words, tmp_path / "own.zarr", **options)
    store = cnatool.dump(*words, tmp_path / "s.h5", inputs_from=own.path, **options)
    assert store.splits["train"].record.inputs_from is not None
    assert len(store.splits["train"]) == 29
    for split in ("train", "test"):
        assert store.splits[split].holds_levels()
        assert alpha(store.path, split).tobytes() == alpha(own.path, split).tobytes()
    with pytest.raises(UsageError, match="contains levels of inputs: pass `keep_inputs='levels'`"):
        cnatool.dump(
            *words, tmp_path / "t.zarr", inputs_from=own.path, keep_inputs="values", **options
        )
    (tmp_path / "data/test/a/011.png").write_bytes(b"no picture either")
    with pytest.raises(
        DataError, match=r"split 'test' has 10 samples, but .*own\.zarr.*, has 11\."
    ):
        cnatool.dump(*words, tmp_path / "t.zarr", inputs_from=own.path, **options)


def test_other_labels(here: Path) -> None:
    """Shuffled labels are what networks that share inputs may differ in."""
    with np.load(here / "data/train.npz") as data:
        shuffled = np.random.default_rng(7).permutation(data["y"])
        np.savez(here / "data/train.npz", x=data["x"], y=shuffled)
    own, path = later(here, "own.zarr", None), later(here)
    labels = cnatool.open(path).splits["train"].labels
    assert labels is not None
    np.testing.assert_array_equal(labels[:], shuffled)
    for one in (own, path):
        assert cnatool.verify(one).faults == ()
    base, found = (cnatool.open(p).splits["train"].record for p in (here / "base.zarr", path))
    assert found.inputs_from is not None
    assert found.inputs_from.fingerprint == base.fingerprint != found.fingerprint
    assert scored(path) == scored(own)


def test_one_reference_leads_to_the_inputs(here: Path) -> None:
    """A store that refers to one that refers refers to where the inputs are."""
    (here / "deep/er").mkdir(parents=True)
    later(here, "deep/s.h5")
    path = later(here, "deep/er/t.zarr", "deep/s.h5")
    split = cnatool.open(path).splits["test"].record
    assert split.inputs_from is not None
    assert split.inputs_from.store == "../../base.zarr"
    (here / "deep/s.h5").unlink()
    assert cnatool.verify(path).faults == ()
    # Written by hand, a chain is refused.
    later(here, "s.zarr")
    with changed_attribute(path) as about:
        for one in about["splits"].values():
            one["inputs_from"]["store"] = "../../s.zarr"
    with pytest.raises(MetricError, match="itself refers to another store"):
        cnatool.score(path)
    with pytest.raises(UsageError, match="Name the store that contains the inputs itself"):
        later(here, "u.zarr", "deep/er/t.zarr")


def test_stores_that_move(here: Path) -> None:
    path = later(here)
    expected = scored(path)
    # Both together, to wherever.
    (here / "elsewhere").mkdir()
    for name in ("s.zarr", "base.zarr"):
        shutil.move(here / name, here / "elsewhere" / name)
    path = here / "elsewhere/s.zarr"
    assert scored(path) == expected
    # One of them.
    shutil.move(here / "elsewhere/base.zarr", here / "moved.zarr")
    with pytest.raises(MetricError, match=r"no such store\. If it was moved, name it with"):
        cnatool.score(path)
    faults = cnatool.verify(path).faults
    assert [fault.where for fault in faults] == ["splits/train/inputs/0", "splits/test/inputs/0"]
    assert all("no such store" in fault.problem for fault in faults)
    # The same data in another format has the same fingerprint.
    for named in (here / "moved.zarr", [here / "s2.zarr", here / "base.h5"]):
        later(here, "s2.zarr", "base.h5", overwrite=True, tags={"a": "b"})
        assert scored(path, inputs=named) == expected
        assert cnatool.score_layers(path, inputs=named).splits
        assert cnatool.verify(path, inputs=named).faults == ()
    # A link to the store is no other place of it.
    (here / "link").symlink_to(here / "elsewhere", target_is_directory=True)
    shutil.move(here / "moved.zarr", here / "elsewhere/base.zarr")
    assert scored(here / "link/s.zarr") == expected


def other_data(here: Path, **changed: Any) -> None:
    """Dump the base over other data."""
    with np.load(here / "data/train.npz") as data:
        arrays = {"x": data["x"].copy(), "y": data["y"].copy()}
    for key, change in changed.items():
        arrays[key] = change(arrays[key])
    np.savez(here / "data/train.npz", **arrays)
    cnatool.dump(here / "net.onnx", here / "data", here / "base.zarr", overwrite=True)


def flipped(x: np.ndarray) -> np.ndarray:
    x[200, 3, 3] ^= 1
    return x


def test_what_became_other_data_is_refused(here: Path) -> None:
    path = later(here)
    other_data(here, x=flipped)
    with pytest.raises(MetricError, match="contains other data now: its fingerprint is"):
        cnatool.score(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda split: split.update(rows=332, committed=[[0, 332]]), "has 332 rows instead of 333"),
        (
            lambda split: split.update(inputs_from={"store": "t", "fingerprint": "0" * 64}),
            "itself refers",
        ),
        (lambda split: split.update(fingerprint=None), "its fingerprint is none"),
    ],
)
def test_what_says_that_it_is_the_same_is_looked_at(change: Any, text: str, here: Path) -> None:
    path = later(here)
    with changed_attribute(here / "base.zarr") as about:
        change(about["splits"]["train"])
    with pytest.raises(MetricError, match=text):
        cnatool.score(path)


def test_other_ids_are_refused(here: Path) -> None:
    path = later(here)
    ids = zarr.open_array(here / "base.zarr/splits/train/ids", mode="r+")
    values = ids[:]
    values[77] = "another"
    shutil.rmtree(here / "base.zarr/splits/train/ids")
    root = zarr.open_group(here / "base.zarr", mode="r+", use_consolidated=False)
    root.create_array("splits/train/ids", shape=values.shape, dtype=str)[:] = values
    forget_checksums(here / "base.zarr")
    with pytest.raises(MetricError, match="whose row 77 has another id"):
        cnatool.score(path)


def test_inputs_that_were_forged_fail_the_check(here: Path) -> None:
    """A store may claim a fingerprint; `verify` takes it of the values themselves."""
    path = later(here)
    truth = cnatool.open(here / "base.zarr").splits["train"].record.fingerprint
    other_data(here, x=flipped)
    with changed_attribute(here / "base.zarr") as about:
        about["splits"]["train"]["fingerprint"] = truth
    assert scored(path)
    (fault,) = cnatool.verify(path).faults
    assert fault.problem == "inputs and labels do not match the fingerprint"


@pytest.mark.parametrize(
    "way", ["/etc/passwd", "C:/x.zarr", "//host/share/x.zarr", "a\\b.zarr", "", "a\x1b[2Jb"]
)
def test_paths_that_no_reference_has(way: str, here: Path) -> None:
    path = later(here)
    with changed_attribute(path) as about:
        about["splits"]["train"]["inputs_from"]["store"] = way
    with pytest.raises(cnatool.StoreDamagedError, match="not a relative path"):
        cnatool.open(path)


@pytest.mark.parametrize("what", ["file", "pipe", "folder", "long", "itself"])
def test_only_stores_are_opened(what: str, here: Path) -> None:
    path = later(here)
    ways = {"long": "x" * 5000, "itself": "s.zarr"}
    if what == "file":
        (here / "file").write_text("root:x:0:0")
    elif what == "pipe":
        os.mkfifo(here / "pipe")
    elif what == "folder":
        (here / "folder").mkdir()
    with changed_attribute(path) as about:
        about["splits"]["train"]["inputs_from"]["store"] = ways.get(what, what)
    said = run("score", "s.zarr", cwd=here, code=2).stderr
    assert "raw inputs of split 'train'" in said.replace("\n", " ")
    assert "root:" not in said


def test_a_dump_over_other_data_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match=r"split 'train' has 333 samples, but this dump has 100\."):
        later(here, limit=100)
    with pytest.raises(UsageError, match="has no split 'extra'"):
        cnatool.dump(
            here / "later.onnx",
            store=here / "s.zarr",
            splits={"extra": here / "data/test.npz"},
            inputs_from=here / "base.zarr",
        )
    with pytest.raises(UsageError, match="cannot be both what this dump reads"):
        later(here, "base.zarr", overwrite=True)
    with np.load(here / "data/test.npz") as data:
        np.savez(here / "data/test.npz", x=flipped_at(data["x"], 149), y=data["y"])
    with pytest.raises(
        DataError, match=r"split 'test': row 149 \(149\) has another input in .*base\.zarr"
    ):
        later(here)
    assert not any("s.zarr" in path.name for path in here.iterdir() if not cut_off(path))


def flipped_at(x: np.ndarray, row: int) -> np.ndarray:
    x = x.copy()
    x[row, 0, 0] ^= 1
    return x


def cut_off(path: Path) -> bool:
    """Whether a path is the unfinished store that a dump leaves whose rows were safe."""
    return path.suffix == ".zarr" and not all(
        split.record.complete for split in cnatool.open(path).splits.values()
    )


class _Stop(Silent):
    def progress(self, split: str, done: int, rows: int) -> None:
        if split == "train" and done >= 200:
            raise KeyboardInterrupt


@pytest.mark.parametrize("form", FORMATS)
def test_resuming(form: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_often(monkeypatch)
    own = later(here, f"own.{form}", None)
    path = here / f"s.{form}"
    with pytest.raises(KeyboardInterrupt):
        later(here, path.name, observer=_Stop())
    # What is there is scored meanwhile.
    rows = len(cnatool.open(path).splits["train"])
    assert 0 < rows < TRAIN
    frame = cnatool.score_samples(path).filter(split="train")
    truth = cnatool.score_samples(own).filter(split="train")
    assert frame["alpha"].to_list() == truth["alpha"].to_list()[:rows]
    for base, text in (
        (None, r"inputs from .*base\.zarr.* in the store and none now"),
        ("base.h5", r"inputs from store base\.zarr in the store and base\.h5 now"),
    ):
        with pytest.raises(UsageError, match=text):
            later(here, path.name, base, resume=True)
    later(here, path.name, resume=True)
    assert cnatool.verify(path).faults == ()
    assert scored(path) == scored(own)
    with pytest.raises(UsageError, match="inputs from none in the store"):
        later(here, own.name, resume=True)


def test_killed(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As an own process that dies, and goes on by the same command."""
    words = ("dump", "later.onnx", "data", "-o", "s.zarr", "--resume")
    words += ("--inputs-from", "base.zarr", "--batch-size", 4)
    with Commands(tmp_path_factory.mktemp("said")) as commands:
        for seconds in (0.1, 0.15, 0.2):
            running = commands.start(*words, cwd=here)
            running.wait(seconds)
            running.send(signal.SIGKILL)
            running.ended()
        assert commands.run(*words, cwd=here).code == 0
    assert cnatool.verify(here / "s.zarr").faults == ()


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("form", FORMATS)
def test_convert(form: str, target: str, here: Path) -> None:
    path = later(here, f"s.{form}")
    expected = scored(path)
    (here / "far/away").mkdir(parents=True)
    made = cnatool.convert(path, here / f"far/away/t.{target}")
    reference = made.splits["train"].record.inputs_from
    assert reference is not None
    assert reference.store == "../../base.zarr"
    assert not any("/inputs/" in key for key in keys(made.path))
    assert scored(made.path) == expected
    whole = cnatool.convert(path, here / f"far/whole.{target}", copy_inputs=True)
    assert whole.splits["train"].record.inputs_from is None
    shutil.rmtree(here / "base.zarr")
    assert cnatool.verify(whole.path).faults == ()
    assert scored(whole.path) == expected
    with pytest.raises(MetricError, match="no such store"):
        cnatool.convert(path, here / "far/u.zarr")
    named = cnatool.convert(path, here / "far/u.zarr", inputs=whole.path)
    reference = named.splits["test"].record.inputs_from
    assert reference is not None
    assert reference.store == f"whole.{target}"
    with pytest.raises(UsageError, match="which contains the inputs of"):
        cnatool.convert(named.path, whole.path, overwrite=True)


def test_study_computes_alpha_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        saved(mlp(seed=number), here / "later.onnx")
        (here / "stores").mkdir(exist_ok=True)
        (here / "own").mkdir(exist_ok=True)
        later(here, f"stores/{number}.zarr")
        later(here, f"own/{number}.zarr", None)
    read = []
    measure = scored_inputs.measure_alpha
    monkeypatch.setattr(scored_inputs, "_LATEST", {})
    monkeypatch.setattr(
        scored_inputs,
        "measure_alpha",
        lambda split, *rest: read.append(split) or measure(split, *rest),
    )
    columns = ["path", "id"]
    found = cnatool.study(here / "stores", resamples=0).networks.drop(columns)
    assert len(read) == 2
    assert found.equals(cnatool.study(here / "own", resamples=0).networks.drop(columns))
    assert len(read) == 10
    # Other settings are other numbers.
    cnatool.study(here / "stores", resamples=0, overrides={"bins": 16})
    assert len(read) == 12
    shutil.move(here / "base.zarr", here / "moved.zarr")
    result = cnatool.study([here / "stores", here / "own"], resamples=0).result
    assert [one.path.split("/")[-2] for one in result.not_scored] == ["stores"] * 4
    assert (
        cnatool.study(here / "stores", resamples=0, inputs=here / "moved.zarr")
        .networks.drop(columns)
        .equals(found)
    )


def test_series_and_pictures(here: Path) -> None:
    (here / "stores").mkdir()
    for number in range(3):
        saved(mlp(seed=number), here / "later.onnx")
        later(here, f"stores/{number}.zarr", tags={"step": str(number)})
    series = cnatool.trajectory(here / "stores").steps
    plane = cnatool.landscape(here / "stores", samples=40, grid=5).points
    chart = cnatool.plot(here / "stores/0.zarr", "alpha-beta").to_dict()
    shutil.move(here / "base.zarr", here / "moved.zarr")
    moved = {"inputs": here / "moved.zarr"}
    assert cnatool.trajectory(here / "stores", **moved).steps.equals(series)
    assert cnatool.landscape(here / "stores", samples=40, grid=5, **moved).points.equals(plane)
    assert cnatool.plot(here / "stores/0.zarr", "alpha-beta", **moved).to_dict() == chart
    for function, error in (
        # What is left is too little.
        (cnatool.landscape, DataError),
        (lambda path: cnatool.landscape(path, strict=True), MetricError),
        (lambda path: cnatool.plot(path / "0.zarr", "alpha-beta"), MetricError),
        (lambda path: cnatool.plot(path, "alpha-beta", strict=True), MetricError),
    ):
        with pytest.raises(error, match="name it with `inputs=STORE`"):
            function(here / "stores")


def test_commands(here: Path) -> None:
    (here / "runs").mkdir()
    words = ("dump", "later.onnx", "data", "-o", "runs/s.h5", "--inputs-from", "base.zarr")
    assert "inputs/" not in run(*words, cwd=here).stdout
    assert (
        "  raw inputs in ../base.zarr" in run("inspect", "runs/s.h5", cwd=here).stdout.splitlines()
    )
    expected = run("score", "runs/s.h5", cwd=here).stdout
    (here / "base.zarr").rename(here / "moved.zarr")
    for name in ("score", "layers", "study"):
        said = run(name, "runs/s.h5", cwd=here, code=2).stderr
        text = re.sub(r"\s+", " ", said)
        assert "--inputs STORE" in text, said
        assert len(said.splitlines()) <= 5
        found = run(name, "runs/s.h5", "--inputs", "moved.zarr", cwd=here).stdout
        assert found == expected or name != "score"
    assert "2 faults" in run("verify", "runs/s.h5", cwd=here, code=1).stdout
    assert (
        "nothing is wrong" in run("verify", "runs/s.h5", "--inputs", "moved.zarr", cwd=here).stdout
    )
    run("convert", "runs/s.h5", "t.zarr", "--inputs", "moved.zarr", "--copy-inputs", cwd=here)
    assert run("score", "t.zarr", cwd=here).stdout == expected


def test_dry_run_counts_no_inputs(here: Path) -> None:
    words = (here / "later.onnx", here / "data", here / "s.zarr")
    whole = cnatool.preflight(*words)
    shared = cnatool.preflight(*words, inputs_from=here / "base.zarr")
    assert whole.sample_bytes - shared.sample_bytes == 8 * 8
    assert shared.disk_bytes < whole.disk_bytes


def recorded(path: Path, x: np.ndarray | None, rows: int = 60, **options: Any) -> None:
    rng = np.random.default_rng(3)
    hidden, logits = rng.normal(size=(2, rows, 6)).astype(np.float32)
    with cnatool.create_store(
        path, tensors=["hidden", "logits"], outputs=["logits"], **options
    ) as store:
        for i in range(0, rows, 25):
            part = slice(i, min(i + 25, rows))
            given = {} if x is None else {"inputs": x[part]}
            store.append(
                "test",
                outputs=logits[part],
                activations={"hidden": hidden[part]},
                labels=np.arange(rows)[part] % 6,
                **given,
            )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("given", [True, False])
def test_recordings(given: bool, form: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 5, 5), np.uint8)
    recorded(tmp_path / "base.zarr", x)
    path = tmp_path / f"s.{form}"
    recorded(path, x if given else None, inputs_from=tmp_path / "base.zarr")
    assert not any("/inputs/" in key for key in keys(path))
    found, truth = (cnatool.open(p).splits["test"] for p in (path, tmp_path / "base.zarr"))
    assert found.record.fingerprint == truth.record.fingerprint
    assert cnatool.verify(path).faults == ()
    one, other = (alpha(p, "test", overrides=OUTPUT) for p in (path, tmp_path / "base.zarr"))
    assert one.tobytes() == other.tobytes()


def test_recordings_of_other_samples(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 5, 5), np.uint8)
    recorded(tmp_path / "base.zarr", x)
    base = {"inputs_from": tmp_path / "base.zarr"}
    with pytest.raises(DataError, match="row 31 .31. has another input"):
        recorded(tmp_path / "s.zarr", flipped_at(x, 31), **base)
    with pytest.raises(DataError, match="has more samples than the 60 rows"):
        recorded(tmp_path / "t.zarr", None, 61, **base)
    with pytest.raises(DataError, match="has 59 samples"):
        recorded(tmp_path / "u.zarr", None, 59, **base)
    with pytest.raises(DataError, match="inputs: required"):
        recorded(tmp_path / "v.zarr", None)
    # A batch that is refused leaves the next where it was.
    logits = np.zeros((60, 6), np.float32)
    with cnatool.create_store(
        tmp_path / "w.zarr", tensors=["logits"], outputs=["logits"], **base
    ) as store:
        for i in (0, 20, 40):
            with pytest.raises(DataError):
                store.append("test", outputs=logits[i : i + 20], activations={"none": logits})
            with pytest.raises(DataError, match="another input"):
                store.append("test", outputs=logits[i : i + 7], inputs=255 - x[i : i + 7])
            store.append("test", outputs=logits[i : i + 20])
    np.testing.assert_array_equal(cnatool.open(tmp_path / "w.zarr").splits["test"].inputs()[:], x)
    with (
        pytest.raises(UsageError, match="has no split 'train'"),
        cnatool.create_store(
            tmp_path / "x.zarr", tensors=["logits"], outputs=["logits"], **base
        ) as store,
    ):
        store.append("train", outputs=logits)


def test_written_by_plain_h5py(here: Path) -> None:
    """As docs/store.md says how, by a program that knows no cnatool."""
    path = later(here, "own.h5", None)
    with h5py.File(path, "r+") as root, h5py.File(here / "base.h5", "r") as base:
        about = json.loads(root.attrs["cnatool"])
        there = json.loads(base.attrs["cnatool"])
        for name, split in about["splits"].items():
            del root[f"splits/{name}/inputs"]
            data = [base[f"splits/{name}/{key}"][:] for key in ("inputs/0", "labels")]
            digests = [hashlib.sha256(values.tobytes()).digest() for values in data]
            fingerprint = hashlib.sha256(b"".join(digests)).hexdigest()
            assert fingerprint == there["splits"][name]["fingerprint"]
            split["inputs_from"] = {"store": "base.h5", "fingerprint": fingerprint}
        root.attrs["cnatool"] = json.dumps(about)
        del root.attrs["cnatool_crc32c"]
    assert cnatool.verify(path).faults == ()
    assert alpha(path, "train").tobytes() == alpha(here / "base.h5", "train").tobytes()
