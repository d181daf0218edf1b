"""Texts of every format, as another reader gives them: their bytes, ids and labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError, UsageError
from cnatool.records.ragged import Ragged

SELECTION = ArraySelection(("input_ids",), tokens="input_ids")
TEXTS = ["a film", "", "  blanks ", 'a "quoted" cell, and\ta tab', "übel 日本 🎬", "last"]
LABELS = ["neg", "pos", "pos", "neg", "neg", "pos"]


def opened(
    data: Any, named: Any = None, notes: list[str] | None = None, **options: Any
) -> dict[str, Source]:
    said = [] if notes is None else notes
    skip = options.pop("skip", False)
    images = ImageOptions(skip_unreadable=skip)
    selection = options.pop("selection", SELECTION)
    return open_splits(
        data, named or {}, selection, ReaderOptions(images=images, **options), said.append
    )


def texts_of(source: Source, rows: int = 4, limit: int | None = None, start: int = 0) -> list[str]:
    texts: list[str] = []
    for block in source.blocks(rows, limit, start):
        [part] = block.inputs
        assert isinstance(part, Ragged)
        assert len(part) == len(block.ids)
        texts += [text.tobytes().decode() for text in part]
    return texts


def labels_of(source: Source) -> list[str] | None:
    if not source.labelled:
        return None
    labels = np.concatenate(
        [block.labels for block in source.blocks(4) if block.labels is not None]
    )
    classes = source.classes
    return [str(n) if classes is None else classes[n] for n in labels]


def ids_of(source: Source) -> list[str]:
    return [id_ for block in source.blocks(4) for id_ in block.ids]


def written(folder: Path, form: str, texts: list[str] = TEXTS) -> Path:
    path = folder / f"data.{form}"
    frame = pl.DataFrame({"text": texts, "label": LABELS[: len(texts)]})
    if form == "jsonl":
        rows = zip(texts, LABELS, strict=False)
        lines = [json.dumps({"label": label, "n": [1], "text": text}) for text, label in rows]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    elif form == "parquet":
        frame.write_parquet(path)
    elif form in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            marks = {"delimiter": "\t"} if form == "tsv" else {}
            csv.writer(file, quoting=csv.QUOTE_ALL, **marks).writerows(
                [("text", "label"), *zip(texts, LABELS, strict=False)]
            )
    elif form == "npz":
        np.savez(path, text=np.array(texts), label=np.array(LABELS[: len(texts)]))
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv", "tsv", "npz"])
def test_texts_of_tables_with_labels(tmp_path: Path, form: str) -> None:
    source = opened(written(tmp_path, form))["all"]
    expected = [text.rstrip(" ") if form == "npz" and not text else text for text in TEXTS]
    assert texts_of(source) == expected
    assert texts_of(source, 2, 3, 1) == expected[1:4]
    assert labels_of(source) == LABELS
    assert ids_of(source) == [str(row) for row in range(len(TEXTS))]
    [spec] = source.inputs
    assert (spec.name, spec.dtype, spec.ragged_axis, spec.fed) == ("text", np.uint8, 0, False)
    assert spec.kind == "text"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines(tmp_path: Path, end: str, final: bool, mark: bytes) -> None:
    lines = [text.replace("\t", " ") for text in TEXTS] + ["", "x\x0b\u2028y"]
    content = end.join(lines) + end * final
    path = tmp_path / "data.txt"
    path.write_bytes(mark + content.encode())
    source = opened(path)["all"]
    assert texts_of(source) == lines
    assert texts_of(source, 3, 2, 6) == lines[6:]
    assert labels_of(source) is None
    assert source.rows == len(lines)


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("\n".join(TEXTS), "utf-16")
    assert texts_of(opened(path)["all"]) == TEXTS
    path.write_bytes("a\nb\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="starts like UTF-16"):
        opened(path)


def test_any_of_many_lines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["x" * int(n) for n in rng.integers(0, 900, 5000)]
    path = tmp_path / "data.txt"
    path.write_text("\n".join(lines))
    source = opened(path)["all"]
    for start in (0, 1, 1023, 1024, 1025, 2048, 3333, 4999):
        assert texts_of(source, 7, 10, start) == lines[start : start + 10]


def test_a_line_of_10_megabytes(tmp_path: Path) -> None:
    lines = ["a", "word " * 2_000_000, "b"]
    path = tmp_path / "data.txt"
    path.write_text("\n".join(lines))
    assert texts_of(opened(path)["all"], 1) == lines


def test_files_of_one_split(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"train-0000{number}-of-00002.txt").write_text(f"a{number}\nb{number}\n")
        (tmp_path / f"test-0000{number}-of-00002.txt").write_text(f"t{number}\n")
    sources = opened(tmp_path)
    assert list(sources) == ["train", "test"]
    assert texts_of(sources["train"], 3) == ["a0", "b0", "a1", "b1"]
    assert texts_of(sources["train"], 3, 2, 1) == ["b0", "a1"]
    assert ids_of(sources["train"])[2] == "train-00001-of-00002.txt:0"


@pytest.mark.parametrize("form", ["jsonl", "txt", "csv", "parquet"])
def test_splits_by_name(tmp_path: Path, form: str) -> None:
    for name, texts in (("train", TEXTS), ("test", TEXTS[:3])):
        path = tmp_path / f"{name}.{form}"
        if form == "txt":
            path.write_text("\n".join(texts))
        else:
            written(tmp_path, form, texts).rename(path)
    (tmp_path / "README.md").write_text("about")
    sources = opened(tmp_path)
    assert texts_of(sources["train"]) == TEXTS
    assert texts_of(sources["test"]) == TEXTS[:3]


def folder_of(folder: Path, parts: dict[str, str]) -> Path:
    for name, text in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def test_folders_by_class(tmp_path: Path) -> None:
    parts = {"pos/1.txt": "good\r\nfilm\n", "neg/0.txt": "\ufeffbad", "neg/2.txt": ""}
    notes: list[str] = []
    source = opened(folder_of(tmp_path, parts | {"neg/x.pdf": "x"}), notes=notes)["all"]
    assert ids_of(source) == ["neg/0.txt", "neg/2.txt", "pos/1.txt"]
    # A file is read as it is, but for its byte order mark.
    assert texts_of(source) == ["bad", "", "good\r\nfilm\n"]
    assert labels_of(source) == ["neg", "neg", "pos"]
    assert any("without the extension of a text ignored (.pdf)" in note for note in notes)


def test_folders_by_split_and_class(tmp_path: Path) -> None:
    parts = {
        f"{s}/{c}/{n}.txt": f"{s}{c}{n}" for s in ("train", "test") for c in "ab" for n in "12"
    }
    sources = opened(folder_of(tmp_path, parts))
    assert texts_of(sources["train"]) == ["traina1", "traina2", "trainb1", "trainb2"]
    assert labels_of(sources["test"]) == ["a", "a", "b", "b"]


def test_folders_without_classes(tmp_path: Path) -> None:
    source = opened(folder_of(tmp_path, {"one.txt": "1", "two.txt": "2\n"}))["all"]
    assert texts_of(source) == ["1", "2\n"]
    assert labels_of(source) is None
    sources = opened(folder_of(tmp_path / "s", {"train/a.txt": "1", "test/b.txt": "2"}))
    assert texts_of(sources["test"]) == ["2"]


def test_one_file_in_a_folder_has_a_text_per_line(tmp_path: Path) -> None:
    assert texts_of(opened(folder_of(tmp_path, {"corpus.txt": "a\nb"}))["all"]) == ["a", "b"]
    assert texts_of(opened(tmp_path, format="texts")["all"]) == ["a\nb"]


def test_files_that_are_named_after_splits_by_chance(tmp_path: Path) -> None:
    folder_of(tmp_path, {"testing.txt": "1", "other.txt": "2", "third.txt": "3"})
    with pytest.raises(DataError, match="if each file is a sample of its own, pass `format=texts`"):
        opened(tmp_path)
    assert texts_of(opened(tmp_path, format="texts")["all"]) == ["2", "1", "3"]


def test_the_only_column_of_texts_may_have_any_name(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [3, 4], "review": ["a", "b"], "stars": [1, 5]})
    frame.write_parquet(tmp_path / "d.parquet")
    frame.write_csv(tmp_path / "d.csv")
    frame.write_ndjson(tmp_path / "d.jsonl")
    for name in ("d.parquet", "d.csv", "d.jsonl"):
        source = opened(tmp_path / name, labels="stars")["all"]
        assert texts_of(source) == ["a", "b"]
        assert labels_of(source) == ["1", "5"]


def test_columns_of_texts_are_chosen_by_name(tmp_path: Path) -> None:
    frame = pl.DataFrame({"title": ["a", "b"], "body": ["c", "d"]})
    frame.write_parquet(tmp_path / "d.parquet")
    frame.write_csv(tmp_path / "d.csv")
    frame.write_ndjson(tmp_path / "d.jsonl")
    chosen = ArraySelection(("input_ids",), {"input_ids": "body"}, tokens="input_ids")
    for name in ("d.parquet", "d.csv", "d.jsonl"):
        with pytest.raises(DataError, match="title"):
            opened(tmp_path / name)
        assert texts_of(opened(tmp_path / name, selection=chosen)["all"]) == ["c", "d"]


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_splits_by_a_column(tmp_path: Path, form: str) -> None:
    frame = pl.DataFrame({"text": TEXTS, "part": ["train", "test"] * 3})
    path = tmp_path / f"d.{form}"
    if form == "csv":
        frame.write_csv(path)
    elif form == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    sources = opened(path, split_column="part")
    assert texts_of(sources["train"]) == TEXTS[::2]
    assert texts_of(sources["test"]) == TEXTS[1::2]


def test_lines_of_no_split(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "fold": 0}\n{"text": "b", "fold": 1}\n{"text": "c"}\n')
    with pytest.raises(DataError, match=r"d.jsonl, line 3, field 'fold', names no split"):
        opened(path, split_column="fold")
    with pytest.raises(DataError, match="has no such column. There are text, fold"):
        opened(path, split_column="part")
    path.write_text('{"text": "a", "fold": 0}\n{"text": "b", "fold": 1}\n')
    assert {n: texts_of(s) for n, s in opened(path, split_column="fold").items()} == {
        "0": ["a"],
        "1": ["b"],
    }


def test_files_of_other_fields(tmp_path: Path) -> None:
    paths = [tmp_path / f"train-0000{n}-of-00002.jsonl" for n in range(2)]
    paths[0].write_text('{"id": 7, "text": "a", "title": "t", "label": 1}\n')
    paths[1].write_text('{"label": 0, "text": "b", "source": {"x": 1}}\n')
    source = opened(tmp_path)["train"]
    assert (texts_of(source), labels_of(source)) == (["a", "b"], ["1", "0"])
    paths[1].write_text('{"text": "b"}\n')
    with pytest.raises(
        DataError, match=r"of-00002.jsonl, line 1, has no label in its field 'label'"
    ):
        texts_of(opened(tmp_path)["train"])


def test_cells_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [b"text,label,part", b"good,1,train", b"caf\xe9,0,train", b'"a\n\xff",1,train']
    rows += [b"fine \xef\xbf\xbd,0,test", b"nul \0,1,test", b"last,b\xe4d,test"]
    path.write_bytes(b"\n".join(rows) + b"\n")
    with pytest.raises(
        DataError, match=r"d.csv, column 'text', row 1, is not UTF-8 \(byte 3 is 0x"
    ):
        texts_of(opened(path)["all"])
    source = opened(path, skip=True)["all"]
    blocks = list(source.blocks(4))
    assert texts_of(source) == ["good", "fine �"]
    assert {row.id: row.reason.partition(": ")[0] for b in blocks for row in b.skipped} == {
        "1": f"{path}, column 'text', row 1, is not UTF-8 (byte 3 is 0xe9)",
        "2": f"{path}, column 'text', row 2, is not UTF-8 (byte 2 is 0xff)",
        "4": f"{path}, column 'text', row 4, has the character NUL (at byte 4), so it is not a "
        "text, or a damaged one",
        "5": f"{path}, column 'label', row 5, has no label. Labels are whole numbers of 64 bits, "
        "or names of classes",
    }
    assert labels_of(source) == ["1", "0"]
    path.write_bytes(rows[0] + b"\n1,2,b\xe4d\n")
    with pytest.raises(DataError, match="row 0, names no split"):
        opened(path, split_column="part", selection=SELECTION)
    path.write_bytes(b"te\xe4t\nb\xe4d\n")
    with pytest.raises(DataError, match=r"d.csv: its header line is not UTF-8"):
        opened(path)


def test_cells_with_line_breaks(tmp_path: Path) -> None:
    texts = ['two\nlines, "quoted"', "three\r\n\r\nlines", "x"]
    assert texts_of(opened(written(tmp_path, "csv", texts))["all"]) == texts


BAD_LINES = {
    "invalid": (b"good\nb\xe9d\nfine\n", "data.txt, line 2, is not UTF-8 (byte 1 is 0xe9)"),
    "cut": ("good\nüü".encode()[:-1], "data.txt, line 2, is not UTF-8"),
    "nul": (b"good\nb\0d\nfine", "line 2, has the character NUL (at byte 1)"),
}
BAD_JSON = {
    "cut": (b'{"text": "a"}\n{"text": "b', "line 2, is not JSON (Unterminated string"),
    "missing": (b'{"text": "a"}\n{"other": "b"}\n', "line 2, has no field 'text'"),
    "null": (b'{"text": "a"}\n{"text": null}\n', "line 2, has in its field 'text' null"),
    "number": (b'{"text": "a"}\n{"text": 3}\n', "line 2, has in its field 'text' the number 3"),
    "nested": (b'{"text": "a"}\n{"text": {"de": "b"}}\n', "has in its field 'text' an object"),
    "array": (b'{"text": "a"}\n["b"]\n', "line 2, is not a JSON object, but an array"),
    "blank": (b'{"text": "a"}\n\n{"text": "b"}\n', "line 2, is blank"),
    "surrogate": (b'{"text": "a"}\n{"text": "x\\ud800"}\n', "half a character, \\ud800"),
    "invalid": (b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2, is not UTF-8"),
    "nul": (b'{"text": "a"}\n{"text": "x\\u0000"}\n', "line 2, has the character NUL"),
    "deep": (b'{"text": "a"}\n{"x": ' + b"[" * 99999 + b"\n", "line 2, is not JSON"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_lines_that_are_no_texts(tmp_path: Path, name: str) -> None:
    content, text = BAD_LINES[name]
    (tmp_path / "data.txt").write_bytes(content)
    _is_refused(tmp_path / "data.txt", text)


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_is_no_text(tmp_path: Path, name: str) -> None:
    content, text = BAD_JSON[name]
    (tmp_path / "data.jsonl").write_bytes(content)
    _is_refused(tmp_path / "data.jsonl", text)


def _is_refused(path: Path, text: str) -> None:
    with pytest.raises(DataError) as refused:
        texts_of(opened(path)["all"])
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)
    source = opened(path, skip=True)["all"]
    blocks = list(source.blocks(4))
    skipped = [row for block in blocks for row in block.skipped]
    assert [row.id for row in skipped] == ["1"]
    assert text in skipped[0].reason
    assert "0" in [id_ for block in blocks for id_ in block.ids]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "holds no texts"), (b"\n\n", "holds no texts"), (b"[]", "line 1, is not a JSON object")],
)
def test_json_without_texts(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=text):
        opened(tmp_path / "d.jsonl")


def test_fields_that_only_python_reads(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "a", "score": NaN}\n{"text": "b"}\n\n  \n')
    assert texts_of(opened(tmp_path / "d.jsonl")["all"]) == ["a", "b"]


@pytest.mark.parametrize("name", ['a "text"', "C:\\texts", "line\nbreak", "übung"])
def test_any_name_of_a_json_field(tmp_path: Path, name: str) -> None:
    rows = [{name: "a", "label": 1}, {name: "b", "label": 0}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = opened(tmp_path / "d.jsonl")["all"]
    assert (texts_of(source), labels_of(source)) == (["a", "b"], ["1", "0"])


def test_first_lines_that_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": \n[1]\n{"text": "a", "label": 2}\n')
    with pytest.raises(DataError, match="line 1, is not JSON"):
        opened(path)
    source = opened(path, skip=True)["all"]
    assert (texts_of(source), labels_of(source)) == (["a"], ["2"])


def test_labels_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": true}\n{"text": "b", "label": false}\n')
    assert labels_of(opened(path)["all"]) == ["true", "false"]
    path.write_text('{"text": "a", "label": 2}\n{"text": "b"}\n')
    with pytest.raises(DataError, match="line 2, has no label in its field 'label'"):
        labels_of(opened(path)["all"])
    path.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": [2]}\n')
    with pytest.raises(DataError, match="holds an array"):
        opened(path)
    path.write_text('{"text": "a", "label": [1]}\n{"text": "b", "label": [2, 3]}\n')
    (block,) = opened(path)["all"].blocks(10)
    assert [row.tolist() for row in block.labels] == [[1], [2, 3]]
    assert labels_of(opened(path, labels="none")["all"]) is None
    with pytest.raises(DataError, match="`labels` stars: .* has no such column"):
        opened(path, labels="stars")


def test_a_missing_text_in_a_table(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["a", None, "b"]}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'text', row 1, is missing"):
        texts_of(opened(tmp_path / "d.parquet")["all"])
    source = opened(tmp_path / "d.parquet", skip=True)["all"]
    assert texts_of(source) == ["a", "b"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a/1.txt": "x", "b/2.txt": "y"})
    (tmp_path / "b" / "2.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match="2.txt starts like UTF-16"):
        texts_of(opened(tmp_path)["all"])
    (tmp_path / "b" / "2.txt").write_bytes(b"ok \xff")
    with pytest.raises(DataError, match="2.txt is not UTF-8"):
        texts_of(opened(tmp_path)["all"])


def test_what_is_no_file_of_texts(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", text=np.zeros((2, 3)))
    with pytest.raises(DataError, match="the model takes one text"):
        texts_of(opened(tmp_path / "d.npz")["all"])
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    with pytest.raises(
        DataError, match="is not a file of texts, which the model takes, in a known"
    ):
        opened(tmp_path / "d.pdf")
    with pytest.raises(UsageError, match="`format=idx` gives no texts"):
        opened(tmp_path / "d.pdf", format="idx")
    pl.DataFrame({"text": [1, 2]}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'text', holds Int64, not texts"):
        opened(tmp_path / "d.parquet")
