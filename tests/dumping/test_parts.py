"""Parts of a dump: together they have every row once, with the values of a whole dump."""

from __future__ import annotations

import io
import json
import signal
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from campaigns.processes import Commands
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.command import document, run
from support.dumps import commit_often
from support.networks import Builder, saved
from support.notes import Notes
from support.parts import TEST, TRAIN, Parts, tree

import cnatool
from cnatool.dumping.parts import choose_rows, choose_unit, divide_rows, part_path, part_paths
from cnatool.errors import DataError, StoreInUseError, UsageError
from cnatool.store.lock import lock_store

FORMS = ["zarr", "h5"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    commit_often(monkeypatch)
    return Parts(tmp_path)


@settings(deadline=None)
@given(
    rows=st.lists(st.integers(0, 5000), min_size=1, max_size=3),
    count=st.integers(1, 60),
    commit=st.sampled_from([64, 512, 8192]),
    batch=st.integers(1, 300),
)
def test_ranges_are_whole_units_and_cover_every_row_once(
    rows: list[int], count: int, commit: int, batch: int
) -> None:
    splits = dict(zip("abc", rows, strict=False))
    unit = choose_unit(rows, count, commit, batch)
    assert unit % batch == 0
    end = dict.fromkeys(splits, 0)
    units: list[int] = []
    for number in range(1, count + 1):
        ranges = divide_rows(splits, number, count, unit)
        assert list(ranges) == list(splits)
        for name, (start, stop) in ranges.items():
            assert start == end[name] <= stop <= splits[name]
            assert stop in (splits[name], stop // unit * unit)
            end[name] = stop
        units.append(sum(-(-(stop - start) // unit) for start, stop in ranges.values()))
    assert end == splits
    assert max(units) - min(units) <= 1
    # The first part is empty only if there is nothing at all.
    assert units[0] or not sum(rows)


@settings(deadline=None)
@given(count=st.integers(1, 500), commit=st.sampled_from([64, 1024, 8192]))
def test_many_rows_are_divided_at_commits_and_few_as_finely_as_batches_allow(
    count: int, commit: int
) -> None:
    assert choose_unit([4 * count * commit], count, commit, 32) == commit
    unit = choose_unit([40 * count], count, commit, 8)
    assert unit == 8
    assert choose_unit([1000], 1000, commit, 100) == 100


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options",
    [{}, {"keep": "statistics", "statistics": "all"}, {"batch_size": 24, "dtype": "float16"}],
)
def test_every_row_is_that_of_a_whole_dump(options: dict[str, Any], form: str, here: Parts) -> None:
    whole = here.dump(f"whole.{form}", **options)
    parts = [cnatool.open(path) for path in here.parts(5, form, **options)]
    for name, split in whole.splits.items():
        for key in ("ids", "labels", "inputs/0", "outputs/0", "statistics/sum"):
            rows = np.concatenate([part.splits[name].array(key)[:] for part in parts])
            np.testing.assert_array_equal(rows, split.array(key)[:], strict=True)
        firsts = [part.record.part.first[name] for part in parts]
        lengths = [len(part.splits[name]) for part in parts]
        assert firsts == [sum(lengths[:number]) for number in range(5)]
    for part in parts:
        assert cnatool.verify(part.path).faults == ()
        assert part.record.part.rows == {"train": TRAIN, "test": TEST}


def test_all_parts_choose_the_compression_of_a_whole_dump(here: Parts) -> None:
    """The samples of the first block compress, and later ones do not."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (TRAIN, 8, 8), np.uint8)
    x[:64] = 7
    np.savez(here.folder / "data/train.npz", x=x, y=rng.integers(0, 10, TRAIN))
    whole = here.dump("whole.zarr")
    parts = [cnatool.open(path) for path in here.parts(4)]
    for key in ("inputs/0", "activations/0", "activations/2"):
        codec = whole.splits["train"].array(key).codec
        assert codec == "lz4"
        assert {part.splits["train"].array(key).codec for part in parts} == {codec}
    np.savez(here.folder / "later.npz", x=x[64:320])
    alone = here.dump("alone.zarr", data="later.npz")
    [split] = alone.splits.values()
    assert split.array("inputs/0").codec == "none"


def test_the_first_part_has_fewer_rows_than_the_first_block(tmp_path: Path) -> None:
    """The sums of the first few samples compress, and those of the first block do not."""
    here = Parts(tmp_path, 128, 16)
    x = np.random.default_rng(3).integers(0, 256, (128, 8, 8), np.uint8)
    x[:16] = 7
    np.savez(tmp_path / "data/train.npz", x=x, y=np.zeros(128, np.int64))
    whole = here.dump("whole.zarr")
    copied = cnatool.merge(here.parts(8), tmp_path / "copied.zarr", copy=True)
    assert tree(copied.path) == tree(whole.path)


@pytest.mark.parametrize("name", ["p40.zarr", "p40.h5"])
def test_a_part_without_rows_is_resumed_with_its_codec(name: str, here: Parts) -> None:
    for resume in (False, True):
        store = here.dump(name, part=(40, 40), codec="gzip", resume=resume)
        assert not sum(map(len, store.splits.values()))


def test_more_parts_than_rows_can_fill(here: Parts) -> None:
    notes = Notes()
    empty = 0
    for number in range(1, 41):
        store = here.dump(f"p{number}.zarr", part=(number, 40), observer=notes)
        empty += not sum(map(len, store.splits.values()))
        assert all(split.record.complete for split in store.splits.values())
    # 333 and 150 rows are 21 and 10 batches of 16.
    assert empty == 9
    said = [text for text in notes.texts if "no rows" in text]
    assert len(said) == 9
    assert said[0].endswith("of 40: no rows; the other parts have all")
    assert "483 samples cannot be divided into 40 parts; merge takes the empty ones too" in (
        notes.texts
    )


def test_what_is_measured_of_the_model_is_in_the_first_part(here: Parts) -> None:
    flatness = cnatool.Flatness(samples=200, draws=1)
    options = {"flatness": flatness, "initial_model": here.folder / "other.onnx"}
    whole = here.dump("whole.zarr", **options)
    first, second = (cnatool.open(path).record for path in here.parts(2, **options))
    assert first.weights == whole.record.weights
    assert first.flatness == whole.record.flatness
    assert first.magnitudes == second.magnitudes == whole.record.magnitudes
    assert second.weights is None
    assert second.flatness.reason == "the first part of the dump measures it"


def test_held_out_and_limited_rows_are_divided_alike(here: Parts) -> None:
    options = {"data": "data/train.npz", "holdout": 0.3, "seed": 4, "limit": 180}
    whole = here.dump("whole.zarr", **options)
    parts = [here.dump(f"p{n}.zarr", part=f"{n}/3", **options) for n in (1, 2, 3)]
    for name, split in whole.splits.items():
        ids = [row for part in parts for row in part.splits[name].ids[:].tolist()]
        assert ids == split.ids[:].tolist()


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("0/4", r"`part=0/4`: there is no part 0 of 4\. Parts are numbered from 1 to 4"),
        ("5/4", r"`part=5/4`: there is no part 5 of 4\."),
        ("4", r"`part='4'` is not K/N, as in 3/16"),
        ("a/b", r"`part='a/b'` is not K/N, as in 3/16"),
        ((1, 2, 3), r"`part=\(1, 2, 3\)` is not K/N"),
        ((1, 10**6), r"a dump has from 1 to 100,000 parts"),
    ],
)
def test_what_is_no_part_is_refused(part: Any, text: str, here: Parts) -> None:
    with pytest.raises(UsageError, match=text):
        here.dump("p.zarr", part=part)
    assert not (here.folder / "p.zarr").exists()


@given(rows=st.integers(0, 10**7))
def test_chosen_rows_are_all_over_a_split(rows: int) -> None:
    chosen = choose_rows(rows)
    count = min(rows, 16)
    assert [row * count // max(1, rows) for row in chosen] == list(range(count))


def _write(folder: Path, form: str, x: NDArray[np.float32]) -> str:
    """Write samples in a format; return the name of what was written."""
    frame = pl.DataFrame(x, schema=[f"c{i}" for i in range(x.shape[1])])
    path = folder / f"d.{form}"
    if form == "npy":
        np.save(path, x)
    elif form == "csv":
        frame.write_csv(path)
    elif form == "parquet":
        frame.write_parquet(path, row_group_size=50)
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["x"] = x
    elif form == "tar":
        with tarfile.open(path, "w") as archive:
            for row, values in enumerate(x):
                # Other values have another length of text, as images that differ have.
                rest = json.dumps(float(values[0])).encode()
                content = io.BytesIO()
                np.save(content, values)
                for name, data in (("npy", content.getvalue()), ("json", rest)):
                    info = tarfile.TarInfo(f"{row:04}.{name}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return path.name


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("npy", r"row 1\d\d of split"),
        ("parquet", r"row 1\d\d of split"),
        ("h5", r"row 1\d\d of split"),
        ("csv", "the files of split"),
        ("tar", "the files of split"),
    ],
)
def test_other_data_behind_the_first_samples(form: str, text: str, here: Parts) -> None:
    x = np.random.default_rng(0).random((300, 64), np.float32)
    data = _write(here.folder, form, x)
    with pytest.raises(KeyboardInterrupt):
        here.dump("p2.zarr", data=data, part=(2, 2), observer=Notes("all", 70))
    first = here.dump("p1.zarr", data=data, part=(1, 2)).path
    x[100:] = 0.5
    _write(here.folder, form, x)
    with pytest.raises(DataError, match=f"started with other data: {text}"):
        here.dump("p2.zarr", data=data, part=(2, 2), resume=True)
    second = here.dump("p2.zarr", data=data, part=(2, 2), overwrite=True).path
    with pytest.raises(UsageError, match=f"are not parts of one dump: {text}"):
        cnatool.merge([first, second], here.folder / "merged.zarr")


def test_samples_that_may_be_skipped_cannot_be_divided(here: Parts) -> None:
    with pytest.raises(UsageError, match="`on_error='skip'` cannot be used for parts"):
        here.dump("p.zarr", part=(1, 2), on_error="skip")


def test_a_model_with_a_memory_cannot_be_divided(here: Parts) -> None:
    b = Builder()
    b.node("RandomNormalLike", ["x"], "noise", seed=1.0)
    b.node("Add", ["x", "noise"], "out")
    saved(b.model({"x": ("n", 64)}, {"out": ("n", 64)}), here.folder / "net.onnx")
    with pytest.raises(UsageError, match="`part`: the model draws random numbers"):
        here.dump("p.zarr", part=(1, 2))


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_was_interrupted_is_continued(form: str, here: Parts) -> None:
    expected = here.dump(f"once.{form}", part=(1, 2)).record
    with pytest.raises(KeyboardInterrupt):
        here.dump(f"p.{form}", part=(1, 2), observer=Notes("train", 120))
    rows = len(cnatool.open(here.folder / f"p.{form}").splits["train"])
    assert 0 < rows < len(cnatool.open(here.folder / f"once.{form}").splits["train"])
    with pytest.raises(UsageError, match="part number 1 in the store and 2 now"):
        here.dump(f"p.{form}", part=(2, 2), resume=True)
    with pytest.raises(UsageError, match="part part 1 of 2 in the store and none now"):
        here.dump(f"p.{form}", resume=True)
    assert here.dump(f"p.{form}", part=(1, 2), resume=True).record == expected
    if form == "zarr":
        assert tree(here.folder / "p.zarr") == tree(here.folder / "once.zarr")


def test_a_part_without_rows_of_a_small_split_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks are those of the whole split, which has fewer rows than a commit."""
    commit_often(monkeypatch)
    here = Parts(tmp_path, 600, 40)
    expected = here.dump("once.zarr", part=(1, 2)).record
    with pytest.raises(KeyboardInterrupt):
        here.dump("p.zarr", part=(1, 2), observer=Notes("train", 120))
    assert here.dump("p.zarr", part=(1, 2), resume=True).record == expected


def test_two_workers_on_one_part(here: Parts) -> None:
    with lock_store(here.folder / "p.zarr"), pytest.raises(StoreInUseError):
        here.dump("p.zarr", part=(1, 2))


def test_a_killed_worker(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same command, killed by SIGKILL again and again, ends in the part it would have made."""
    here = Parts(tmp_path, 3000, 500)
    words = ("dump", "net.onnx", "data", "--part", "2/3", "--batch-size", 4, "--resume", "-o")
    with Commands(tmp_path_factory.mktemp("said")) as commands:
        assert commands.run(*words, "once.zarr", cwd=here.folder).code == 0
        for seconds in (0.1, 0.2, 0.3):
            running = commands.start(*words, "p2.zarr", cwd=here.folder)
            running.wait(seconds)
            running.send(signal.SIGKILL)
            running.ended()
        assert commands.run(*words, "p2.zarr", cwd=here.folder).code == 0
    assert tree(here.folder / "p2.zarr") == tree(here.folder / "once.zarr")


def test_inputs_of_another_store(here: Parts) -> None:
    """A part refers to the rows of its range in a store of the whole data, merged or not."""
    base = cnatool.merge(here.parts(3), here.folder / "base.zarr").path
    whole = here.dump("whole.zarr", model="other.onnx", inputs_from=base)
    paths = [
        here.dump(f"o{n}.zarr", model="other.onnx", part=(n, 4), inputs_from=base).path
        for n in (1, 2, 3, 4)
    ]
    for path in paths:
        assert cnatool.verify(path).faults == ()
    merged = cnatool.merge(paths, here.folder / "merged.zarr")
    copied = cnatool.merge(paths, here.folder / "copied.zarr", copy=True)
    assert tree(copied.path) == tree(whole.path)
    expected = cnatool.score(whole.path).splits
    assert cnatool.score(merged.path).splits == expected
    assert cnatool.score(copied.path).splits == expected
    with pytest.raises(UsageError, match=r"is part 1 of 4 of a dump\. Name the store that all"):
        here.dump("p.zarr", inputs_from=paths[0])
    data = np.load(here.folder / "data/train.npz")
    x = data["x"].copy()
    x[200] += 1
    np.savez(here.folder / "data/train.npz", x=x, y=data["y"])
    here.dump("o1.zarr", model="other.onnx", part=(1, 4), inputs_from=base, overwrite=True)
    with pytest.raises(cnatool.DataError, match=r"row 200 \(200\) has another input"):
        here.dump("o2.zarr", model="other.onnx", part=(2, 4), inputs_from=base, overwrite=True)


def test_a_dry_run_is_of_one_part_and_of_all(here: Parts) -> None:
    sizes = [sum(map(len, tree(path).values())) for path in here.parts(4)]
    words = ("dump", "net.onnx", "data", "--batch-size", 16, "--dry-run")
    found = document("preflight", *words, "--part", "1/4", cwd=here.folder)
    assert found["samples"] == {"train": 128, "test": 0}
    assert found["store"] == "net.part-1-of-4.zarr"
    assert found["whole"]["samples"] == {"train": TRAIN, "test": TEST}
    assert (found["whole"]["part"], found["whole"]["parts"]) == (1, 4)
    assert found["disk_bytes"] == pytest.approx(sizes[0], rel=0.2)
    assert found["whole"]["disk_bytes"] == pytest.approx(sum(sizes), rel=0.2)
    assert found["whole"]["total_seconds"] >= found["whole"]["seconds"] >= found["seconds"]
    assert "whole" not in document("preflight", *words, cwd=here.folder)
    second = document("preflight", *words, "--part", "2/4", cwd=here.folder)["whole"]
    assert (second["part"], second["first"]) == (2, {"train": 128, "test": 0})
    text = run(*words, "--part", "1/4", cwd=here.folder).stdout
    assert "all 4 parts: 483 samples, about " in text


def test_the_command_says_which_part_it_dumped(here: Parts) -> None:
    words = ("dump", "net.onnx", "data", "--batch-size", 16)
    found = document("dump", *words, "--part", "2/3", cwd=here.folder)
    assert (found["part"]["number"], found["part"]["count"]) == (2, 3)
    assert found["store"] == "net.part-2-of-3.zarr"
    text = run(*words, "--part", "3/3", cwd=here.folder).stderr
    assert "next, once all 3 parts are there: cnatool merge PART… -o STORE" in text
    assert "part" not in document("dump", *words, "-o", "whole.zarr", cwd=here.folder)


def test_names_of_parts() -> None:
    assert part_path(Path("a/net.zarr"), 3, 16) == Path("a/net.part-03-of-16.zarr")
    assert part_path(Path("net.h5"), 1, 1) == Path("net.part-1-of-1.h5")
    paths = part_paths(Path("a/net.zarr"), 12)
    assert paths == sorted(paths)
    assert (len(paths), paths[2]) == (12, Path("a/net.part-03-of-12.zarr"))
