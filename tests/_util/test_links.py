"""Links in a store and beside it: read through, never written or removed through."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool._util.files import replace_atomically
from cnatool.errors import CnatoolError, NotAStoreError, StoreWriteError
from cnatool.records.store import StoreRecord
from cnatool.store import chunks as chunking
from cnatool.store.lock import lock_store
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter
from cnatool.studying.collect import ScoreCache
from cnatool.studying.write import write_results

ROWS = 150
FORMATS = ["zarr", "h5"]


class Here:
    """A folder with a model and data, stores of them that were cut off, and folders elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = saved(mlp(), folder / "net.onnx")
        rng = np.random.default_rng(0)
        (folder / "data").mkdir()
        for name in ("train", "test"):
            x = rng.integers(0, 256, (ROWS, 8, 8), np.uint8)
            np.savez(folder / f"data/{name}.npz", x=x, y=rng.integers(0, 10, ROWS))
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def dump(self, name: str, **options: object) -> cnatool.Store:
        return cnatool.dump(
            self.model, self.folder / "data", self.folder / name, batch_size=16, **options
        )

    def cut(self, name: str) -> Path:
        """Dump, up to some rows of the second split."""

        with pytest.raises(KeyboardInterrupt):
            self.dump(name, observer=Notes("train", 101))
        path = self.folder / name
        splits = cnatool.open(path).splits
        assert 0 < len(splits["train"]) < ROWS
        return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(chunking, "_MOST_ROWS", 32)
    monkeypatch.setattr(chunking, "_LARGEST_CHUNK", 4096)
    from cnatool.backend import schedule

    monkeypatch.setattr(schedule, "_LARGEST_BLOCK", 16)
    return Here(tmp_path)


