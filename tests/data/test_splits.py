from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cnatool.data.detect import open_source
from cnatool.data.find_splits import find_splits
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.data.wrappers import RowSubset
from cnatool.errors import DataError, UsageError


def saved(path: Path, rows: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=np.arange(rows) * 10, y=np.arange(rows))
    return path


def parquet(path: Path, rows: int = 4, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"x": np.arange(rows), "y": np.arange(rows), **more}).write_parquet(path)
    return path


def opened(
    data: Path | None, named: dict[str, Path] | None = None, **reading: Any
) -> tuple[dict[str, Source], list[str]]:
    said: list[str] = []
    return open_splits(data, named or {}, SINGLE_INPUT, ReaderOptions(**reading), said.append), said


def read(source: Source, rows: int = 3, limit: int | None = None) -> tuple[list[str], list[int]]:
    blocks = list(source.blocks(rows, limit))
    assert all(len(block.ids) == rows for block in blocks[:-1])
    for block in blocks:
        assert block.labels is not None
        np.testing.assert_array_equal(block.inputs[0], block.labels * 10)
    return (
        [i for b in blocks for i in b.ids],
        [int(y) for b in blocks for y in (b.labels if b.labels is not None else [])],
    )


def test_the_names_that_splits_have(tmp_path: Path) -> None:
    for name in ("training", "validation", "test"):
        saved(tmp_path / f"{name}.npz")
    assert list(find_splits(tmp_path, {})) == ["train", "val", "test"]
    saved(tmp_path / "valid.npz")
    with pytest.raises(DataError, match=r"split val twice, as valid.* and valid.*: choose one"):
        find_splits(tmp_path, {})


def test_numbered_files_of_a_dataset_hub(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        parquet(tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "README.md").write_text("")
    splits, _ = opened(tmp_path)
    assert {name: source.rows for name, source in splits.items()} == {"train": 8, "test": 4}
    assert opened(tmp_path / "data")[0].keys() == splits.keys()


def test_files_without_split_names_are_one_table(tmp_path: Path) -> None:
    for name in ("0000", "0001"):
        parquet(tmp_path / f"{name}.parquet")
    splits, _ = opened(tmp_path)
    assert {name: source.rows for name, source in splits.items()} == {"all": 8}


def test_two_readings_are_said_and_chosen(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "cat").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "cat" / "1.png")
    parquet(tmp_path / "more.parquet")
    text = "as .parquet files or as a folder of images by class: choose .*parquet` or `format=pic"
    with pytest.raises(DataError, match=text):
        opened(tmp_path)
    assert opened(tmp_path, format="pictures")[0]["all"].classes == ("cat",)
    assert opened(tmp_path, format="parquet")[0]["all"].rows == 4
    with pytest.raises(UsageError, match="`format=exe`: choose from npz, npy, parquet"):
        opened(tmp_path, format="exe")


def test_a_format_chooses_among_parts(tmp_path: Path) -> None:
    saved(tmp_path / "train.npz", 3)
    parquet(tmp_path / "train.parquet", 5)
    with pytest.raises(DataError, match="holds the split train twice"):
        opened(tmp_path)
    assert opened(tmp_path, format="parquet")[0]["train"].rows == 5


def test_a_name_that_hides_the_format(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz").rename(tmp_path / "a.bin.backup")
    with pytest.raises(DataError, match="not a file of samples"):
        open_source(path)
    assert open_source(path, format_name="npz").rows == 4


@pytest.mark.parametrize("name", ["data_batch_1", "a.pkl", "a.pt"])
def test_pickles_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=r"never unpickled: (use CIFAR's binary|save the arr)"):
            open_source(path)


def test_a_split_column(tmp_path: Path) -> None:
    values = ["valid", "train", "test", "train", "train", "extra"] * 5
    path = parquet(tmp_path / "a.parquet", 30, part=values)
    splits, _ = opened(path, split_column="part")
    assert list(splits) == ["train", "val", "test", "extra"]
    for name, value in (("train", "train"), ("val", "valid"), ("extra", "extra")):
        wanted = [str(i) for i, given in enumerate(values) if given == value]
        blocks = list(splits[name].blocks(4))
        assert [i for block in blocks for i in block.ids] == wanted
    assert splits["val"].name == "a.parquet where part is valid"
    (tmp_path / "a.csv").write_text("a,y,part\n1,0,train\n2,1,test\n3,0,train\n")
    splits, _ = opened(tmp_path / "a.csv", split_column="part")
    [block] = splits["train"].blocks(9)
    assert block.inputs[0].tolist() == [[1], [3]]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["train", None], "column 'part', row 1, names no split"),
        (["val", "valid"], "calls the split val by two names"),
        (["a b", "a b"], "a split cannot be called 'a b'"),
    ],
)
def test_split_columns_that_cannot_be_meant(tmp_path: Path, values: Any, text: str) -> None:
    path = parquet(tmp_path / "a.parquet", 2, part=values)
    with pytest.raises((DataError, UsageError), match=text):
        opened(path, split_column="part")
    with pytest.raises(DataError, match=r"`split_column` z: .* has no such column"):
        opened(path, split_column="z")


