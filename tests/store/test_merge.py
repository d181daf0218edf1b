"""Parts are merged to one store: the one that a single process writes, or none at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import refused, run
from support.dumps import commit_often, make_small, same_arrays
from support.networks import Builder, saved
from support.notes import Notes
from support.parts import Parts, tree
from support.steps import in_process, steps
from support.stores import changed_attribute

import cnatool

# Loaded before a test changes the limit that it imports.
import cnatool.store.zarr.metadata
from cnatool.dumping.preflight import Preflight
from cnatool.errors import StoreInUseError, UsageError
from cnatool.store.lock import lock_store
from cnatool.store.zarr import metadata, shard

FORMS = ["zarr", "h5"]
MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
# Each change of the file system is too many; a copy in Zarr makes by far the most of them.
STRIDES = {("copy", "zarr"): 61, ("copy", "h5"): 7, ("refer", "zarr"): 11, ("refer", "h5"): 7}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"keep": "statistics", "statistics": "all"},
    {"batch_size": 24, "dtype": "float16", "tags": {"epoch": "3"}},
    {"codec": "gzip", "labels": "none"},
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def here(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    commit_often(monkeypatch)
    return Parts(tmp_path, kept=kept)


# Of 25 parts some have no rows.
@pytest.mark.parametrize(
    ("count", "options"),
    [
        *((count, OPTIONS[0]) for count in (1, 7, 25)),
        *((count, OPTIONS[1]) for count in (2, 25)),
        (7, OPTIONS[2]),
        (2, OPTIONS[3]),
    ],
)
def test_a_copy_is_byte_for_byte_the_store_of_one_process(
    options: dict[str, Any], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    here = Parts(tmp_path)
    assert metadata.MOST_CHUNKS == shard.MOST_CHUNKS  # its own copy, made before the next line
    monkeypatch.setattr(shard, "MOST_CHUNKS", 3)
    whole = here.dump("whole.zarr", **options)
    paths = here.parts(count, **options)
    notes = Notes()
    copied = cnatool.merge(reversed(paths), here.folder / "copied.zarr", copy=True, observer=notes)
    assert tree(copied.path) == tree(whole.path)
    assert notes.done[-1] == ("test", 150, 150)
    for path in paths:
        shutil.rmtree(path)
    assert cnatool.verify(copied.path).faults == ()


# Copies of Zarr in Zarr are the subject of the test before.
@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        ("zarr", "zarr", OPTIONS[0]),
        *(("h5", "h5", options) for options in OPTIONS),
        *(("zarr", "h5", options) for options in (OPTIONS[0], OPTIONS[1], OPTIONS[3])),
        *(("h5", "zarr", options) for options in (OPTIONS[0], OPTIONS[2])),
    ],
)
def test_a_copy_in_each_format(
    source: str, target: str, options: dict[str, Any], here: Parts
) -> None:
    whole = here.dump(f"whole.{target}", **options)
    paths = here.parts(5, source, **options)
    copied = cnatool.merge(paths, here.folder / f"copied.{target}", copy=True)
    same_arrays(copied.path, whole.path)
    if source == target:
        for name, split in whole.splits.items():
            for key in ("ids", "inputs/0", "statistics/sum"):
                array = copied.splits[name].array(key)
                truth = split.array(key)
                assert (array.codec, array.chunk_rows) == (truth.codec, truth.chunk_rows)


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_slow_machines(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine commits more often and has smaller chunks, which a copy does not have."""
    here = Parts(tmp_path, 3000, 500)
    whole = here.dump(f"whole.{form}")
    paths = here.parts(3, form)
    with monkeypatch.context() as slow:
        slow.setattr(Preflight, "rows_in", lambda self, seconds: 100)
        here.dump(f"p2.{form}", part=(2, 3), overwrite=True)
    chunks = [cnatool.open(path).splits["train"].labels.chunk_rows for path in paths[:2]]
    assert chunks[1] == 64 < chunks[0]
    copied = cnatool.merge(paths, tmp_path / f"copied.{form}", copy=True)
    same_arrays(copied.path, whole.path)
    if form == "zarr":
        assert tree(copied.path) == tree(whole.path)


