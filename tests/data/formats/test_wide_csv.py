"""Tables of many columns are read by other means, and as all others are."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnatool.data.formats import csv as tables
from cnatool.data.formats import wide_csv as wide_text
from cnatool.data.formats.csv import open_csv
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.data.source import Block, SampleError
from cnatool.errors import DataError

CELLS = st.sampled_from(
    ["1", "-7", "2.5", " 3 ", "1e3", "", "nan", "inf", "+4", "9007199254740993", "x", "1,5", ".5"]
)
KINDS = st.sampled_from(["a", "b c", "1", "2", "-1", 'q"', "two\nlines", "d,e;f"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    columns, rows = draw(st.integers(3, 6)), draw(st.integers(1, 5))
    mark = draw(st.sampled_from(",;\t"))
    style = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, quoting=style, lineterminator=draw(
        st.sampled_from(["\n", "\r\n"])
    ))  # fmt: skip
    names = [f"c{i}" for i in range(columns)]
    names[draw(st.integers(0, columns - 1))] = "label"
    writer.writerow(names)
    simple = draw(st.booleans())
    for _ in range(rows):
        cells = [draw(st.sampled_from(["1", "2.5", "-3"]) if simple else CELLS) for _ in names]
        cells[names.index("label")] = draw(KINDS)
        if draw(st.integers(0, 9)) == 0:
            out.write("\r\n" if style == csv.QUOTE_ALL else "\n")
        if draw(st.integers(0, 9)) == 0:
            cells = cells[:-1]
        writer.writerow(cells)
    return out.getvalue()


def read(path: Path, columns: int, skip: bool) -> list[Block] | str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "WIDE", columns)
        patched.setattr(wide_text, "_CELLS", 7)
        try:
            source = open_csv(
                [path, path], ArraySelection(images=ImageOptions(skip_unreadable=skip))
            )
            return [*source.blocks(3), source.classes, source.inputs]
        except DataError as error:
            return str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts(), st.booleans())
def test_the_same_as_polars_reads(
    tmp_path_factory: pytest.TempPathFactory, text: str, skip: bool
) -> None:
    path = tmp_path_factory.mktemp("wide") / "a.csv"
    path.write_text(text, newline="")
    narrow, wide = read(path, 1_000, skip), read(path, 2, skip)
    if isinstance(narrow, str) or isinstance(wide, str):
        same = "cannot be read as a table" in str(narrow) and "cannot be read" in str(wide)
        # Of quotation marks around nothing polars makes a text, and a wide table nothing.
        assert same or str(wide).replace("is empty", "is ''") == str(narrow).replace(
            "is empty", "is ''"
        )
        return
    assert len(narrow) == len(wide)
    assert narrow[-2:] == wide[-2:]
    for one, other in zip(narrow[:-2], wide[:-2], strict=True):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.inputs[0], other.inputs[0])
        assert one.inputs[0].dtype == other.inputs[0].dtype
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.faults.keys() == other.faults.keys()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("point", [".", ","])
def test_a_row_at_a_time(tmp_path: Path, mark: str, point: str) -> None:
    if mark == point:
        return
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 30_000)).round(5)
    whole = rng.integers(-9, 9, (7, 30_000))
    kinds = ["cat", "dog", "cat", "cat", "newt", "dog", "cat"]
    path = tmp_path / "a.tsv"
    lines = [mark.join([*(f"g{i}" for i in range(60_000)), "class"])]
    for row, kind in enumerate(kinds):
        cells = [*map(repr, values[row].tolist()), *map(str, whole[row].tolist()), kind]
        lines.append(mark.join(cells).replace(".", point))
    path.write_text("\n".join(lines))
    source = open_csv([path])
    assert (source.rows, source.classes) == (7, ("cat", "dog", "newt"))
    one, two = source.blocks(4)
    np.testing.assert_array_equal(
        np.concatenate([one.inputs[0], two.inputs[0]]), np.hstack([values, whole])
    )
    assert [*one.labels, *two.labels] == [0, 1, 0, 0, 2, 1, 0]
    several = open_csv([path], ArraySelection(("a", "b"), {"a": "g1,g0", "b": "g30000,g59999"}))
    [block] = several.blocks(9)
    np.testing.assert_array_equal(block.inputs[0], values[:, [1, 0]])
    np.testing.assert_array_equal(block.inputs[1], whole[:, [0, -1]])
    assert [each.dtype.kind for each in block.inputs] == ["f", "i"]


def test_what_is_wrong_in_a_wide_table_is_one_short_message(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = ",".join(f"g{i}" for i in range(5_000))
    good = ",".join(["1.5"] * 5_000)
    for text, said in (
        (f"{names}\n{good}\n{good.replace('1.5', '?', 1)}\n", "column 'g0', row 1, is '?'"),
        (f"{names}\n{good},1\n", "a row has 5001 cells, 5000 have names"),
        (f"{names}\n{good[:-4]}\n", "column 'g4999', holds no numbers"),
        (f"{names}\n", "holds no samples below its header line"),
        (f"{good}\n{good}\n", "has no header line"),
        (f'{names}\n"{good}\n', "a quotation mark is not closed"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said.replace("?", r"\?")) as caught:
            list(open_csv([path]).blocks(1))
        assert len(str(caught.value)) < 400 + len(str(path))
    path.write_bytes(f"{names}\n".encode() + good.encode().replace(b"1.5", b"\xff", 1))
    with pytest.raises(DataError, match="line 2, is not UTF-8"):
        open_csv([path])
    with pytest.raises(DataError, match=r"no such column. There are g0, g1, ") as caught:
        open_csv([path], ArraySelection(labels="kind"))
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_row_that_cannot_be_read_can_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [["1", "2"] * 1_000, ["1", ""] * 1_000, ["3", "4"] * 1_000]
    path.write_text("\n".join(map(",".join, [[f"g{i}" for i in range(2_000)], *rows])))
    with pytest.raises(SampleError, match="column 'g1', row 1, is empty"):
        list(open_csv([path]).blocks(2))
    one, two = open_csv([path], ArraySelection(images=ImageOptions(skip_unreadable=True))).blocks(2)
    assert list(one.faults) == [1]
    assert not two.faults
    assert math.isclose(two.inputs[0].sum(), 7_000)


STRAY = {
    "two rows": '1,2,5"\n3,4,a\n5,6,7"\n8,9,b\n',
    "last row": '1,2,a\n3,4,5"\n',
    "behind a cell": '1,2,"a"b"\n3,4,"c"\n',
    "in two cells": '1,2","a\n3,4,b\n5,6,c"\n',
}


@pytest.mark.parametrize("rows", STRAY.values(), ids=STRAY)
def test_stray_quotation_marks_lose_no_row(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"a,b,label\n{rows}")
    found = read(path, 2, skip=True)
    assert isinstance(found, str)
    assert "quotation mark" in found


@pytest.mark.parametrize("names", ["a,a,a_duplicated_0", "a,a_duplicated_0,a"])
@pytest.mark.parametrize("columns", [2, 1_000])
def test_numbered_names_of_duplicates_are_unique(tmp_path: Path, names: str, columns: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{names},label\n1,2,3,0\n4,5,6,1\n")
    found = read(path, columns, skip=False)
    assert isinstance(found, str)
    assert "a_duplicated_0" in found


def test_reading_leaves_the_limit_of_cells_in_this_process(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text('a,b,label\n1,2,"x"\n3,4,"y"\n')
    assert not isinstance(read(path, 2, skip=False), str)
    assert csv.field_size_limit() >= before
