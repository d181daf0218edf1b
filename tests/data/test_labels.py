from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cnatool.data.formats.csv import open_csv
from cnatool.data.formats.csv_text import scan_table
from cnatool.data.labels import encode_labels, parse_whole_number
from cnatool.data.relabel import RelabelledSource
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Source
from cnatool.data.split_names import parse_split_name
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError


def opened(data: Path, **reading: str | int) -> tuple[dict[str, Source], list[str]]:
    said: list[str] = []
    found = open_splits(data, {}, SINGLE_INPUT, ReaderOptions(**reading), said.append)  # type: ignore[arg-type]
    return found, said


def labels(source: Source) -> list[int]:
    return [int(y) for b in source.blocks(3) for y in (b.labels if b.labels is not None else [])]


def csv(path: Path, words: list[str], head: str = "a,b,label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *(f"{i},1,{word}" for i, word in enumerate(words))]) + "\n")
    return path


def test_floats_that_are_whole_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"x": [0.0, 1, 2], "y": [10.0, 2.0, 0.0]}).write_parquet(path)
    assert labels(opened(path)[0]["all"]) == [10, 2, 0]


def test_numbers_too_large_or_not_whole() -> None:
    found = {"9223372036854775807": 2**63 - 1, "1e3": 1000}
    for text in ("9223372036854775808", "1e-3", "٣", "1_0", "", "inf", "3.5", "three", "0x3"):
        found[text] = None
    assert {text: parse_whole_number(text) for text in [*found, "1e400"]} == found | {"1e400": None}


def test_names_count_in_order_and_without_space_around() -> None:
    numbering = encode_labels(["dog", " cat", "cat", "7"], "t", "")
    assert numbering.classes == ("7", "cat", "dog")
    assert numbering.numbers == {"dog": 2, " cat": 1, "cat": 1, "7": 0}
    for words in (["TRUE", "false"], ["True", "False"]):
        assert encode_labels(words, "t", "").numbers == {words[0]: 1, words[1]: 0}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["0.25", "1.75"], "real numbers .* not classes: .* `labels=none`"),
        (["0", "1", "0.5"], "targets of a regression and not classes"),
        (["1e-3", "nan"], "real numbers"),
        (["3", "3.0", "cat"], "same number but different names"),
    ],
)
def test_columns_that_are_no_labels(tmp_path: Path, words: list[str], text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_csv([csv(tmp_path / "t.csv", words)])
    source = opened(tmp_path / "t.csv", labels="none")[0]["all"]
    assert not source.labelled
    assert source.inputs[0].shape == (2,)


def test_a_missing_number_is_named_and_moves_no_other(tmp_path: Path) -> None:
    source = open_csv([csv(tmp_path / "t.csv", ["10", "nan", "2"])])
    with pytest.raises(DataError, match="row 1, has the label 'nan'"):
        list(source.blocks(3))


def test_labels_are_shifted(tmp_path: Path) -> None:
    source = opened(csv(tmp_path / "t.csv", ["1", "3", "2"]), label_offset=-1)[0]["all"]
    assert isinstance(source, RelabelledSource) or source.labelled
    assert labels(source) == [0, 2, 1]


def test_a_split_with_fewer_classes_takes_their_numbers_by_name(tmp_path: Path) -> None:
    csv(tmp_path / "train.csv", ["ant", "bee", "cat"])
    csv(tmp_path / "test.csv", ["cat", "ant"])
    splits, said = opened(tmp_path)
    assert labels(splits["test"]) == [2, 0]
    assert splits["test"].classes == ("ant", "bee", "cat")
    assert said == [
        "split test has 2 of the 3 classes of train; it uses the same numbers, matched by class "
        "name"
    ]
    csv(tmp_path / "test.csv", ["cat", "dog"])
    with pytest.raises(DataError, match="without 'dog'"):
        opened(tmp_path)
    csv(tmp_path / "test.csv", ["0", "1"])
    with pytest.raises(DataError, match="split test are whole numbers and those of split train"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("train-00000-of-00001-0f1e2d3c4b5a6978", "train", ""),
        ("cifar10-train", "train", "cifar10"),
        ("Training", "train", ""),
        ("dev_03", "val", ""),
        ("mnist.eval", "val", "mnist"),
        ("trainset", "train", ""),
        ("unsupervised-00000-of-00001", "unsupervised", ""),
        ("contest", None, "contest"),
        ("train_test", None, ""),
    ],
)
def test_split_names(name: str, split: str | None, rest: str) -> None:
    found = parse_split_name(name)
    assert (found.split, found.rest) == (split, rest)


def test_numbered_tables_are_parts_of_their_split(tmp_path: Path) -> None:
    for name in ("train_1", "train_2", "test_1", "test_2"):
        csv(tmp_path / f"{name}.csv", ["0", "1"])
    splits, said = opened(tmp_path)
    assert {name: source.rows for name, source in splits.items()} == {"train": 4, "test": 4}
    assert said == []
    csv(tmp_path / "more.csv", ["0"])
    with pytest.raises(DataError, match=r"also more\.csv, whose name contains no split"):
        opened(tmp_path)


def test_names_of_two_splits_and_two_tables_of_one(tmp_path: Path) -> None:
    csv(tmp_path / "a" / "train_test.csv", ["0"])
    with pytest.raises(DataError, match="names the splits test and train"):
        opened(tmp_path / "a")
    for name in ("matched", "mismatched"):
        csv(tmp_path / "b" / f"validation_{name}.csv", ["0"])
    with pytest.raises(DataError, match="holds the split val twice"):
        opened(tmp_path / "b")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_tables_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("a,b,label\n1,2,é\n2,1,z\n\n".encode(encoding))
    source = open_csv([tmp_path / "t.csv"])
    assert (source.classes, labels(source)) == (("z", "é"), [1, 0])
    assert scan_table(tmp_path / "t.csv").collect().columns == ["a", "b", "label"]


def test_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b;label\n1,5;2;0\n-2,25;1;1\n")
    [block] = open_csv([path]).blocks(9)
    np.testing.assert_array_equal(block.inputs[0], [[1.5, 2], [-2.25, 1]])
    path.write_text("a;b;label\n1,5;2.5;0\n")
    with pytest.raises(DataError, match="decimal comma and numbers with a decimal point"):
        open_csv([path])
