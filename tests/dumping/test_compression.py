"""Each array is compressed if that pays, as the first block shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.dumps import commit_often, same_arrays
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool.dumping import compression
from cnatool.errors import UsageError
from cnatool.store.codec_choice import choose_codec

TRAIN, TEST = 320, 64


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network of wide layers and random pixels."""
    commit_often(monkeypatch)
    rng = np.random.default_rng(0)
    saved(mlp((64, 256, 128, 10)), tmp_path / "net.onnx")
    (tmp_path / "data").mkdir()
    for name, rows in (("train", TRAIN), ("test", TEST)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        np.savez(tmp_path / f"data/{name}.npz", x=x, y=rng.integers(0, 10, rows))
    return tmp_path


def dump(here: Path, name: str, **options: object) -> Path:
    options = {"batch_size": 16} | options
    return cnatool.dump(here / "net.onnx", here / "data", here / name, **options).path


def codecs(store: Path) -> dict[str, set[str | None]]:
    """Codecs of an array in all splits, by key of the array or name of the tensor."""
    opened = cnatool.open(store)
    found: dict[str, set[str | None]] = {}
    for split in opened.splits.values():
        arrays = {"ids": split.ids, "inputs": split.inputs(), "labels": split.labels}
        arrays |= {t.name: split.activations(t.name) for t in opened.tensors if t.stored}
        for name, array in arrays.items():
            assert array is not None
            found.setdefault(name, set()).add(array.codec)
    return found


def chunk_files(store: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(store.rglob("c*")):
        if file.is_file():
            yield file.relative_to(store).as_posix(), file.read_bytes()


def test_what_hardly_shrinks_is_not_compressed(here: Path) -> None:
    notes = Notes()
    store = dump(here, "s.zarr", verbose=True, observer=notes)
    assert codecs(store) == {
        "ids": {"lz4"},
        "labels": {"lz4"},
        "inputs": {"none"},
        "fc1": {"none"},
        "relu1": {"lz4"},
        "fc2": {"none"},
        "relu2": {"lz4"},
    }
    assert any(text.startswith("compression: ") for text in notes.texts)
    whole = {
        codec: dict(chunk_files(dump(here, f"{codec}.zarr", codec=codec)))
        for codec in ("lz4", "none")
    }
    for name, content in chunk_files(store):
        if name.startswith("splits/train/activations"):
            compressed, plain = whole["lz4"][name], whole["none"][name]
            assert content == (compressed if len(compressed) <= 0.9 * len(plain) else plain)


def test_other_libraries_read_it(here: Path) -> None:
    store = cnatool.open(dump(here, "s.zarr"))
    group = zarr.open_group(store.path, mode="r")
    for name, split in store.splits.items():
        for tensor in store.tensors:
            if tensor.stored:
                there = group[f"splits/{name}/activations/{tensor.number}"]
                np.testing.assert_array_equal(there[:], split.activations(tensor.name)[:])
    assert cnatool.verify(store.path).faults == ()
    assert cnatool.convert(store.path, here / "c.h5").splits.keys() == store.splits.keys()
    np.testing.assert_array_equal(
        cnatool.convert(here / "c.h5", here / "c.zarr").splits["train"].activations("fc1")[:],
        store.splits["train"].activations("fc1")[:],
    )


def test_the_same_dump_makes_the_same_store(here: Path) -> None:
    one, two = (dict(chunk_files(dump(here, name))) for name in ("a.zarr", "b.zarr"))
    assert one == two


def test_a_resumed_dump_decides_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dump(here, "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        dump(here, "s.zarr", observer=Notes("train", 200))
    started = codecs(here / "s.zarr")
    monkeypatch.setattr(compression, "choose_codec", None)
    with pytest.raises(UsageError, match="started with the codecs lz4 and none"):
        dump(here, "s.zarr", resume=True, codec="lz4")
    resumed = dump(here, "s.zarr", resume=True)
    assert codecs(resumed) == started == codecs(whole)
    same_arrays(resumed, whole)
    assert dict(chunk_files(resumed)) == dict(chunk_files(whole))


def test_inputs_of_another_store_are_not_tried(here: Path) -> None:
    dump(here, "base.zarr")
    store = dump(here, "s.zarr", inputs_from=here / "base.zarr")
    assert codecs(store)["inputs"] == {"none"}
    assert codecs(store)["fc1"] == {"none"}


def test_the_choice_counts_padding() -> None:
    rows = np.zeros((64, 256), np.float32)
    assert choose_codec("lz4", rows, int(0.89 * rows.nbytes), 1024, 1024) == "lz4"
    assert choose_codec("lz4", rows, int(0.91 * rows.nbytes), 1024, 1024) == "none"
    assert choose_codec("lz4", rows, rows.nbytes, 1024 + 1, 1024) == "lz4"
    assert choose_codec("lz4", rows, rows.nbytes, 100 * 1024 + 1, 1024) == "none"
    few = rows[:1]
    assert choose_codec("lz4", few, 2 * few.nbytes, 1024, 1024) == "lz4"
    assert choose_codec("none", rows, rows.nbytes, 1025, 1024) == "none"
