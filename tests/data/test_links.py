"""Links in circles, pipes and devices among samples: refused at once, by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnatool._util.local_paths import real_path
from cnatool.data.detect import open_source
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")


def images(folder: Path) -> Path:
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


def rows(place: Path) -> int:
    found = open_splits(place, {}, SINGLE_INPUT, ReaderOptions(), lambda line: None)
    return sum(len(block.ids) for source in found.values() for block in source.blocks(4))


CASES: dict[str, Callable[[Path], object]] = {
    "a/x.png": lambda path: path.symlink_to(path.name),
    "a/f.png": os.mkfifo,
    "a/z.png": lambda path: path.symlink_to("/dev/zero"),
    "c": lambda path: path.symlink_to("c"),
    "d": lambda path: path.symlink_to("."),
    "train": lambda path: path.symlink_to("test") or (path.parent / "test").symlink_to("train"),
    "test": lambda path: path.symlink_to("../gone"),
    "b/up": lambda path: path.symlink_to(".."),
}


@pytest.mark.parametrize("name", CASES)
def test_among_images(name: str, tmp_path: Path) -> None:
    folder = images(tmp_path / "pictures")
    assert rows(folder) == 6
    CASES[name](folder / name)
    with pytest.raises(DataError, match=str(tmp_path)):
        rows(folder)


def test_a_split_that_is_a_link_in_a_circle_is_not_left_out(tmp_path: Path) -> None:
    images(tmp_path / "train")
    (tmp_path / "test").symlink_to("test")
    with pytest.raises(DataError, match=r"test is a symbolic link that leads in a circle"):
        rows(tmp_path)


@pytest.mark.parametrize(
    "name", ["s.npz", "s.npy", "s.h5", "s.tar", "s.csv", "s.parquet", "s-images-idx3-ubyte", "s"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "circle"])
def test_as_a_file(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else name)
    with pytest.raises(DataError, match=name):
        rows(path)


@pytest.mark.parametrize("place", ["zarr.json", "x/zarr.json", "x"])
@pytest.mark.parametrize("kind", ["pipe", "circle"])
def test_inside_zarr(place: str, kind: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    group.create_array("x", data=np.zeros((4, 3), np.float32))
    path = tmp_path / "s.zarr" / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    with pytest.raises(DataError, match="s.zarr"):
        open_source(tmp_path / "s.zarr")


def test_real_path_of_circles(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert real_path(tmp_path / "one").parent == real_path(tmp_path)