def content(folder: Path) -> dict[str, bytes | str]:
    """Read everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


INSIDE = [
    "splits",
    "splits/train",
    "splits/train/outputs",
    "splits/train/outputs/0",
    "splits/train/outputs/0/c.0.0",
    "splits/train/outputs/0/zarr.json",
    "zarr.json",
]


def writes(here: Here, path: Path) -> dict[str, Callable[[], object]]:
    """Give everything that writes to a store that is there, or replaces it."""
    source = here.folder / "source.zarr"
    if not source.exists():
        here.dump("source.zarr")

    def record() -> None:
        with cnatool.create_store(path, tensors=["out"], outputs=["out"], overwrite=True) as store:
            store.append("train", inputs=np.zeros((3, 2)), outputs=np.zeros((3, 2)))

    return {
        "resume": lambda: here.dump(path.name, resume=True),
        "overwrite": lambda: here.dump(path.name, overwrite=True),
        "convert": lambda: cnatool.convert(source, path, overwrite=True),
        "record": record,
        "writer": lambda: _reopened(path),
    }


def _reopened(path: Path) -> None:
    writer = StoreWriter.resume(open_store(path), "none")
    writer.close()


def test_a_part_that_was_moved_is_read_and_not_written_to(here: Here) -> None:
    path = here.cut("s.zarr")
    whole = {
        name: split.outputs()[: len(split)] for name, split in cnatool.open(path).splits.items()
    }
    for part in INSIDE:
        moved = here.elsewhere / "moved"
        # What a resumed dump would remove: the arrays of a split that was only begun.
        (path / "splits/begun/x").mkdir(parents=True)
        (path / part).rename(moved)
        (path / part).symlink_to(moved)
        before = content(here.elsewhere), content(path)
        for name, split in cnatool.open(path).splits.items():
            np.testing.assert_array_equal(split.outputs()[: len(split)], whole[name])
        for name, work in writes(here, path).items():
            with pytest.raises(StoreWriteError, match=f"{path / part} is a link") as refused:
                work()
            assert "cp -rL" in str(refused.value), name
            assert (content(here.elsewhere), content(path)) == before, (part, name)
        (path / part).unlink()
        moved.rename(path / part)
        shutil.rmtree(path / "splits/begun")
    # What the message says helps.
    (path / "splits/train").rename(here.elsewhere / "train")
    (path / "splits/train").symlink_to(here.elsewhere / "train")
    assert os.system(f"cp -rL {path} {here.folder / 't.zarr'}") == 0
    here.dump("t.zarr", resume=True)
    assert not cnatool.verify(here.folder / "t.zarr").faults


@pytest.mark.parametrize("form", FORMATS)
def test_a_store_whose_name_is_a_link(form: str, here: Here) -> None:
    real = here.cut(f"real.{form}").rename(here.elsewhere / f"real.{form}")
    path = here.folder / f"s.{form}"
    path.symlink_to(real)
    before = content(here.elsewhere)
    assert set(cnatool.open(path).splits) == {"train", "test"}
    for name, work in writes(here, path).items():
        with pytest.raises(CnatoolError, match="is a link"):
            work()
        assert content(here.elsewhere) == before, name
    assert path.is_symlink()


def test_the_journal_lies_beside_the_file_that_a_link_leads_to(here: Here, monkeypatch) -> None:
    from cnatool.store.hdf5 import journal

    real = here.elsewhere / "s.h5"
    here.dump("s.h5", keep="statistics")
    expected = cnatool.open(here.folder / "s.h5").splits["test"].outputs()[:]
    (here.folder / "s.h5").unlink()
    failing = 4
    apply = journal.Journal.apply

    def fails(self: journal.Journal, file: object) -> None:
        nonlocal failing
        failing -= 1
        if not failing:
            raise OSError(5, "gone")
        apply(self, file)

    monkeypatch.setattr(journal.Journal, "apply", fails)
    with pytest.raises(StoreWriteError):
        cnatool.dump(here.model, here.folder / "data", real, keep="statistics")
    monkeypatch.undo()
    assert (here.elsewhere / "s.h5.journal").exists()
    (here.folder / "s.h5").symlink_to(real)
    for path in (real, here.folder / "s.h5"):
        splits = cnatool.open(path).splits
        assert sum(map(len, splits.values()))
        found = splits["test"].outputs()[: len(splits["test"])]
        np.testing.assert_array_equal(found, expected[: len(found)])


BESIDE = [".s.{}.lock", ".s.{}.replaced", ".s.{}.new", "s.{}.journal", "s.{}.journal.partial"]


@pytest.mark.filterwarnings("ignore::cnatool.errors.StoreWarning")
@pytest.mark.parametrize("living", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_names_beside_a_store_that_are_links(form: str, living: bool, here: Here) -> None:
    path = here.cut(f"s.{form}")
    whole = content(path) if path.is_dir() else path.read_bytes()
    target = here.elsewhere / "target"
    for pattern in BESIDE:
        link = here.folder / pattern.format(form)
        for make in (lambda: target.write_text("mine"), target.mkdir) if living else (None,):
            if make is not None:
                make()
            link.symlink_to(target)
            before = content(here.elsewhere)
            for name, work in writes(here, path).items():
                if name == "writer" and not link.name.startswith("s."):
                    continue  # whoever calls it holds the lock
                if form == "zarr" and ".journal" in pattern:
                    continue  # a Zarr store has none
                with pytest.raises(CnatoolError, match="is a link|in the way"):
                    work()
                assert content(here.elsewhere) == before, (pattern, name)
                assert (content(path) if path.is_dir() else path.read_bytes()) == whole
            link.unlink()
            if target.is_dir():
                target.rmdir()
            target.unlink(missing_ok=True)


def test_a_partial_file_that_is_a_link(here: Here) -> None:
    path = here.cut("s.zarr")
    target = here.elsewhere / "target"
    link = path / "zarr.json.partial"
    link.symlink_to(target)
    for work in writes(here, path).values():
        with pytest.raises(StoreWriteError, match="is a link"):
            work()
    assert not target.exists()


@pytest.mark.parametrize("living", [False, True])
def test_partial_files_of_results_that_are_links(living: bool, tmp_path: Path) -> None:
    import polars as pl

    target = tmp_path / "target"
    if living:
        target.write_text("mine")
    (tmp_path / ".a.csv.partial").symlink_to(target)
    with replace_atomically(tmp_path / "a.csv") as partial:
        partial.write_text("1")
    assert (tmp_path / "a.csv").read_text() == "1"
    (tmp_path / ".study.partial").symlink_to(target)
    with pytest.raises(StoreWriteError, match=r"\.study\.partial is in the way"):
        write_results(tmp_path, {"t": pl.DataFrame({"a": [1]})}, "study", "{}")
    (tmp_path / ".study.partial").unlink()
    (tmp_path / "study.new").symlink_to(target)
    with pytest.raises(StoreWriteError, match=r"study\.new is in the way"):
        write_results(tmp_path, {"t": pl.DataFrame({"a": [1]})}, "study", "{}")
    (tmp_path / "study.new").unlink()
    # A file of a result that is a link is replaced itself.
    (tmp_path / "t.csv").symlink_to(target)
    write_results(tmp_path, {"t": pl.DataFrame({"a": [1]})}, "study", "{}")
    assert not (tmp_path / "t.csv").is_symlink()
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / ".key.json.partial").symlink_to(target)
    cache = ScoreCache(scores)
    cache.put("key", None)  # type: ignore[arg-type]
    assert (scores / "key.json").is_file()
    assert target.exists() == living
    assert not living or target.read_text() == "mine"


def test_a_second_name_of_a_file(here: Here) -> None:
    """Of a store that ``cp -l`` copied each file is the other's; resuming one changes no other."""
    for form in FORMATS:
        path = here.cut(f"s.{form}")
        copy = here.folder / f"copy.{form}"
        if path.is_dir():
            shutil.copytree(path, copy, copy_function=os.link)
        else:
            os.link(path, copy)
        before = content(here.folder)
        with pytest.raises(StoreWriteError, match=r"has a second hard link.* `cp -r`"):
            here.dump(f"copy.{form}", resume=True)
        assert content(here.folder) == before
        assert os.system(f"cp -r {copy} {here.folder / f'own.{form}'}") == 0
        here.dump(f"own.{form}", resume=True)
        # Replacing one leaves the other.
        old = content(path) if path.is_dir() else path.read_bytes()
        here.dump(f"copy.{form}", overwrite=True)
        assert (content(path) if path.is_dir() else path.read_bytes()) == old


