"""A dump that goes on where another was cut off ends as if it never had been."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.dumps import commit_often, files, make_data, same_arrays
from support.networks import Builder, mlp, saved
from support.notes import Notes

import cnatool
from cnatool.dumping import store_record
from cnatool.errors import DataError, NotAStoreError, StoreDamagedError, UsageError
from cnatool.store import lock
from cnatool.store.hdf5 import journal
from cnatool.store.writer import SplitWriter, StoreWriter
from cnatool.store.zarr import metadata
from cnatool.store.zarr import shard as shards

TRAIN, TEST = 333, 150
NAMES = ["s.zarr", "s.h5"]


class Here:
    """Dumps in one folder, which commit every 64 rows and run blocks of 48."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_data(folder, TRAIN, TEST)

    def dump(self, store: str, notes: Notes | None = None, **options: Any) -> cnatool.Store:
        given = {"batch_size": 16, "observer": notes} | options
        folder = self.folder
        return cnatool.dump(folder / "net.onnx", folder / "data", folder / store, **given)

    def cut(self, store: str, split: str = "train", at: int = 200, **options: Any) -> Path:
        """Begin a dump, or go on with it, and interrupt it."""
        with pytest.raises(KeyboardInterrupt):
            self.dump(store, Notes(split, at), **options)
        return self.folder / store

    def whole(self, store: str, **options: Any) -> Path:
        """Dump once without interruption."""
        path = self.folder / f"whole-{store}"
        self.dump(path.name, **options)
        return path

    def refused(self, error: type[Exception], text: str, **options: Any) -> None:
        """Go on with the store in vain, and leave it as it is."""
        store = self.folder / options.pop("store", "s.zarr")
        before = content(store)
        with pytest.raises(error, match=text):
            self.dump(store.name, resume=True, **options)
        assert content(store) == before
        assert not list(self.folder.glob(".*"))


def content(path: Path) -> dict[Path, bytes]:
    """Read every file of a store."""
    found = path.rglob("*") if path.is_dir() else [path]
    return {file: file.read_bytes() for file in found if file.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    commit_often(monkeypatch)
    return Here(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_cut_off_again_and_again(name: str, here: Here) -> None:
    whole = here.whole(name)
    for split, at in (
        *(("train", done) for done in (100, 210, 333)),
        *(("test", done) for done in (0, 110, 150)),
    ):
        path = here.cut(name, split, at, resume=True)
        notes = Notes()
        rows = sum(map(len, cnatool.open(path).splits.values()))
        assert rows % 64 in (0, TRAIN % 64, (TRAIN + TEST) % 64)
    before = [len(split) for split in cnatool.open(path).splits.values()]
    store = here.dump(name, notes, resume=True)
    same_arrays(store.path, whole)
    assert f"resuming: {sum(before)} of {TRAIN + TEST} rows are stored already" in notes.texts
    assert notes.done[-1] == ("test", TEST, TEST)
    assert files(here.folder) == {"net.onnx", "data", name, f"whole-{name}"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"keep": "statistics", "statistics": "all"}) for name in NAMES),
        *((name, {"dtype": "bfloat16"}) for name in NAMES),
        *((name, {"codec": "gzip"}) for name in NAMES),
        # What formats have no part in.
        ("s.zarr", {"dtype": "float16", "tensors": "layers"}),
        ("s.h5", {"limit": 130, "tags": {"epoch": "3"}}),
        ("s.h5", {"scale": 0.5, "mean": [3.0], "std": [2.0], "threads": 1}),
    ],
)
def test_every_kind_of_dump(name: str, options: dict[str, Any], here: Here) -> None:
    whole = here.whole(name, **options)
    here.cut(name, "train", 120, **options)
    here.cut(name, "test", 100, resume=True, **options)
    same_arrays(here.dump(name, resume=True, **options).path, whole)


