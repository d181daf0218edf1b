from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnatool.data.detect import open_source
from cnatool.data.find_splits import find_splits
from cnatool.data.location import Location
from cnatool.data.selection import ArraySelection
from cnatool.errors import DataError, UsageError

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)


def idx(path: Path, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">4B2I", 0, 0, 8, 2, rows, 3) + bytes(3 * rows))
    return path


def test_open_source_looks_at_the_path(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.NPZ.npz", x=np.zeros((3, 2)))
    np.save(tmp_path / "a.npy", np.zeros((4, 2)))
    image(tmp_path / "p" / "cat" / "1.png")
    idx(tmp_path / "pair" / "train-images-idx3-ubyte", 5)
    idx(tmp_path / "named-by-content", 6)
    rows = {
        name: open_source(tmp_path / name).rows
        for name in ("a.NPZ.npz", "a.npy", "p", "pair", "named-by-content")
    }
    assert rows == {"a.NPZ.npz": 3, "a.npy": 4, "p": 1, "pair": 5, "named-by-content": 6}


def test_open_source_says_what_is_understood(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2")
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "empty"):
        with pytest.raises(
            DataError, match=r"not a f.* Known formats are a \.npz archive, .*, IDX \(MNIST's files"
        ) as caught:
            open_source(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a file of samples"):
        open_source(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"^no such file or folder: .*nowhere$"):
        open_source(tmp_path / "nowhere")


def test_labels_by_name_where_they_have_none_say_where_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(UsageError, match="Leave `labels` out: .* NAME_labels.npy beside"):
        open_source(tmp_path / "x.npy", ArraySelection(labels="labels.csv"))


def test_several_idx_files_are_no_single_source(tmp_path: Path) -> None:
    for name in ("a-images-idx3-ubyte", "b-images-idx3-ubyte"):
        idx(tmp_path / name)
    with pytest.raises(DataError, match=r"several IDX images files \(a-images-.*, b-images-.*\)"):
        open_source(tmp_path)


def test_a_file_and_a_plain_folder_are_one_split(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert find_splits(tmp_path / "a.npy", {}) == {"all": Location(tmp_path / "a.npy")}
    image(tmp_path / "p" / "cat" / "1.png")
    assert find_splits(tmp_path / "p", {}) == {"all": Location(tmp_path / "p")}
    idx(tmp_path / "i" / "images-idx3-ubyte")
    assert find_splits(tmp_path / "i", {}) == {"all": Location(tmp_path / "i")}


def test_parts_as_folders_and_files(tmp_path: Path) -> None:
    image(tmp_path / "test" / "cat" / "1.png")
    idx(tmp_path / "train" / "train-images-idx3-ubyte")
    np.save(tmp_path / "val.npy", np.zeros(3))
    np.save(tmp_path / "val_labels.npy", np.zeros(3, int))
    splits = find_splits(tmp_path, {})
    assert list(splits) == ["train", "val", "test"]
    assert splits["val"] == Location(tmp_path / "val.npy")
    assert [open_source(part).rows for part in splits.values()] == [2, 3, 1]


def test_one_part_alone_is_that_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros(3))
    assert find_splits(tmp_path, {}) == {"train": Location(tmp_path / "train.npz")}


def test_mnist_names(tmp_path: Path) -> None:
    test = idx(tmp_path / "t10k-images-idx3-ubyte.gz")
    train = idx(tmp_path / "train-images.idx3-ubyte")
    assert list(find_splits(tmp_path, {}).items()) == [
        ("train", Location(train)),
        ("test", Location(test)),
    ]
    # Unpacked beside the packed file: the same data.
    plain = idx(tmp_path / "t10k-images-idx3-ubyte")
    assert find_splits(tmp_path, {})["test"] == Location(plain)


def test_a_part_that_is_there_twice(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros(3))
    (tmp_path / "train").mkdir()
    with pytest.raises(
        DataError, match=r"train twice, as train\.npz and train: .*`splits={'train': PATH}`"
    ):
        find_splits(tmp_path, {})


def test_train_is_a_class_where_images_lie_in_it(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        image(tmp_path / name / "1.png")
    assert find_splits(tmp_path, {}) == {"all": Location(tmp_path)}
    assert open_source(tmp_path).classes == ("bus", "train")


def test_named_splits(tmp_path: Path) -> None:
    named = dict.fromkeys(("z", "test", "a-b_9", "train"), tmp_path)
    assert list(find_splits(None, named)) == ["train", "test", "z", "a-b_9"]
    with pytest.raises(DataError, match="no such file or folder"):
        find_splits(None, {"train": tmp_path / "nowhere"})


@pytest.mark.parametrize("name", ["", "a b", "../x", "é", "x" * 65, "a\n"])
def test_names_that_splits_cannot_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"a split cannot be called .*: use 1 to 64 letters"):
        find_splits(None, {name: tmp_path})


def test_data_or_splits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`data` and `splits` were both given"):
        find_splits(tmp_path, {"train": tmp_path})
    with pytest.raises(UsageError, match="give `data`, or `splits={'NAME': PATH}`"):
        find_splits(None, {})
    with pytest.raises(DataError, match="no such file or folder"):
        find_splits(tmp_path / "nowhere", {})


def test_arrays_do_not_wait_for_pillow(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros(3))
    (tmp_path / "test").mkdir()
    code = (
        "import sys; from pathlib import Path; from cnatool.data.splits import *;"
        "from cnatool.data.detect import open_source;"
        f"open_source(find_splits(Path({str(tmp_path)!r}), {{}})['train']);"
        "sys.exit('PIL' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=env).returncode == 0


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"MNIST is not at {MNIST}")
def test_mnist_itself() -> None:
    splits = find_splits(MNIST, {})
    assert {name: open_source(part).rows for name, part in splits.items()} == {
        "train": 60_000,
        "test": 10_000,
    }
