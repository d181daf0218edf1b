"""What labels mean: whole numbers however written, names of classes, and what is neither."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.files import write_tar
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool.data.labels import encode_labels
from cnatool.errors import DataError

NUMBERS = [10, 2, 0, 11, 7, 1]
FORMS = ["{}", "{}.0", " {}", "{} ", "+{}", "0{}", "{}e0", "{}."]


def test_a_name_among_numbers_that_keep_their_places() -> None:
    found = encode_labels([*"0123", "other"], "t", "…")
    assert found.classes == ("0", "1", "2", "3", "other")
    with pytest.raises(DataError, match="but also 'x'.* 10 would be class number 2: correct"):
        encode_labels([*map(str, range(11)), "x"], "t", "…")


def table(folder: Path, kind: str, labels: list[str]) -> Path:
    x = np.random.default_rng(0).random((len(labels), 3)).astype(np.float32)
    path = folder / f"t.{kind}"
    if kind == "parquet":
        pl.DataFrame({"x": x.tolist(), "label": labels}).write_parquet(path)
    elif kind == "npz":
        np.savez(path, x=x, y=np.array(labels))
    else:
        separator = ";" if kind == "csv" else "\t"
        lines = [separator.join([*map(str, row), y]) for row, y in zip(x, labels, strict=True)]
        path.write_text("\n".join([separator.join(["a", "b", "c", "label"]), *lines]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["parquet", "npz", "csv", "tsv"])
@pytest.mark.parametrize("form", FORMS)
def test_every_format_reads_labels_alike(tmp_path: Path, kind: str, form: str) -> None:
    labels = [form.format(number) for number in NUMBERS]
    model = saved(mlp((3, 8, 12)), tmp_path / "m.onnx")
    store = cnatool.dump(model, table(tmp_path, kind, labels), tmp_path / "s.zarr")
    assert store.splits["all"].labels is not None
    assert store.splits["all"].labels[:].tolist() == NUMBERS


@pytest.mark.parametrize("kind", ["parquet", "npz", "csv"])
def test_every_format_names_classes_alike(tmp_path: Path, kind: str) -> None:
    model = saved(mlp((3, 8, 12)), tmp_path / "m.onnx")
    store = cnatool.dump(model, table(tmp_path, kind, ["ox", "bee", " ox"]), tmp_path / "s.zarr")
    assert store.splits["all"].labels is not None
    assert store.splits["all"].labels[:].tolist() == [1, 0, 1]
    assert store.splits["all"].record.classes == ("bee", "ox")


@pytest.mark.parametrize("field", ["cls", "json"])
def test_archives_name_classes_alike(tmp_path: Path, field: str) -> None:
    # Pictures of several formats, as archives packed from folders have them.
    names, formats = ["ox", "bee", "ox", "cat"], ["png", "bmp", "tif", "png"]
    members = []
    for row, (name, ending) in enumerate(zip(names, formats, strict=True)):
        picture = io.BytesIO()
        Image.new("L", (8, 8), row).save(picture, {"tif": "TIFF"}.get(ending, ending))
        label = name if field == "cls" else json.dumps({"label": name})
        members += [
            (f"{row:03}.{ending}", picture.getvalue()),
            (f"{row:03}.{field}", label.encode()),
        ]
    write_tar(tmp_path / "d.tar", members)
    store = cnatool.dump(
        saved(mlp((64, 8, 3)), tmp_path / "m.onnx"), tmp_path / "d.tar", tmp_path / "s.zarr"
    )
    assert store.splits["all"].labels is not None
    assert store.splits["all"].labels[:].tolist() == [2, 0, 2, 1]
    assert store.splits["all"].inputs(0)[:].max(axis=(1, 2)).tolist() == [0, 1, 2, 3]
    assert store.splits["all"].record.classes == ("bee", "cat", "ox")


def pictures(folder: Path, *files: str) -> Path:
    for number, name in enumerate(files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    return folder


def test_class_folders_of_numbers(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data", *(f"{number}/0.png" for number in NUMBERS))
    for name in ("__MACOSX", "@eaDir", ".cache", "empty"):
        (folder / name).mkdir()
    (folder / "__MACOSX/._0.png").write_bytes(b"none")
    model = saved(mlp((64, 8, 12)), tmp_path / "m.onnx")
    store = cnatool.dump(model, folder, tmp_path / "s.zarr")
    split = store.splits["all"]
    assert split.labels is not None
    assert [int(name.split("/")[0]) for name in split.ids[:]] == split.labels[:].tolist()


def test_pictures_without_classes_have_no_accuracy(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data", *(f"{number}.png" for number in range(30)))
    model = saved(mlp((64, 8, 8, 3)), tmp_path / "m.onnx")
    store = cnatool.dump(model, folder, tmp_path / "s.zarr")
    assert store.splits["all"].labels is None
    found = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert found.accuracy is None
    assert found.samples == 30


@pytest.mark.parametrize(
    ("low", "advice"), [(1, "`label_offset=-1` moves them to 0 … 3"), (-2, "")]
)
def test_labels_that_the_model_has_no_score_for(tmp_path: Path, low: int, advice: str) -> None:
    labels = [low, low + 1, low + 2, low + (3 if advice else 5)]
    model = saved(mlp((3, 8, 4)), tmp_path / "m.onnx")
    data, notes = table(tmp_path, "npz", [str(label) for label in labels]), Notes()
    cnatool.dump(model, data, tmp_path / "s.zarr", observer=notes)  # type: ignore[arg-type]
    [text] = (text for text in notes.texts if "scores 4 classes" in text)
    assert text.startswith(f"labels of all go from {labels[0]} to {labels[-1]}")
    assert ("label_offset" in text) == bool(advice)
    assert advice in text
    if advice:
        store = cnatool.dump(model, data, tmp_path / "t.zarr", label_offset=-1)
        assert store.splits["all"].labels[:].tolist() == [0, 1, 2, 3]
        # The advice replaces an offset that was given.
        notes = Notes()
        cnatool.dump(model, data, tmp_path / "u.zarr", label_offset=4, observer=notes)  # type: ignore[arg-type]
        assert any(advice in text for text in notes.texts)


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (("digits-train", "digits-test"), ["test", "train"]),
        (("train_1", "train_2", "val_1"), ["train", "val"]),
        (("TRAIN", "Testing"), ["test", "train"]),
        (
            ("train-00000-of-00001-0f1e2d3c4b5a6978", "test-00000-of-00001-aa1e2d3c4b5a6978"),
            ["test", "train"],
        ),
        (("cifar10-training", "cifar10-dev"), ["train", "val"]),
    ],
)
def test_splits_are_found_in_names(
    tmp_path: Path, files: tuple[str, ...], splits: list[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in files:
        table(tmp_path, "parquet", ["0", "1"]).rename(tmp_path / f"data/{name}.parquet")
    model = saved(mlp((3, 8, 4)), tmp_path / "m.onnx")
    store = cnatool.dump(model, tmp_path / "data", tmp_path / "s.zarr")
    assert sorted(store.splits) == splits
    assert sum(split.record.rows for split in store.splits.values()) == 2 * len(files)