def test_a_file_with_a_second_name_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    os.link(tmp_path / "mine", tmp_path / ".a.csv.partial")
    with replace_atomically(tmp_path / "a.csv") as partial:
        partial.write_text("1")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "a.csv").read_text() == "1"


def _soft(root: h5py.File, key: str, other: Path) -> None:
    root.move(key, "elsewhere")
    root[key] = h5py.SoftLink("/elsewhere")


def _external(root: h5py.File, key: str, other: Path) -> None:
    with h5py.File(other, "w") as file:
        root.copy(key, file, name="moved")
    del root[key]
    root[key] = h5py.ExternalLink(str(other), "moved")


def _second(root: h5py.File, key: str, other: Path) -> None:
    root[f"{key}again"] = root[key]


@pytest.mark.parametrize("lead", [_soft, _external, _second])
def test_links_in_an_hdf5_file(lead: Callable[..., None], here: Here) -> None:
    whole = here.cut("s.h5").read_bytes()
    other = here.elsewhere / "other.h5"
    path = here.folder / "s.h5"
    for key in ("splits", "splits/train", "splits/test", "splits/train/outputs/0"):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as root:
            lead(root, key, other)
        before = content(here.folder)
        for work in (lambda: here.dump("s.h5", resume=True), lambda: _reopened(path)):
            with pytest.raises(CnatoolError):
                work()
            assert content(here.folder) == before
        # Its reopening refuses, whatever the reader does.
        from cnatool.store.hdf5.tree import HDF5Tree

        with pytest.raises(StoreWriteError, match=f"{key.split('/')[0]}.* is read-only"):
            HDF5Tree.reopen(path, ["train", "test"])
        old = content(here.elsewhere)
        with h5py.File(path, "r") as root:
            alone = set(root) == {"splits"}
        if alone:
            here.dump("s.h5", overwrite=True)
        assert content(here.elsewhere) == old


def test_a_lock_is_not_made_through_a_link(tmp_path: Path) -> None:
    for name in ("target", "mine"):
        link = tmp_path / ".s.zarr.lock"
        link.symlink_to(tmp_path / name)
        (tmp_path / "mine").write_text("mine")
        with pytest.raises(StoreWriteError, match="is in the way"), lock_store(tmp_path / "s.zarr"):
            pass
        link.unlink()
    assert not (tmp_path / "target").exists()
    assert (tmp_path / "mine").read_text() == "mine"
    (tmp_path / ".s.zarr.lock").mkdir()
    with pytest.raises(StoreWriteError, match="is in the way"), lock_store(tmp_path / "s.zarr"):
        pass


def test_a_store_is_not_begun_in_a_link(tmp_path: Path) -> None:
    record = StoreRecord("cnatool.store/1", "test", (), (), (), (), ("sum",), {})
    for form in FORMATS:
        (tmp_path / f"s.{form}").symlink_to(tmp_path / "target")
        with pytest.raises((StoreWriteError, NotAStoreError)):
            StoreWriter(tmp_path / f"s.{form}", record)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_link_to_nothing_is_not_said_to_be_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("moved.away")
    with pytest.raises(NotAStoreError, match="is a link to moved.away, which does not exist"):
        open_store(tmp_path / name)
