from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from cnatool.data.formats.parquet import open_parquet
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.data.source import Source
from cnatool.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (11, 4, 3, 3), np.uint8)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def hub(path: Path, images: Any = RGB, **columns: Any) -> Path:
    """Write what a dataset hub does: a struct of bytes and path for each image."""
    images = [
        {"bytes": None if p is None else png(p), "path": f"{i}.png"} for i, p in enumerate(images)
    ]
    labels = columns or {"label": np.arange(len(images)) % 3}
    pl.DataFrame({"image": images, **labels}).write_parquet(path, row_group_size=4)
    return path


def joined(source: Source, rows: int = 3) -> tuple[list[str], list[Any], Any]:
    blocks = list(source.blocks(rows))
    arrays = [np.concatenate(parts) for parts in zip(*(b.inputs for b in blocks), strict=True)]
    labels = None if blocks[0].labels is None else np.concatenate([b.labels for b in blocks])
    return [i for b in blocks for i in b.ids], arrays, labels


def test_images_of_a_dataset_hub(tmp_path: Path) -> None:
    source = open_parquet([hub(tmp_path / "a.parquet")])
    [spec] = source.inputs
    assert (spec.name, spec.shape, spec.dtype, spec.layout) == ("image", (4, 3, 3), "u1", "hwc")
    ids, [images], labels = joined(source)
    assert ids == [str(i) for i in range(11)]
    np.testing.assert_array_equal(images, RGB)
    np.testing.assert_array_equal(labels, np.arange(11) % 3)
    assert labels.dtype == np.int64


def test_images_as_plain_bytes_and_classes_by_name(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"img": [png(p[..., 0]) for p in RGB], "label": ["dog", "cat", "dog"] * 3 + ["é", "cat"]}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    source = open_parquet([tmp_path / "a.parquet"])
    assert source.classes == ("cat", "dog", "é")
    _, [images], labels = joined(source)
    np.testing.assert_array_equal(images, RGB[..., 0])
    assert labels.tolist() == [1, 0, 1] * 3 + [2, 0]


def test_names_of_classes_in_the_metadata(tmp_path: Path) -> None:
    feature = {"names": ["a", "b", "c"], "_type": "ClassLabel"}
    text = json.dumps({"info": {"features": {"label": feature}}})
    frame = pl.DataFrame({"x": [1.5, 2.5], "label": [2, 0]})
    frame.write_parquet(tmp_path / "a.parquet", metadata={"huggingface": text})
    source = open_parquet([tmp_path / "a.parquet"])
    assert source.classes == ("a", "b", "c")
    assert joined(source)[2].tolist() == [2, 0]
    for text in ("{", "[]", '{"info": 3}', "[" * 100_000):
        frame.write_parquet(tmp_path / "a.parquet", metadata={"huggingface": text})
        assert open_parquet([tmp_path / "a.parquet"]).classes is None


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
def test_several_files_are_one_table(tmp_path: Path, rows: int) -> None:
    parts = [RGB[:4], RGB[4:5], RGB[5:]]
    paths = [
        hub(tmp_path / f"t-{i}.parquet", part, label=np.arange(len(part)) + 10 * i)
        for i, part in enumerate(parts)
    ]
    source = open_parquet(paths)
    assert (source.rows, source.name) == (11, "t-0.parquet and 2 more")
    ids, [images], labels = joined(source, rows)
    assert ids[:6] == [
        f"t-{f}.parquet:{r}" for f, r in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0))
    ]
    assert source.id_bytes == max(map(len, ids))
    np.testing.assert_array_equal(images, RGB)
    assert labels.tolist() == [0, 1, 2, 3, 10, 20, 21, 22, 23, 24, 25]
    [block] = source.blocks(100, 5)
    assert block.ids == ids[:5]


