from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnatool.data.detect import open_source
from cnatool.data.selection import SINGLE_INPUT, ArraySelection
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError, UsageError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (23, 32, 32, 3), np.uint8)
LABELS = np.arange(23) % 10


def batch(path: Path, rows: slice, *labels: np.ndarray) -> Path:
    """Write the format as its authors describe it: labels, then red, green, blue, row-major."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for row in range(*rows.indices(len(PICTURES))):
            file.write(bytes(int(values[row]) for values in labels))
            for channel in range(3):
                file.write(PICTURES[row, :, :, channel].tobytes())
    return path


def test_cifar10_as_it_is_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    batch(folder / "data_batch_1.bin", slice(0, 9), LABELS)
    batch(folder / "data_batch_2.bin", slice(9, 15), LABELS)
    batch(folder / "test_batch.bin", slice(15, 23), LABELS)
    names = [f"class {i}" for i in range(10)]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    (folder / "readme.html").write_text("")
    splits = open_splits(folder, {}, SINGLE_INPUT, ReaderOptions(), print)
    assert list(splits) == ["train", "test"]
    train = splits["train"]
    assert (train.rows, train.name) == (15, "data_batch_1.bin and 1 more")
    assert train.classes == tuple(names)
    assert train.inputs[0].layout == "hwc"
    for rows in (1, 4, 9, 50):
        blocks = list(train.blocks(rows, 14))
        assert [len(b.ids) for b in blocks[:-1]] == [rows] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate([b.inputs[0] for b in blocks]), PICTURES[:14])
        labels = [int(y) for b in blocks if b.labels is not None for y in b.labels]
        assert labels == LABELS[:14].tolist()
        ids = [i for b in blocks for i in b.ids]
        assert ids[8:10] == ["data_batch_1.bin:8", "data_batch_2.bin:0"]
        assert train.id_bytes == len(ids[0])
    [block] = splits["test"].blocks(99)
    assert block.ids == [str(i) for i in range(8)]
    np.testing.assert_array_equal(block.inputs[0], PICTURES[15:])


def test_cifar100_has_two_labels(tmp_path: Path) -> None:
    coarse, fine = np.arange(23) % 20, np.arange(23) * 4
    batch(tmp_path / "train.bin", slice(0, 13), coarse, fine)
    batch(tmp_path / "test.bin", slice(13, 23), coarse, fine)
    (tmp_path / "coarse_label_names.txt").write_text("\n".join(f"c{i}" for i in range(20)))
    for name, labels in ((None, fine), ("fine", fine), ("coarse", coarse)):
        splits = open_splits(tmp_path, {}, SINGLE_INPUT, ReaderOptions(labels=name), print)
        [block] = splits["test"].blocks(99)
        np.testing.assert_array_equal(block.inputs[0], PICTURES[13:])
        np.testing.assert_array_equal(block.labels, labels[13:])
        assert (splits["train"].classes or ())[:1] == (("c0",) if name == "coarse" else ())
    with pytest.raises(UsageError, match="`labels=z`: CIFAR-100 has coarse and fine"):
        open_splits(tmp_path, {}, SINGLE_INPUT, ReaderOptions(labels="z"), print)


def test_a_format_may_be_named(tmp_path: Path) -> None:
    path = batch(tmp_path / "x", slice(0, 3), LABELS)
    with pytest.raises(DataError, match="not a file of samples"):
        open_source(path)
    assert open_source(path, format_name="cifar10").rows == 3
    with pytest.raises(
        DataError, match="has 9219 bytes, .* the 3074 bytes of an image of CIFAR-100"
    ):
        open_source(path, format_name="cifar100")


def test_a_label_beyond_the_classes_is_named(tmp_path: Path) -> None:
    path = batch(tmp_path / "x.bin", slice(0, 23), np.where(np.arange(23) == 21, 10, LABELS))
    source = open_source(path)
    with pytest.raises(DataError, match=r"x\.bin, row 21, has the label 10, and there are 10"):
        list(source.blocks(4))


def test_a_cut_file(tmp_path: Path) -> None:
    path = batch(tmp_path / "data_batch_1.bin", slice(0, 3), LABELS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="not a multiple of the \\d+ bytes of an image of CIFAR-10"):
        open_source(path, ArraySelection(), "cifar10")