@pytest.mark.parametrize("form", FORMS)
def test_chunks_are_copied_as_they_are_encoded(
    form: str, here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnatool.store import chunks

    paths = here.parts(2, form)
    appended: list[int] = []
    original = chunks.ChunkedArray.append

    def append(self: Any, rows: Any, *, borrowed: bool = False) -> None:
        appended.append(rows.nbytes)
        original(self, rows, borrowed=borrowed)

    monkeypatch.setattr(chunks.ChunkedArray, "append", append)
    store = cnatool.merge(paths, here.folder / f"copied.{form}", copy=True)
    whole = sum(
        store.splits[name].array(key)[:].nbytes
        for name in store.splits
        for key in ("inputs/0", "outputs/0", "activations/0", "activations/1", "statistics/sum")
    )
    # Ids of HDF5, and what of narrow arrays does not fill a chunk.
    assert sum(appended) < whole / 4


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}")
@pytest.mark.parametrize(("form", "keep"), [("zarr", "full"), ("h5", "statistics")])
def test_digits(form: str, keep: str, tmp_path: Path) -> None:
    """Real images, in the batches, chunks and commits of every dump."""
    b = Builder()
    b.node("Relu", [b.gemm("x", "hidden", 784, 64)], "active")
    b.gemm("active", "logits", 64, 10)
    model = saved(b.model({"x": ("n", 784)}, {"logits": ("n", 10)}), tmp_path / "net.onnx")

    (tmp_path / "digits").mkdir()
    for file in MNIST.glob("t10k-*"):
        shutil.copy(file, tmp_path / "digits")

    def dump(name: str, **options: Any) -> Path:
        return cnatool.dump(model, tmp_path / "digits", tmp_path / name, keep=keep, **options).path

    whole = dump(f"whole.{form}")
    paths = [dump(f"p{number}.{form}", part=(number, 3)) for number in (1, 2, 3)]
    copied = cnatool.merge(paths, tmp_path / f"copied.{form}", copy=True)
    if form == "zarr":
        assert tree(copied.path) == tree(whole)
    else:
        same_arrays(copied.path, whole)
    merged = cnatool.merge(paths, tmp_path / f"merged.{form}")
    assert cnatool.verify(merged.path).faults == ()
    assert cnatool.score(merged.path).splits == cnatool.score(whole).splits


@pytest.mark.parametrize(("copy", "form"), [(False, "zarr"), (True, "h5")])
def test_a_missing_part_is_named(copy: bool, form: str, here: Parts) -> None:
    paths = here.parts(8, form)
    target = here.folder / "merged.zarr"
    text = r"of 8 parts, 1 part is missing: 3\. Dump it with `part=3/8`, and name all parts"
    with pytest.raises(UsageError, match=text):
        cnatool.merge(paths[:2] + paths[3:], target, copy=copy)
    with pytest.raises(UsageError, match=r"7 parts are missing: 1-7\. Dump each with its own"):
        cnatool.merge(paths[7:], target, copy=copy)
    with pytest.raises(UsageError, match=r"5 parts are missing: 1,3-5,8\. .* `part=1/8`, and"):
        cnatool.merge([paths[1], paths[5], paths[6]], target, copy=copy)
    assert not target.exists()


