"""A store is replaced by another: however often that is killed, one of the two is whole."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.parts import Parts, tree
from support.steps import ended_at_step, in_process, steps

import cnatool
from cnatool._util.observer import Silent
from cnatool.errors import CnatoolError, NotAStoreError, StoreWriteError
from cnatool.records.layout import StoreRows
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store import chunks as chunking
from cnatool.store.reader import open_store
from cnatool.store.replace import ReplacedStore, move_into_place, recover_replaced
from cnatool.store.writer import StoreWriter

FORMATS = ["zarr", "h5"]
# One in so many steps is tried; 1 is every one.
STRIDE = int(os.environ.get("CNATOOL_STEPS", "9"))
# How often a kill is followed by another: after one in so many steps that are tried.
SECOND = 3
ROWS = 60
DESCRIBED = StoreRecord(
    schema="cnatool.store/1",
    created_by="test",
    inputs=(ArrayRecord("x", "float32", (4,)),),
    outputs=(ArrayRecord("out", "float32", (4,)),),
    tensors=(TensorRecord(0, "out", "Gemm", "output", "float32", (4,), 0, "full", 0, None),),
    layers=(),
    statistics=("sum",),
    splits={},
)
OLD, NEW = 1, 2


def write(path: Path, seed: int, end: int | None = None) -> None:
    """Write a store, as far as row ``end``."""
    writer = StoreWriter(path, DESCRIBED)
    split = writer.split("train", ROWS, source="made", labels=False)
    for start in range(0, ROWS if end is None else end, 20):
        part = rows(seed)[start : start + 20]
        split.append(
            StoreRows(
                ids=[str(start + row) for row in range(20)],
                inputs=[part],
                labels=None,
                outputs=[part],
                activations={},
                statistics={"sum": part.sum(axis=1, keepdims=True, dtype=np.float64)},
            )
        )
    if end is None:
        split.finish()
    writer.close()


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, 4)).astype(np.float32)


def holds(path: Path, seed: int) -> bool:
    """Say whether there is the whole of one of the stores."""
    try:
        split = open_store(path).splits["train"]
        whole = [split.outputs()[:], split.inputs(0)[:]] if split.record.complete else []
    except (CnatoolError, KeyError):
        return False
    return bool(whole) and all(np.array_equal(one, rows(seed)) for one in whole)


def converted(path: Path) -> None:
    cnatool.convert(path.parent / "source.zarr", path, overwrite=True)


def recorded(path: Path) -> None:
    """Record a store that is committed several times."""
    with cnatool.create_store(path, tensors=["out"], outputs=["out"], overwrite=True) as store:
        for start in range(0, ROWS, 20):
            part = rows(NEW)[start : start + 20]
            store.append("train", inputs=part, outputs=part)


WORK: dict[str, Callable[[Path], None]] = {"convert": converted, "record": recorded}


def kill_at_every_step(folder: str, form: str, name: str) -> None:
    here = Path(folder)
    path = here / f"s.{form}"
    whole = here.with_name("whole")
    work = WORK[name]
    chunking._MOST_ROWS = 16
    lots = random.Random(f"{form} {name}")

    def prepare() -> None:
        for left in here.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copytree(whole / "source.zarr", here / "source.zarr")
        (shutil.copytree if form == "zarr" else shutil.copyfile)(whole / path.name, path)

    def check() -> None:
        stores = [path, path.with_name(f".{path.name}.replaced"), *here.glob("s.previous*")]
        assert any(holds(one, OLD) or holds(one, NEW) for one in stores), sorted(here.iterdir())
        if not path.exists():
            with pytest.raises(NotAStoreError, match=rf"as .*\.{path.name}\.replaced: rename it"):
                open_store(path)

    # Wherever the first one writes into ``__pycache__``, later ones do not.
    prepare()
    assert ended_at_step(lambda: work(path), 1 << 30) == 0
    count = 0
    for step in steps(lambda: work(path), prepare, STRIDE):
        check()
        count += 1
        second = not count % SECOND
        if second:
            ended_at_step(lambda: work(path), lots.randrange(1, step + 20))
            check()
        assert ended_at_step(lambda: quietly(work, path), 1 << 30) == 0, f"after step {step}"
        assert holds(path, NEW)
        kept = sorted(one.name for one in here.iterdir())
        assert not [one for one in kept if one.startswith(".")], (step, kept)
        for one in here.glob("s.previous*"):
            # One of two kills may leave what was recorded so far.
            assert holds(one, OLD) or second, (step, one)
    sys.stdout.write(str(count))


def quietly(work: Callable[[Path], None], path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize(("form", "name"), [("zarr", "record"), ("h5", "convert")])
def test_killed_at_every_step(form: str, name: str, tmp_path: Path) -> None:
    for folder in ("here", "whole"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "whole/source.zarr", NEW)
    write(tmp_path / f"whole/s.{form}", OLD)
    assert int(in_process(kill_at_every_step, tmp_path / "here", form, name)) * STRIDE > 30


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("resumes", [False, True])
def test_a_new_store_without_a_row_gives_way(form: str, resumes: bool, tmp_path: Path) -> None:
    path = tmp_path / f"s.{form}"
    write(path, OLD)
    ReplacedStore(path)
    assert not path.exists()
    for begun in (False, True):
        if begun:
            write(path, NEW, end=0)
        said = recover_replaced(path, resumes=resumes)
        kept = path.with_name(f"s.previous.{form}")
        assert holds(kept if resumes else path, OLD)
        assert (said is not None) == resumes
        if resumes:
            assert str(kept) in said
            kept.rename(path.with_name(f".{path.name}.replaced"))
        else:
            path.rename(path.with_name(f".{path.name}.replaced"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_new_store_with_rows_stays(form: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chunking, "_MOST_ROWS", 16)
    path = tmp_path / f"s.{form}"
    write(path, OLD)
    ReplacedStore(path)
    write(path, NEW, end=40)
    said = recover_replaced(path)
    kept = path.with_name(f"s.previous.{form}")
    assert said == (
        f"{path} was being replaced when its writer was killed. The old store is {kept}"
    )
    assert holds(kept, OLD)
    assert len(open_store(path).splits["train"]) == 32
    # A second one gets another name.
    ReplacedStore(path)
    write(path, NEW)
    assert str(path.with_name(f"s.previous1.{form}")) in recover_replaced(path)
    assert holds(kept, OLD)
    assert holds(path, NEW)


def test_what_an_earlier_version_removed_in_part_goes(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write(path, OLD)
    ReplacedStore(path)
    write(path, NEW)
    shutil.rmtree(tmp_path / ".s.zarr.replaced/splits/train/inputs")
    assert recover_replaced(path) is None
    assert [one.name for one in tmp_path.iterdir()] == ["s.zarr"]
    assert holds(path, NEW)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["replaced", "new"])
def test_what_is_no_store_is_in_the_way(form: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"s.{form}"
    write(path, OLD)
    write(tmp_path / "source.zarr", NEW)
    left = tmp_path / f".s.{form}.{name}"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    for make in (lambda: left.symlink_to(other), lambda: left.symlink_to("nowhere"), left.mkdir):
        make()
        if not left.is_symlink():
            (left / "mine").write_text("mine")
        for work in WORK.values():
            with pytest.raises(StoreWriteError, match=f"{left} is in the way"):
                work(path)
        assert holds(path, OLD)
        assert (other / "mine").read_text() == "mine"
        if left.is_symlink():
            left.unlink()
    assert (left / "mine").read_text() == "mine"


def test_a_journal_is_never_applied_to_another_store(tmp_path: Path) -> None:
    """One that lost its file by a kill goes before another file gets the name."""
    from cnatool.store.hdf5.journal import journal_path

    path = tmp_path / "s.h5"
    write(path, OLD)
    ReplacedStore(path)
    journal_path(path).write_bytes(b"cnatool journal 2\n" + bytes(60))
    assert recover_replaced(path) is None
    assert not journal_path(path).exists()
    assert holds(path, OLD)


def test_a_store_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    recording = cnatool.create_store(path, tensors=["out"], outputs=["out"])
    write(path, OLD)
    with pytest.raises(NotAStoreError, match="exists already"), recording:
        pass
    assert holds(path, OLD)


def test_an_interrupted_copy_leaves_what_was_there(tmp_path: Path) -> None:
    class Stops(Silent):
        def progress(self, split: str, done: int, rows: int) -> None:
            raise KeyboardInterrupt

    write(tmp_path / "source.zarr", NEW)
    for form in FORMATS:
        path = tmp_path / f"s.{form}"
        write(path, OLD)
        for one, left in ((path, {path}), (path.with_stem("t"), set())):
            before = set(tmp_path.iterdir())
            with pytest.raises(KeyboardInterrupt):
                cnatool.convert(tmp_path / "source.zarr", one, overwrite=True, observer=Stops())
            assert set(tmp_path.iterdir()) == before | left
        assert holds(path, OLD)


@pytest.mark.parametrize("form", FORMATS)
def test_where_the_old_store_is_shows(form: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cnatool.cli.app import app

    path = tmp_path / f"s.{form}"
    write(path, OLD)
    ReplacedStore(path)
    aside = path.with_name(f".{path.name}.replaced")
    with pytest.raises(NotAStoreError, match=f"as {aside}: rename it to {path.name}"):
        open_store(path)
    write(path, NEW, end=40)
    found = CliRunner().invoke(app, ["inspect", str(path)])
    assert f"the store that it replaces is kept as {aside}" in found.output.replace("\n", "")


@pytest.mark.parametrize("form", FORMATS)
def test_an_old_store_that_cannot_be_put_back_is_named(
    form: str, tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / f"s.{form}"
    hidden = path.with_name(f".{path.name}.replaced")
    write(path, OLD)
    made = path.with_name(f"made.{form}")
    write(made, NEW)
    rename = Path.rename

    def refuses(self: Path, target: Path) -> Path:
        if Path(target) == path:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuses)
        with (
            pytest.raises(StoreWriteError, match=rf"Input/output error.* {hidden}, and gets"),
            move_into_place(path) as new,
        ):
            made.rename(new)
    assert holds(hidden, OLD)
    assert recover_replaced(path) is None
    assert holds(path, OLD)


@pytest.mark.parametrize("form", FORMATS)
def test_every_store_that_was_being_deleted_goes(tmp_path: Path, form: str) -> None:
    """The first of them may have gone already, where the deletion of a later one failed."""
    path = tmp_path / f"s.{form}"
    write(path, OLD)
    path.rename(tmp_path / f".s.{form}.removed1")
    assert recover_replaced(path) is None
    assert not list(tmp_path.iterdir())


WRITERS: dict[str, Callable[[Parts, list[Path], Path], object]] = {
    "dump": lambda here, parts, path: here.dump(str(path)),
    "resume": lambda here, parts, path: here.dump(str(path), resume=True),
    "merge": lambda here, parts, path: cnatool.merge(parts, path),
    "copy": lambda here, parts, path: cnatool.merge(parts, path, copy=True),
    "convert": lambda here, parts, path: cnatool.convert(parts[0], path),
    "record": lambda here, parts, path: cnatool.create_store(path, tensors=["a"]),
}


@pytest.mark.parametrize("name", ["sub.zarr", "splits/train/sub.h5", "../link/sub.zarr"])
@pytest.mark.parametrize("writer", WRITERS)
def test_no_store_is_written_inside_another(writer: str, name: str, tmp_path: Path) -> None:
    here = Parts(tmp_path, 40, 20)
    parts = here.parts(2)
    (tmp_path / "link").symlink_to(parts[0] / "splits")
    before = tree(parts[0])
    with pytest.raises(NotAStoreError, match=r"lies inside the store .*p1\.zarr\. Name another"):
        WRITERS[writer](here, parts, parts[0] / name)
    assert tree(parts[0]) == before


def test_a_folder_that_is_no_store_may_have_stores(tmp_path: Path) -> None:
    here = Parts(tmp_path, 40, 20)
    (tmp_path / "runs.zarr").mkdir()
    whole = here.dump("runs.zarr/net.zarr").path
    # The path leads through the store, and out of it.
    copy = cnatool.convert(whole, whole / "../copy.zarr").path
    assert cnatool.verify(copy).faults == ()