def test_numbers_and_nested_lists(tmp_path: Path) -> None:
    nested = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    frame = pl.DataFrame(
        {"tokens": nested.tolist(), "price": [0.5] * 5, "fixed": nested[:, 0].astype(np.int16)}
    )
    assert isinstance(frame.schema["fixed"], pl.Array)
    frame.write_parquet(tmp_path / "a.parquet")
    names = ("tokens", "price", "fixed")
    source = open_parquet([tmp_path / "a.parquet"], ArraySelection(names))
    assert [(s.shape, s.dtype) for s in source.inputs] == [((2, 3), "i8"), ((), "f8"), ((3,), "i2")]
    _, [tokens, price, fixed], labels = joined(source, 2)
    np.testing.assert_array_equal(tokens, nested)
    np.testing.assert_array_equal(price, [0.5] * 5)
    np.testing.assert_array_equal(fixed, nested[:, 0])
    assert labels is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([[[1, 2], [3, 4]]] * 6 + [[[1, 2], [3]]], "'x', row 6, has 1 value where the .* has 2"),
        ([[[1, 2], [3, 4]]] * 6 + [[[1, 2]]], "'x', row 6, has 1 value where the .* has 2"),
        ([[[1, 2], [3, 4]]] * 5 + [None], "'x', row 5, is missing where the first row has 2"),
        (
            [[[1, 2], [3, 4]]] * 5 + [[[1, 2], [3, None]]],
            "'x', row 5, is missing, or has a missing value",
        ),
        ([1, 2, None], "'x', row 2, is missing"),
    ],
)
def test_errors_name_the_row(tmp_path: Path, values: list[Any], text: str) -> None:
    pl.DataFrame({"x": values}).write_parquet(tmp_path / "a.parquet")
    for rows in (1, 4, 100):
        with pytest.raises(DataError, match=text) as caught:
            list(open_parquet([tmp_path / "a.parquet"]).blocks(rows))
        assert str(tmp_path / "a.parquet") in str(caught.value)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (None, "column 'image', row 7, holds no bytes of an image"),
        (RGB[0, :2], r"row 7, is \(2, 3, 3\) and the first is \(4, 3, 3\)"),
        (RGB[0, ..., 0], r"row 7, is \(4, 3\) and .* `colour=rgb`"),
    ],
)
def test_images_that_differ_are_named(tmp_path: Path, image: Any, text: str) -> None:
    path = hub(tmp_path / "a.parquet", [*RGB[:7], image, *RGB[8:]])
    with pytest.raises(DataError, match=text):
        list(open_parquet([path]).blocks(5))