def test_a_part_given_twice_is_named(here: Parts) -> None:
    paths = here.parts(3)
    again = here.dump("again.zarr", part=(2, 3)).path
    with pytest.raises(UsageError, match=r"p2\.zarr and .*again\.zarr are both part 2 of 3\."):
        cnatool.merge([*paths, again], here.folder / "merged.zarr")
    with pytest.raises(UsageError, match=r"p2\.zarr is named twice\. Name each part once"):
        cnatool.merge([*paths, paths[1]], here.folder / "merged.zarr")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"model": "other.onnx"}, r"model net\.onnx in .*p1\.zarr and other\.onnx in .*p2\.zarr"),
        (
            {"batch_size": 32},
            r"runtime batch size 16 in .*p1\.zarr and 32 in .*p2.*the same `batch_size`",
        ),
        ({"threads": 2}, r"runtime threads \d in .*the same `threads` for all, on machines"),
        ({"keep": "statistics"}, r"'fc1' kept full in .* and statistics in"),
        ({"scale": 0.5}, r"preprocessing 'x' scale"),
        ({"tags": {"epoch": "2"}}, r"tags none in .* and epoch=2 in"),
        ({"labels": "none"}, r"splits 'train' labels True in"),
        ({"limit": 300}, r"they do not divide the same rows"),
        ({"part": (2, 4)}, r"p1\.zarr is part 1 of 3 .*p2\.zarr is part 2 of 4"),
    ],
)
def test_a_part_of_another_dump_is_named(options: dict[str, Any], text: str, here: Parts) -> None:
    paths = here.parts(3)
    here.dump("p2.zarr", **{"part": (2, 3)} | options, overwrite=True)
    if "threads" in options:
        with changed_attribute(paths[1]) as about:
            about["runtime"]["threads"] = 64
    for copy in (False, True):
        with pytest.raises(UsageError, match=text):
            cnatool.merge(paths, here.folder / "merged.zarr", copy=copy)
    assert not (here.folder / "merged.zarr").exists()


def test_parts_of_two_divisions_are_not_the_same_part(here: Parts) -> None:
    paths = here.parts(3)
    only = here.dump("only.zarr", part=(1, 1)).path
    for either in ([only, paths[0]], [paths[0], only]):
        with pytest.raises(
            UsageError, match=r"is part 1 of .* is part 1 of .*: they do not divide"
        ):
            cnatool.merge(either, here.folder / "merged.zarr")


@pytest.mark.parametrize("what", ["x", "y"])
def test_a_part_of_other_data_is_named(what: str, here: Parts) -> None:
    paths = here.parts(3)
    data = dict(np.load(here.folder / "data/test.npz"))
    data[what][2] += 1
    np.savez(here.folder / "data/test.npz", **data)
    here.dump("p2.zarr", part=(2, 3), overwrite=True)
    text = r"p2\.zarr and .*p1\.zarr are not parts of one dump: the first samples of their data"
    with pytest.raises(UsageError, match=text):
        cnatool.merge(paths, here.folder / "merged.zarr")


def test_a_part_whose_later_data_differ_is_named(here: Parts) -> None:
    """The archive has a checksum of all samples, whichever of them differ."""
    paths = here.parts(3)
    data = dict(np.load(here.folder / "data/test.npz"))
    data["x"][-1] += 1
    np.savez(here.folder / "data/test.npz", **data)
    here.dump("p2.zarr", part=(2, 3), overwrite=True)
    text = r"p2\.zarr and .*p1\.zarr are not parts of one dump: the files of split 'test' differ"
    with pytest.raises(UsageError, match=text):
        cnatool.merge(paths, here.folder / "merged.zarr")


def test_parts_of_an_older_version_have_no_sketches(here: Parts) -> None:
    paths = here.parts(3)
    for path in paths[:2]:
        with changed_attribute(path) as about:
            del about["part"]["sketches"]
    assert cnatool.verify(cnatool.merge(paths, here.folder / "merged.zarr").path).faults == ()


def test_parts_that_another_version_divided(here: Parts) -> None:
    paths = here.parts(3)
    with changed_attribute(paths[1]) as about:
        about["part"]["first"]["train"] -= 16
    with pytest.raises(UsageError, match=r"p2\.zarr \(part 2 of 3\) begins at row .* of train"):
        cnatool.merge(paths, here.folder / "merged.zarr")


