from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnatool.data.formats import csv as tables
from cnatool.data.formats.csv import open_csv
from cnatool.data.selection import ArraySelection
from cnatool.errors import DataError


@pytest.fixture(autouse=True, params=[1_000, 2], ids=["polars", "wide"])
def wide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every table as a narrow one, then as a wide one."""
    monkeypatch.setattr(tables, "WIDE", request.param)


def table(path: Path, text: str) -> Path:
    file = path / "a.csv"
    file.write_text(text)
    return file


def test_numbers_side_by_side(tmp_path: Path) -> None:
    text = "id,height,width,class\n7,1,2.5,3\n8,-4,1e3,0\n9, 6 ,7,3\n"
    source = open_csv([table(tmp_path, text)])
    [spec] = source.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("columns", (2,), np.float64)
    one, two = source.blocks(2)
    assert (one.ids, two.ids) == (["0", "1"], ["2"])
    np.testing.assert_array_equal(one.inputs[0], [[1, 2.5], [-4, 1000]])
    np.testing.assert_array_equal(two.inputs[0], [[6, 7]])
    assert one.labels is not None
    assert one.labels.tolist() == [3, 0]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_whole_numbers_stay_whole(tmp_path: Path, mark: str) -> None:
    rows = [["a", "b"], ["9007199254740993", "2"], ["3", "-4"]]
    [block] = open_csv([table(tmp_path, "\n".join(map(mark.join, rows)))]).blocks(9)
    assert block.inputs[0].tolist() == [[9007199254740993, 2], [3, -4]]
    assert block.labels is None


def test_classes_by_name_and_columns_by_choice(tmp_path: Path) -> None:
    file = table(tmp_path, 'a,kind,b,text\n1,x,2,?\n3,"b, c",4,?\n')
    wanted = ArraySelection(("in",), {"in": "b,a"}, labels="kind")
    source = open_csv([file], wanted)
    assert source.classes == ("b, c", "x")
    [block] = source.blocks(9)
    assert block.inputs[0].tolist() == [[2, 1], [4, 3]]
    assert block.labels is not None
    assert block.labels.tolist() == [1, 0]
    several = open_csv([file], ArraySelection(("a", "b"), labels="kind"))
    assert [spec.shape for spec in several.inputs] == [(), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,y\n1,0\n2,0\n?,1\n", r"a\.csv, column 'a', row 2, is '\?': fill it with a number"),
        ("a,y\n1,0\n,1\n", "column 'a', row 1, is empty"),
        ("a,y\n1,0\n2,\n", "column 'y', row 1, has no label"),
        ("a,b\n1,x\n2,z\n", "column 'b', holds no numbers: choose `split_column='b'`"),
        ("1,2\n3,4\n", "has no header line"),
        ("0,0,5\n3,4,1\n", "has no header line"),
        ("a,b\n", "holds no samples below its header line"),
        ("a,b\n1,2,3\n", "cannot be read as a table"),
        ("", "cannot be read as a table"),
        ("y,label,a\n1,1,1\n", "holds y and label, each of which could be the labels"),
        ("y\n1\n", "has no column of numbers besides labels"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(open_csv([table(tmp_path, text)]).blocks(2))


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    file = table(tmp_path, "a,b\n1,2\n")
    for wanted in (
        ArraySelection(labels="z"),
        ArraySelection(split_column="z"),
        ArraySelection(("in",), {"in": "a,z"}),
    ):
        with pytest.raises(DataError, match=r"z: .*a\.csv has no such column. There are a, b"):
            open_csv([file], wanted)
