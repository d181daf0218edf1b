"""Small stores of every kind, each with another of the same network over other data."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from unittest import mock

import numpy as np
from support.networks import mlp, saved

import cnatool
from campaigns.made import make_once
from cnatool.backend import schedule
from cnatool.store import chunks as chunking
from cnatool.store.hdf5.journal import Journal, journal_path

# Intervals take most of the time of a score.
QUICK = {"resamples": 0, "area_resamples": 0, "permutations": 0}
_ROWS = {"train": 90, "test": 50}
_KEEP = {"threads": 1, "batch_size": 16}
# Kinds that have no store of other data, and one of which they take instead.
_OF_OTHERS = {
    "zip": "zarr lz4",
    "shared": "zarr statistics",
    "zarr unfinished": "zarr lz4",
    "hdf5 unfinished": "hdf5 none",
    "hdf5 journal": "hdf5 none",
}


@dataclass(frozen=True)
class Specimen:
    """A store to damage."""

    name: str
    folder: Path
    stores: tuple[str, ...]
    donor: Path
    other: str

    @property
    def scored(self) -> Path:
        """The store that is scored."""
        return self.folder / self.stores[-1]

    @property
    def twin(self) -> Path:
        """The store of other data."""
        return self.donor / self.other


@contextmanager
def small_chunks() -> Iterator[None]:
    """Let arrays of some hundred rows have several chunks, and be committed several times."""
    with (
        mock.patch.object(chunking, "_LARGEST_CHUNK", 1024),
        mock.patch.object(chunking, "_MOST_ROWS", 32),
        mock.patch.object(schedule, "_LARGEST_BLOCK", 32),
        # No power fails here.
        mock.patch.object(os, "fsync"),
    ):
        yield


def make_model_and_data(folder: Path, seed: int = 0, *, weights: int = 0) -> None:
    """Make ``m.onnx`` and ``data``, with two splits of pictures of 8 × 8."""
    rng = np.random.default_rng(seed)
    (folder / "data").mkdir(parents=True)
    saved(mlp((64, 6, 5, 4), seed=weights), folder / "m.onnx")
    for split, rows in _ROWS.items():
        levels = rng.integers(1, 256, (rows, 1, 1))
        x = rng.integers(0, levels + 1, (rows, 8, 8)).astype(np.uint8)
        np.savez(folder / f"data/{split}.npz", x=x, y=rng.integers(0, 4, rows))


def specimens(folder: Path) -> list[Specimen]:
    """Make all kinds of stores."""
    make_once("specimens", folder / "specimens", lambda: _make_all(folder / "specimens"))
    folder = folder / "specimens"
    found = []
    for kind in sorted((folder / "ours").iterdir()):
        if kind.is_dir() and kind.name != "data":
            like = _OF_OTHERS.get(kind.name.partition(" ")[0], kind.name)
            donor = folder / "theirs" / _OF_OTHERS.get(kind.name, like)
            found.append(Specimen(kind.name, kind, _stores(kind), donor, _stores(donor)[0]))
    return found


def _make_all(folder: Path) -> None:
    with small_chunks():
        for side, seed in (("ours", 0), ("theirs", 1)):
            _make(folder / side, seed)
        _make_others(folder / "ours")


def _stores(folder: Path) -> tuple[str, ...]:
    names = sorted(each.name for each in folder.iterdir())
    return tuple(name for name in names if name.endswith((".zarr", ".h5", ".zip")))


def _place(side: Path, kind: str, name: str) -> Path:
    (side / kind).mkdir(exist_ok=True)
    return side / kind / name


def _make(side: Path, seed: int) -> None:
    """Make stores of all formats and codecs."""
    side.mkdir(parents=True)
    make_model_and_data(side, seed)
    model, data = side / "m.onnx", side / "data"
    full = _place(side, "zarr lz4", "s.zarr")
    cnatool.dump(model, data, full, statistics="all", **_KEEP)
    for codec in ("zstd", "gzip", "none"):
        cnatool.convert(full, _place(side, f"zarr {codec}", "s.zarr"), codec=codec)
    for codec in ("none", "gzip"):
        cnatool.convert(full, _place(side, f"hdf5 {codec}", "s.h5"), codec=codec)
    sums = _place(side, "zarr statistics", "s.zarr")
    cnatool.dump(model, data, sums, keep="statistics", **_KEEP)
    cnatool.convert(sums, _place(side, "hdf5 statistics", "s.h5"))


def _make_others(side: Path) -> None:
    """Make stores that are packed, that refer to others, and that are unfinished."""
    model, data = side / "m.onnx", side / "data"
    full, sums = side / "zarr lz4" / "s.zarr", side / "zarr statistics" / "s.zarr"
    _zip(full, _place(side, "zip stored", "s.zarr.zip"), zipfile.ZIP_STORED)
    _zip(full, _place(side, "zip deflated", "s.zarr.zip"), zipfile.ZIP_DEFLATED)
    for first, second in (("a.zarr", "b.zarr"), ("a.h5", "b.zarr"), ("a.zarr", "b.h5")):
        held = _place(side, f"shared {first} {second}", first)
        cnatool.convert(sums, held)
        cnatool.dump(model, data, held.with_name(second), inputs_from=held, **_KEEP)
    _begin(model, data, _place(side, "zarr unfinished", "s.zarr"))
    _begin(model, data, _place(side, "hdf5 unfinished", "s.h5"))
    _interrupt(full, _place(side, "hdf5 journal", "s.h5"))


def _zip(store: Path, target: Path, compression: int) -> None:
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(each for each in store.rglob("*") if each.is_file()):
            archive.write(file, file.relative_to(store).as_posix())


class _StopError(Exception):
    """A dump is cut off here."""


class _Stopper:
    def note(self, text: str) -> None:
        pass

    def progress(self, split: str, done: int, rows: int) -> None:
        if split == "test" and done:
            raise _StopError


def _begin(model: Path, data: Path, store: Path) -> None:
    """Leave a dump unfinished."""
    try:
        cnatool.dump(model, data, store, observer=_Stopper(), **_KEEP)
    except _StopError:
        return
    raise AssertionError("the dump was not cut off")


def _interrupt(full: Path, target: Path) -> None:
    """Make a store as a power loss in its last commit leaves it: the file, and a journal."""
    apply = Journal.apply

    def kept(journal: Journal, file: FileIO) -> None:
        # The new store has a name of its own until it is finished.
        (path,) = (each for each in target.parent.glob("*.journal") if each != journal_path(target))
        shutil.copy(path.with_suffix(""), target)
        shutil.copy(path, journal_path(target))
        apply(journal, file)

    with mock.patch.object(Journal, "apply", kept):
        cnatool.convert(full, target.parent / "new.h5")
    (target.parent / "new.h5").unlink()
