"""Columns and fields with a list of labels for each sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.token_models import TokenModel

import cnatool
from cnatool.data.selection import ArraySelection
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

LENGTHS = [4, 1, 7, 7, 2, 3]


def draw() -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 20, n).tolist() for n in LENGTHS]
    labels = [rng.integers(-1, 5, n).tolist() for n in LENGTHS]
    return ids, [[-100 if each < 0 else each for each in row] for row in labels]


@pytest.mark.parametrize("kind", [pl.Int64, pl.Int32, pl.UInt8])
def test_parquet(kind: Any, tmp_path: Path) -> None:
    ids, labels = draw()
    if kind == pl.UInt8:
        labels = [[max(0, each) for each in row] for row in labels]
    model = TokenModel(vocabulary=20, classes=5).save(tmp_path / "m.onnx")
    columns = {"input_ids": ids, "ner_tags": pl.Series(labels, dtype=pl.List(kind))}
    pl.DataFrame(columns).write_parquet(tmp_path / "d.parquet", row_group_size=4)
    cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr", labels="ner_tags")
    [split] = cnatool.open(tmp_path / "s.zarr").splits.values()
    assert split.labels is not None
    assert [row.tolist() for row in split.labels[:]] == labels
    scores = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert scores.tokens
    assert scores.tokens.count == sum(each != -100 for row in labels for each in row)
    outputs = split.outputs()[:]
    right = [
        int(scores.argmax() == label)
        for row, given in zip(outputs, labels, strict=True)
        for scores, label in zip(row, given, strict=True)
        if label != -100
    ]
    assert scores.accuracy == pytest.approx(np.mean(right))


def test_lists_that_are_not_as_long_as_the_text_are_stored(tmp_path: Path) -> None:
    ids, labels = draw()
    labels[2] = labels[2][:3]
    model = TokenModel(vocabulary=20, classes=5).save(tmp_path / "m.onnx")
    pl.DataFrame({"input_ids": ids, "label": labels}).write_parquet(tmp_path / "d.parquet")
    cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr")
    [split] = cnatool.open(tmp_path / "s.zarr").splits.values()
    assert split.labels is not None
    assert [row.tolist() for row in split.labels[:]] == labels
    reason = cnatool.score(tmp_path / "s.zarr").splits["all"].performance_reason
    assert reason == "sample row 2 has 3 labels and scores for 7 tokens"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ([[1, 2, 3, 4], None, *[[0] * n for n in LENGTHS[2:]]], "row 1.* has no list of labels"),
        ([[1, None, 3, 4], *[[0] * n for n in LENGTHS[1:]]], "row 0.* has the label None"),
        ([["B", "I", "O", "O"], *[["O"] * n for n in LENGTHS[1:]]], "lists of them"),
    ],
)
def test_columns_that_are_no_labels(column: Any, text: str, tmp_path: Path) -> None:
    ids, _ = draw()
    model = TokenModel(vocabulary=20, classes=5).save(tmp_path / "m.onnx")
    pl.DataFrame({"input_ids": ids, "label": column}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=text):
        cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr")


def read_json(path: Path, lines: list[Any], **options: Any) -> list[Any]:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    selection = ArraySelection(("text",), text_shapes={"text": ()})
    sources = open_splits(path, {}, selection, ReaderOptions(**options), lambda note: None)
    [source] = sources.values()
    assert source.label_lists
    blocks = list(source.blocks(2))
    assert all(isinstance(block.labels, Ragged) for block in blocks)
    return [row.tolist() for block in blocks for row in block.labels or ()]


def test_json_lines(tmp_path: Path) -> None:
    _, labels = draw()
    labels[1] = []
    lines = [{"text": f"text {i}", "tags": row} for i, row in enumerate(labels)]
    assert read_json(tmp_path / "d.jsonl", lines, labels="tags") == labels
    assert read_json(tmp_path / "d.jsonl", lines, labels="tags", label_offset=1) == [
        [each + (each != -100) for each in row] for row in labels
    ]
    lines[3]["tags"] = 4
    with pytest.raises(DataError, match="line 4.* has no list of whole numbers"):
        read_json(tmp_path / "d.jsonl", lines, labels="tags")
    lines[3]["tags"] = [1.5]
    with pytest.raises(DataError, match="line 4.* has no list of whole numbers"):
        read_json(tmp_path / "d.jsonl", lines, labels="tags")