def test_many_shards(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row that is missing may be the first of a shard, or not."""
    assert metadata.MOST_CHUNKS == shards.MOST_CHUNKS  # its own copy, made before the next line
    monkeypatch.setattr(shards, "MOST_CHUNKS", 3)
    # A shard has 12 rows of the first activations, and 96 of others.
    saved(mlp((64, 256, 32, 10)), here.folder / "net.onnx")
    whole = here.whole("s.zarr")
    for at in range(70, TRAIN, 48):
        here.cut("s.zarr", "train", at, resume=True)
    same_arrays(here.dump("s.zarr", resume=True).path, whole)
    assert len(list((here.folder / "s.zarr/splits/train/activations/0").glob("c.*"))) > 3


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_before_is_not_run_again(
    name: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnatool.backend.statistics import checked as measured

    here.cut(name, at=100)
    counts: list[int] = []

    class Counting(measured.ExposedModel):
        def run(self, batches, samples):  # type: ignore[no-untyped-def]
            counts.append(samples)
            return super().run(batches, samples)

    monkeypatch.setattr(measured, "ExposedModel", Counting)
    there = len(cnatool.open(here.folder / name).splits["train"])
    here.dump(name, resume=True)
    # The first block begins where it would have begun.
    assert sum(counts[1:]) == TRAIN + TEST - there // 48 * 48
    assert there % 48


@pytest.mark.parametrize("name", NAMES)
def test_results_that_depend_on_the_runs_before(name: str, here: Here) -> None:
    b = Builder()
    b.node("RandomNormalLike", ["x"], "noise", seed=1.0)
    b.node("Add", ["x", "noise"], "out")
    saved(b.model({"x": ("n", 64)}, {"out": ("n", 64)}), here.folder / "net.onnx")
    whole = here.whole(name)
    for split, at in (("train", 100), ("train", 250), ("test", 70)):
        here.cut(name, split, at, resume=True)
    same_arrays(here.dump(name, resume=True).path, whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_counted_once(name: str, here: Here) -> None:
    x = np.random.default_rng(0).normal(size=(TRAIN, 64)).astype(np.float32)
    x[[5, 150, 300], 3] = np.nan
    shutil.rmtree(here.folder / "data")
    (here.folder / "data").mkdir()
    np.savez(here.folder / "data/train.npz", x=x)
    first, second = Notes(), Notes()
    here.dump("whole-" + name, first)
    here.cut(name)
    store = here.dump(name, second, resume=True)
    same_arrays(store.path, here.folder / f"whole-{name}")
    said = [text for text in first.texts if "NaN" in text]
    assert said[0] == "NaN or infinite raw inputs in 3 samples (the first is 5 of split train)"
    assert [text for text in second.texts if "NaN" in text] == said


def test_where_there_is_nothing_to_go_on_with(here: Here) -> None:
    for name in NAMES:
        whole = here.whole(name)
        same_arrays(here.dump(name, resume=True).path, whole)
    (here.folder / "empty.zarr").mkdir()
    (here.folder / "empty.zarr/zarr.json.partial").touch()
    (here.folder / "empty.h5").touch()
    for name in ("empty.zarr", "empty.h5"):
        notes = Notes()
        here.dump(name, notes, resume=True)
        assert not any("resuming" in text for text in notes.texts)
    assert not list(here.folder.glob(".*"))


def test_what_is_not_a_store_is_left_alone(here: Here) -> None:
    (here.folder / "s.zarr").mkdir()
    (here.folder / "s.zarr/notes.txt").write_text("mine")
    here.refused(NotAStoreError, "is not a cnatool store")
    (here.folder / "s.h5").write_text("mine")
    here.refused(NotAStoreError, "is not a cnatool store", store="s.h5")
    here.cut("t.zarr")
    (here.folder / "l.zarr").symlink_to(here.folder / "t.zarr")
    here.refused(NotAStoreError, r"l\.zarr is a link\. Name the store", store="l.zarr")
    here.cut("u.h5")
    (here.folder / "u.h5").rename(here.folder / "u.zarr")
    here.refused(NotAStoreError, r"u\.zarr is not a \.zarr store", store="u.zarr")


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_store_is_left_alone(name: str, here: Here) -> None:
    path = here.dump(name).path
    before = content(path), path.stat().st_mtime_ns
    notes = Notes()
    store = here.dump(name, notes, resume=True)
    assert notes.texts[-1] == f"{path} is complete: there is nothing left to do"
    assert not any("resuming" in text for text in notes.texts)
    assert (content(path), path.stat().st_mtime_ns) == before
    assert all(split.record.complete for split in store.splits.values())
    here.refused(UsageError, "splits 'train' rows 333 in the store and 7 now", store=name, limit=7)


def test_resume_and_overwrite(here: Here) -> None:
    with pytest.raises(UsageError, match="`resume` continues a store and `overwrite` starts"):
        here.dump("s.zarr", resume=True, overwrite=True)


def test_a_store_that_is_in_the_way_may_be_resumed(here: Here) -> None:
    here.cut("s.zarr")
    with pytest.raises(
        NotAStoreError, match="`overwrite=True` to begin anew, or `resume=True` to continue"
    ):
        here.dump("s.zarr")


def test_options_come_from_the_store(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = here.whole("s.zarr", codec="zstd", threads=2, batch_size=8)
    here.cut("s.zarr", codec="zstd", threads=2, batch_size=8)
    # On another machine they would be others.
    monkeypatch.setattr("cnatool.backend.schedule.processors", lambda: 9)
    store = here.dump("s.zarr", resume=True, batch_size=None)
    same_arrays(store.path, whole)
    assert store.record.runtime.batch_size == 8
    assert store.record.runtime.threads == 1
    assert {split.statistics().codec for split in store.splits.values()} == {"zstd"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 1}, None),
        ({"keep": "statistics"}, "tensors 'fc1' kept full in the store and statistics now"),
        (
            {"tensors": "fc*"},
            r"tensors fc1, \S+, fc2 and 4 more in the store and fc1, fc2, fc3",
        ),
        ({"dtype": "float16"}, "tensors 'fc1' stored float32 in the store and float16 now"),
        ({"statistics": ["max"]}, "statistics sum in the store and sum, max now"),
        ({"limit": 300}, "splits 'train' rows 333 in the store and 300 now"),
        ({"tags": {"epoch": "4"}}, "tags 'epoch' 3 in the store and 4 now"),
        ({"tags": {}}, "tags epoch=3 in the store and none now"),
        ({"scale": 0.5}, r"preprocessing 'x' scale 0\.0039\d+ in the store and 0\.5 now"),
    ],
)
def test_other_options_are_refused(options: dict[str, Any], text: str | None, here: Here) -> None:
    here.cut("s.zarr", tags={"epoch": "3"})
    given = {"tags": {"epoch": "3"}} | options
    if text is None:
        here.dump("s.zarr", resume=True, **given)
        return
    here.refused(
        UsageError,
        r"s\.zarr was started by another dump and cannot be resumed by this one: .*"
        + text
        + r".* Pass the options and files that it was started with, or start anew with "
        r"`overwrite=True`\.",
        **given,
    )


def test_another_batch_size_is_refused_with_what_helps(here: Here) -> None:
    here.cut("s.zarr")
    here.refused(
        UsageError,
        r"s\.zarr was started with batches of 16, and the last digits of values can depend on it: "
        r"leave out `batch_size=32`, or start anew with `overwrite=True`\.",
        batch_size=32,
    )


def test_another_codec_is_refused_with_what_helps(here: Here) -> None:
    here.cut("s.zarr")
    here.refused(
        UsageError,
        r"s\.zarr was started with the codecs lz4 and none, which `codec='zstd'` cannot change\. "
        r"Omit `codec` to continue with the compression that each array has, or start anew with "
        r"`overwrite=True`\.",
        codec="zstd",
    )
    resumed = here.dump("s.zarr", resume=True)
    assert resumed.record.complete


def _other_model(here: Here, patch: pytest.MonkeyPatch) -> None:
    saved(mlp(seed=1), here.folder / "net.onnx")


def _other_version(here: Here, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_record, "__version__", "9.9")


def _other_runtime(here: Here, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_record, "RUNTIME_VERSION", "9.9")


def _other_split(here: Here, patch: pytest.MonkeyPatch) -> None:
    (here.folder / "data/test.npz").rename(here.folder / "data/val.npz")


def _more_rows(here: Here, patch: pytest.MonkeyPatch) -> None:
    np.savez(here.folder / "data/test.npz", x=np.zeros((7, 8, 8), np.uint8), y=np.arange(7))


def _no_labels(here: Here, patch: pytest.MonkeyPatch) -> None:
    np.savez(here.folder / "data/test.npz", x=np.zeros((TEST, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_other_model, "sha256 [0-9a-f]{64} in the store and [0-9a-f]{64} now"),
        (_other_version, r"created by cnatool \S+ in the store and cnatool 9\.9 now"),
        (_other_runtime, r"runtime version \S+ in the store and 9\.9 now"),
        (_other_split, "splits train, test in the store and train, val now"),
        (_more_rows, "splits 'test' rows 150 in the store and 7 now"),
        (_no_labels, "splits 'test' labels True in the store and False now"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_another_dump_is_refused(
    name: str,
    change: Callable[[Here, pytest.MonkeyPatch], None],
    text: str,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here.cut(name)
    change(here, monkeypatch)
    here.refused(UsageError, text, store=name)


def test_a_model_that_was_renamed(here: Here) -> None:
    whole = here.whole("s.zarr")
    path = here.cut("s.zarr")
    (here.folder / "net.onnx").rename(here.folder / "moved.onnx")
    store = cnatool.dump(here.folder / "moved.onnx", here.folder / "data", path, resume=True)
    same_arrays(store.path, whole)


@pytest.mark.parametrize(("split", "row"), [("train", 0), ("train", 170), ("test", 60)])
@pytest.mark.parametrize("what", ["inputs", "labels"])
@pytest.mark.parametrize("name", NAMES)
def test_other_data_are_refused(name: str, what: str, split: str, row: int, here: Here) -> None:
    """A bit of a committed row, of a split that is complete as of one that is not."""
    path = here.cut(name, "test", 120)
    file = here.folder / f"data/{split}.npz"
    data = dict(np.load(file))
    data[{"inputs": "x", "labels": "y"}[what]][row, ...] ^= 1
    np.savez(file, **data)
    here.refused(
        DataError,
        re.escape(f"{path}, split '{split}': row {row} ({row}) does not have the {what} that the"),
        store=name,
    )


def test_other_ids_are_refused(here: Here) -> None:
    from PIL import Image

    shutil.rmtree(here.folder / "data")
    pictures = here.folder / "data/train/class"
    pictures.mkdir(parents=True)
    for i in range(100):
        Image.new("L", (8, 8)).save(pictures / f"{i:03}.png")
    here.cut("s.zarr", at=60)
    (pictures / "020.png").rename(pictures / "0205.png")
    here.refused(
        DataError, r"row 20 \(class/0205\.png\) does not have the ids that the dump was started"
    )


def test_rows_to_come_may_be_any(here: Here) -> None:
    """What was not dumped yet is not known, and is what it is now."""
    path = here.cut("s.zarr")
    there = len(cnatool.open(path).splits["train"])
    data = dict(np.load(here.folder / "data/train.npz"))
    data["x"][there:] ^= 1
    np.savez(here.folder / "data/train.npz", **data)
    same_arrays(here.dump("s.zarr", resume=True).path, here.whole("s.zarr"))


def test_what_is_still_to_come_is_judged(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.cut("s.zarr")
    there = len(cnatool.open(path).splits["train"])
    given = (here.folder / "net.onnx", here.folder / "data", path)
    before = content(path)
    found = cnatool.preflight(*given, batch_size=16, resume=True)
    assert found.samples == {"train": TRAIN - there, "test": TEST}
    assert found.committed == there
    assert (
        0
        < found.disk_bytes
        < cnatool.preflight(*given[:2], here.folder / "t.zarr", batch_size=16).disk_bytes
        * (1 - there / (TRAIN + TEST) / 2)
    )
    assert content(path) == before
    usage = shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    here.refused(UsageError, r"would need about .* more, but only 1 kB are free\. Make room")


@pytest.mark.parametrize("name", NAMES)
def test_lost_rows_are_damage(name: str, here: Here) -> None:
    path = here.cut(name, "test", 120)
    if path.is_dir():
        shard = path / "splits/test/statistics/sum/c.0.0"
        shard.write_bytes(shard.read_bytes()[:-3000])
    else:
        path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(StoreDamagedError):
        here.dump(name, resume=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("finished", [0, 1])
def test_all_rows_are_there_and_it_is_not_said(name: str, finished: int, here: Here) -> None:
    """The kill came between a split's last commit and the one that calls it complete."""
    shutil.rmtree(here.folder / "data")
    (here.folder / "data").mkdir()
    for split in ("train", "test"):
        x = np.random.default_rng(0).integers(0, 256, (128, 64), np.uint8)
        np.savez(here.folder / f"data/{split}.npz", x=x)
    whole = here.whole(name)
    with pytest.MonkeyPatch.context() as patch:
        finish, count = SplitWriter.finish, iter(range(2))

        def finishing(self: SplitWriter) -> None:
            if next(count) == finished:
                raise KeyboardInterrupt
            finish(self)

        patch.setattr(SplitWriter, "finish", finishing)
        with pytest.raises(KeyboardInterrupt):
            here.dump(name)
    records = [s.record for s in cnatool.open(here.folder / name).splits.values()]
    assert records[finished].committed == ((0, 128),)
    assert not records[finished].complete
    same_arrays(here.dump(name, resume=True).path, whole)


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_is_that_of_all_rows(name: str, here: Here) -> None:
    whole = cnatool.open(here.whole(name))
    here.cut(name)
    store = here.dump(name, resume=True)
    for split, expected in whole.splits.items():
        assert store.splits[split].record.fingerprint == expected.record.fingerprint is not None


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_dump_says_how_to_go_on(name: str, here: Here) -> None:
    notes = Notes("train", 200)
    with pytest.raises(KeyboardInterrupt):
        here.dump(name, notes)
    path = here.folder / name
    rows = len(cnatool.open(path).splits["train"])
    expected = (
        f"{path} is not finished: {rows:,} of {TRAIN + TEST:,} rows are safe in it. The same "
        "command with `resume=True` continues from there"
    )
    assert notes.texts[-1] == expected
    # While it compares what is there, too.
    notes = Notes("train", 48)
    with pytest.raises(KeyboardInterrupt):
        here.dump(name, notes, resume=True)
    assert notes.texts[-1] == expected


def test_everything_that_writes_holds_the_lock(here: Here) -> None:
    whole = here.whole("s.zarr")
    path = here.cut("s.zarr")
    with lock.lock_store(path):
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(cnatool.StoreInUseError, match="is being written by another"):
                here.dump("s.zarr", **options)
        with pytest.raises(cnatool.StoreInUseError, match="is being written by another"):
            cnatool.convert(whole, path, overwrite=True)
        # Readers are let in.
        assert cnatool.score(path).splits["train"].samples
        cnatool.preflight(here.folder / "net.onnx", here.folder / "data", path, resume=True)
    cnatool.convert(whole, path, overwrite=True)
    assert not list(here.folder.glob(".*"))


def test_no_lock_where_there_is_no_folder(here: Here) -> None:
    with pytest.raises(NotAStoreError, match="no such folder"):
        here.dump("nowhere/s.zarr")
    assert not (here.folder / "nowhere").exists()


def test_which_stage_was_the_slowest(here: Here) -> None:
    notes = Notes()
    here.dump("s.zarr", notes, verbose=True)
    found = re.fullmatch(
        r"slowest stage: (.+); share of the time that each was busy: reading (\d+)%, "
        r"model (\d+)%, compressing and writing (\d+)%",
        notes.texts[-1],
    )
    assert found is not None
    shares = dict(
        zip(("reading", "model", "compressing and writing"), found.groups()[1:], strict=True)
    )
    assert int(shares[found[1]]) == max(map(int, shares.values())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_norms_of_weights_are_kept_and_their_last_digits_not_compared(
    name: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    initial = saved(mlp(seed=5), here.folder / "initial.onnx")
    whole = here.whole(name, initial_model=initial)
    path = here.cut(name, initial_model=initial)
    begun = cnatool.open(path).record.weights
    assert begun is not None
    assert begun.layers[0].distance is not None
    other = saved(mlp(seed=6), here.folder / "other.onnx")
    text = r"one: initial initial\.onnx in the store and other\.onnx now\."
    here.refused(UsageError, text, store=name, initial_model=other)
    here.refused(UsageError, "initial initial.onnx in the store and none now", store=name)
    # Another build of the linear algebra would give other digits: the store's own stay.
    monkeypatch.setattr("cnatool.dumping.model_record.measure_weights", None)
    same_arrays(here.dump(name, resume=True, initial_model=initial).path, whole)


def test_a_journal_of_the_last_commit_goes(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump that was killed behind its last commit, and in front of removing the journal."""
    with monkeypatch.context() as patch:
        patch.setattr(journal.files, "remove", lambda path: None)
        here.dump("s.h5")
    assert (here.folder / "s.h5.journal").exists()
    notes = Notes()
    whole = here.dump("s.h5", notes, resume=True)
    assert "s.h5 is complete: there is nothing left to do" in notes.texts[-1]
    assert not (here.folder / "s.h5.journal").exists()
    assert cnatool.verify(here.folder / "s.h5").faults == ()
    assert len(whole.splits["train"].outputs()[:]) == TRAIN
    (here.folder / "s.h5").unlink()


def test_store_without_rows_that_another_model_began_is_replaced(here: Here) -> None:
    path = here.folder / "s.zarr"
    record = here.dump("old.zarr").record

    begun = msgspec.structs.replace(record.model, name="mlp.onnx", producer="another")
    StoreWriter(path, msgspec.structs.replace(record, splits={}, model=begun))
    for expected in (True, False):
        notes = Notes()
        here.dump("s.zarr", notes, resume=True)
        said = (
            f"{path} was started for a different model (mlp.onnx) and has no rows: it is replaced"
        )
        assert (said in notes.texts) is expected