def test_a_damaged_image_is_named_in_its_file(tmp_path: Path) -> None:
    hub(tmp_path / "a.parquet")
    frame = pl.DataFrame(
        {"image": [{"bytes": png(RGB[0]), "path": ""}, {"bytes": b"x", "path": ""}]}
    )
    frame = frame.with_columns(label=pl.lit(1, pl.Int64))
    frame.write_parquet(tmp_path / "b.parquet")
    source = open_parquet([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(
        DataError, match=r"b\.parquet, column 'image', row 1, is damaged, or not an"
    ):
        list(source.blocks(5))


@pytest.mark.parametrize(
    ("columns", "wanted", "text"),
    [
        (
            {"a": [[1]]},
            ArraySelection(),
            "needs a column of samples called x or .* and holds a: choose one",
        ),
        (
            {"a": [b"1"]},
            ArraySelection(),
            "needs a column of samples called x or .* and holds a: choose one",
        ),
        (
            {"a": [1], "b": ["?"]},
            ArraySelection(),
            "'b', holds String, not numbers: name the columns",
        ),
        (
            {"label": [1]},
            ArraySelection(),
            "needs a column of samples called x or .* and holds label",
        ),
        (
            {"a": [1]},
            ArraySelection(("in",), {"in": "a,z"}),
            "`inputs` z: .* has no such column. There are a",
        ),
        (
            {"a": [1], "y": [1], "class": [1]},
            ArraySelection(),
            "y and class, .* could be the labels",
        ),
        (
            {"x": [1], "data": [1]},
            ArraySelection(),
            "holds x and data, each of which could be a column of samples",
        ),
        (
            {"x": [1], "y": [1], "label": [1]},
            ArraySelection(),
            "y and label, .* could be a column of labels",
        ),
        (
            {"x": [1], "y": [0.5]},
            ArraySelection(),
            "'y', holds real numbers \\('0.5'\\), which are targets",
        ),
        ({"x": ["a"]}, ArraySelection(), "'x', holds String: samples are numbers"),
        ({"x": [[]]}, ArraySelection(), "which hold no value|holds Null"),
        ({"x": [1]}, ArraySelection(labels="z"), "a column of labels called z and holds x"),
        ({"x": []}, ArraySelection(), "holds no samples"),
    ],
)
def test_tables_that_cannot_be_meant(
    tmp_path: Path, columns: dict[str, Any], wanted: ArraySelection, text: str
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=text):
        open_parquet([tmp_path / "a.parquet"], wanted)


def test_labels_by_name_and_files_of_different_tables(tmp_path: Path) -> None:
    one = hub(tmp_path / "a.parquet", fine_label=np.arange(11), coarse_label=np.arange(11) % 2)
    source = open_parquet([one], ArraySelection(labels="coarse_label"))
    assert joined(source)[2].tolist() == [i % 2 for i in range(11)]
    other = hub(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="have different columns, so they are not parts of one"):
        open_parquet([one, other], ArraySelection(labels="coarse_label"))


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    labels = pl.Series([0, 2**63, 1], dtype=pl.UInt64)
    pl.DataFrame({"x": [1, 2, 3], "y": labels}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"'y', row 1, has the label {2**63}"):
        list(open_parquet([tmp_path / "a.parquet"]).blocks(2))


def test_a_column_for_each_feature(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [7, 8, 9],
            "height": pl.Series([1.5, 2.5, 3.5], dtype=pl.Float32),
            "class": ["a", "b", "a"],
            "width": pl.Series([-1, 2, 300], dtype=pl.Int16),
            "part": ["train", "test", "train"],
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    source = open_parquet([tmp_path / "a.parquet"], ArraySelection(split_column="part"))
    [spec] = source.inputs
    assert (spec.name, spec.shape, spec.dtype) == ("columns", (2,), np.float32)
    _, [values], labels = joined(source, 2)
    assert values.tolist() == [[1.5, -1], [2.5, 2], [3.5, 300]]
    assert labels.tolist() == [0, 1, 0]
    # By name, in the user's order, beside an input that is a column.
    wanted = ArraySelection(("both", "id"), {"both": "width,height"})
    source = open_parquet([tmp_path / "a.parquet"], wanted)
    assert [(spec.name, spec.shape) for spec in source.inputs] == [("both", (2,)), ("id", ())]
    _, [both, ids], labels = joined(source, 2)
    assert both.tolist() == [[-1, 1.5], [2, 2.5], [300, 3.5]]
    assert ids.tolist() == [7, 8, 9]
    assert labels.tolist() == [0, 1, 0]


def test_a_feature_that_is_missing(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2, 3, 4], "b": [1.0, 2.0, 3.0, None]})
    frame.write_parquet(tmp_path / "a.parquet")
    text = r"a\.parquet, column 'b', row 3, is empty: fill it with a number, leave the row out"
    with pytest.raises(DataError, match=text):
        list(open_parquet([tmp_path / "a.parquet"]).blocks(2))


def test_columns_of_several_types_and_gaps_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, pl.Series] = {}
    kinds = (pl.Int8, pl.Boolean, pl.Float32, pl.UInt16)
    for number in range(3_000):
        values = rng.integers(0, 2, 5).tolist()
        if number == 2_001:
            values[3] = None
        columns[f"c{number}"] = pl.Series(values).cast(kinds[number % 4])
    frame = pl.DataFrame(columns)
    frame.write_parquet(tmp_path / "a.parquet")
    one, two = open_parquet(
        [tmp_path / "a.parquet"], ArraySelection(images=ImageOptions(skip_unreadable=True))
    ).blocks(3)
    assert one.inputs[0].dtype == np.float32
    for number in range(3_000):
        expected = frame[f"c{number}"].fill_null(strategy="zero").to_numpy()
        values = np.concatenate([one.inputs[0][:, number], two.inputs[0][:, number]])
        np.testing.assert_array_equal(values, expected)
    assert (list(one.faults), list(two.faults)) == ([], [0])
    assert "column 'c2001', row 3, is empty" in two.faults[0]