def test_a_split_column_needs_one_table(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"`split_column=a`: .* is not a \.parquet, \.csv or \.jsonl file"
    ):
        opened(saved(tmp_path / "a.npz"), split_column="a")
    for name in ("train", "test"):
        parquet(tmp_path / "d" / f"{name}.parquet", part=["a"] * 4)
    with pytest.raises(UsageError, match="have the splits train, test already"):
        opened(tmp_path / "d", split_column="part")


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_a_holdout_is_disjoint_ordered_and_repeatable(tmp_path: Path, rows: int) -> None:
    path = saved(tmp_path / "a.npz", 200)
    splits, said = opened(path, holdout=0.1, seed=3)
    assert list(splits) == ["train", "test"]
    train, test = (read(splits[name], rows) for name in splits)
    assert (len(train[0]), len(test[0])) == (180, 20)
    assert sorted([*train[1], *test[1]]) == list(range(200))
    for ids, labels in (train, test):
        assert labels == sorted(labels)
        assert ids == list(map(str, labels))
    assert read(opened(path, holdout=0.1, seed=3)[0]["test"], rows) == test
    assert read(opened(path, holdout=0.1, seed=4)[0]["test"], rows) != test
    assert read(splits["train"], rows, 15)[0] == train[0][:15]
    assert said == []
    assert splits["test"].name == "0.1 of a.npz held out, seed 3"


def test_a_holdout_beside_a_test_split_is_val(tmp_path: Path) -> None:
    for name, rows in (("train", 20), ("test", 4)):
        saved(tmp_path / f"{name}.npz", rows)
    splits, _ = opened(tmp_path, holdout=0.25)
    assert {n: s.rows for n, s in splits.items()} == {"train": 15, "val": 5, "test": 4}
    saved(tmp_path / "val.npz")
    with pytest.raises(UsageError, match="have the splits train, val and test already"):
        opened(tmp_path, holdout=0.25)


@pytest.mark.parametrize("share", [0.0, 1.0, -1, float("nan"), 0.01])
def test_shares_that_cannot_be_held_out(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="`holdout"):
        opened(saved(tmp_path / "a.npz", 10), holdout=share)


def test_samples_in_two_splits_are_counted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", 7)
    (tmp_path / "link.npz").symlink_to(path)
    _, said = opened(None, {"train": path, "test": tmp_path / "link.npz"})
    assert said == [
        "splits train and test share 7 samples, which are read from the same files: "
        "their scores are not independent"
    ]
    for name in ("1", "2"):
        parquet(tmp_path / "p" / f"{name}.parquet", int(name))
    _, said = opened(None, {"train": tmp_path / "p", "test": tmp_path / "p" / "2.parquet"})
    assert said[0].startswith("splits train and test share 2 samples")
    _, said = opened(None, {"a": tmp_path / "p" / "1.parquet", "b": tmp_path / "p" / "2.parquet"})
    assert said == []


def test_labels_cannot_be_named_everywhere(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"`labels=z`: .*a\.npy is a \.npy file, in which labels"):
        opened(tmp_path / "a.npy", labels="z")
    with pytest.raises(DataError, match=r"a\.npy::x: a \.npy file has no arrays to choose with ::"):
        open_splits(f"{tmp_path}/a.npy::x", {}, SINGLE_INPUT, ReaderOptions(), print)


def test_selected_rows_of_no_label(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10))
    source = RowSubset(open_source(tmp_path / "a.npy"), "some", np.array([1, 2, 9]))
    [block] = source.blocks(5)
    assert (block.ids, block.labels) == (["1", "2", "9"], None)
    assert list(source.blocks(5, 0)) == []


def test_numbered_files_of_which_some_are_missing(tmp_path: Path) -> None:
    for number in (0, 2):
        parquet(tmp_path / f"train-{number:05d}-of-00003-0f1e2d3c4b5a6978.parquet")
    lacking = r"lacks 1 of the numbered files of split train, such as train-00001-of-00003.parquet"
    with pytest.raises(DataError, match=lacking):
        opened(tmp_path)
    with pytest.raises(DataError, match=lacking):
        opened(None, {"train": tmp_path})
    alone = next(tmp_path.glob("train-00002*"))
    sources, said = opened(None, {"train": alone})
    assert sources["train"].rows == 4
    assert said == [f"{alone} is one of 3 files of split train; only this one is read"]
    parquet(tmp_path / "train-00001-of-00003-aa1e2d3c4b5a6978.parquet")
    sources, said = opened(tmp_path)
    assert (sources["train"].rows, said) == (12, [])


def test_splits_of_a_column_keep_their_order(tmp_path: Path) -> None:
    names = ["zebra", "ant", "test", "moth", "bee", "train"]
    parquet(tmp_path / "t.parquet", 6, part=names)
    sources, _ = opened(tmp_path / "t.parquet", split_column="part")
    # The usual ones first, then in the order of their first rows, whatever the hash seed.
    assert list(sources) == ["train", "test", "zebra", "ant", "moth", "bee"]