def test_what_is_no_finished_part_is_named(here: Parts) -> None:
    paths = here.parts(2)
    whole = here.dump("whole.zarr").path
    target = here.folder / "merged.zarr"
    with pytest.raises(UsageError, match=r"whole\.zarr is no part of a dump\. Merge stores that"):
        cnatool.merge([*paths, whole], target)
    with pytest.raises(UsageError, match="there are no parts to merge"):
        cnatool.merge([], target)
    cnatool.merge(paths, target)
    with pytest.raises(UsageError, match=r"merged\.zarr is merged already\. Merge stores that"):
        cnatool.merge([target], here.folder / "again.zarr")
    with pytest.raises(KeyboardInterrupt):
        here.dump("p1.zarr", part=(1, 2), overwrite=True, observer=Notes("train", 150))
    text = r"p1\.zarr is not finished: it has 192 of 320 rows of train"
    with pytest.raises(UsageError, match=text):
        cnatool.merge(paths, target, overwrite=True)
    assert cnatool.open(target).parts is not None


def test_nothing_is_replaced_by_mistake(here: Parts) -> None:
    paths = here.parts(2)
    with pytest.raises(UsageError, match=r"would replace .*p1\.zarr \(part 1 of 2\), a part of it"):
        cnatool.merge(paths, paths[0], overwrite=True)
    target = here.folder / "merged.zarr"
    with lock_store(target), pytest.raises(StoreInUseError):
        cnatool.merge(paths, target)
    cnatool.merge(paths, target)
    with pytest.raises(cnatool.NotAStoreError, match="exists already"):
        cnatool.merge(paths, target)
    assert cnatool.merge(paths, target, copy=True, overwrite=True).parts is None


def test_the_command(here: Parts) -> None:
    paths = [path.name for path in here.parts(2)]
    result = run("merge", *paths, "-o", "merged.zarr", cwd=here.folder)
    assert result.stdout == "merged.zarr\n"
    assert "merged.zarr refers to its 2 parts: keep them, and move all together" in result.stderr
    assert "next: cnatool score merged.zarr" in result.stderr
    quiet = run("merge", *paths, "-o", "copy.h5", "--copy", "-q", cwd=here.folder)
    assert (quiet.stdout, quiet.stderr) == ("copy.h5\n", "")
    assert "--part 1/2" in refused("merge", "p2.zarr", "-o", "m.zarr", cwd=here.folder)
    assert "--overwrite" in refused("merge", *paths, "-o", "copy.h5", cwd=here.folder)


def kill_at_every_step(folder: str, form: str, copy: str) -> None:
    """End a merge before each of its changes to the disk; the old store or the new one is there."""
    make_small()
    here = Path(folder)
    paths = sorted(here.glob("p?.zarr"))
    target = here / f"s.{form}"
    old = here / f"old.{form}"

    truth = cnatool.open(old).record

    def prepare() -> None:
        for left in [*here.glob("s.*"), *here.glob(".s.*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (shutil.copytree if old.is_dir() else shutil.copyfile)(old, target)

    def work() -> None:
        cnatool.merge(paths, target, copy=copy == "copy", overwrite=True)

    for step in steps(work, prepare, STRIDES[copy, form]):
        there = target if target.exists() else here / f".s.{form}.replaced"
        # The old store, or all of the new one.
        assert cnatool.verify(there).faults == ()
        found = cnatool.open(there)
        assert found.record == truth or all(s.record.complete for s in found.splits.values())
        work()
        assert cnatool.open(target).record != truth
        assert not list(here.glob(".s.*")), step


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("copy", ["copy", "refer"])
def test_a_killed_merge(copy: str, form: str, here: Parts) -> None:
    here.parts(3)
    here.dump(f"old.{form}", model="other.onnx")
    in_process(kill_at_every_step, here.folder, form, copy)
