"""Stores with bfloat16: exact through every way of writing, copying and reading them."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from support.stores import changed_attribute

import cnatool
from cnatool._util.bfloat16 import widen
from cnatool.errors import StoreDamagedError
from cnatool.records.layout import StoreRows
from cnatool.records.ragged import Ragged
from cnatool.records.store import ArrayRecord, LayerRecord, StoreRecord, TensorRecord
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.writer import StoreWriter

ROWS = 256
# Every bfloat16, in 256 samples of 256 numbers.
EVERY = widen(np.arange(1 << 16, dtype="<u2")).reshape(ROWS, 256)
# Those that statistics can be compared for.
FINITE = np.where(np.isfinite(EVERY), EVERY, 0)
LENGTHS = np.arange(ROWS) % 5
RAGGED = Ragged.from_lengths(FINITE.reshape(-1)[: LENGTHS.sum() * 2].reshape(-1, 2), LENGTHS)
KEYS = ("inputs/0", "inputs/1", "outputs/0", "activations/0", "activations/2")


def described() -> StoreRecord:
    def tensor(number: int, name: str, **others: Any) -> TensorRecord:
        return TensorRecord(
            number, name, "Relu", "other", "float32", shape=others.pop("shape", (256,)),
            batch_axis=0, kept="full", onnx_type="bfloat16", **others,
        )  # fmt: skip

    return StoreRecord(
        schema="cnatool.store/1",
        created_by="test",
        inputs=(
            ArrayRecord("x", "float32", (256,), stored="bfloat16"),
            ArrayRecord("s", "float32", (2, 2), stored="bfloat16", ragged_axis=0),
        ),
        outputs=(ArrayRecord("y", "float32", (256,), stored="bfloat16"),),
        tensors=(
            tensor(0, "t", stored="bfloat16"),
            tensor(1, "y", output=0),
            tensor(2, "r", stored="bfloat16", shape=(2, 2), varies=True, ragged_axis=0),
        ),
        layers=(LayerRecord(1, "Relu", "t", "t", False, False, 1),),
        statistics=("sum", "count"),
        splits={},
    )


def made() -> StoreRows:
    ragged = np.array([sample.sum(dtype=np.float64) for sample in RAGGED])
    whole = FINITE.sum(axis=1, dtype=np.float64)
    counts = [np.full(ROWS, 256.0), np.full(ROWS, 256.0), RAGGED.counts.astype(float)]
    return StoreRows(
        ids=[str(row) for row in range(ROWS)],
        inputs=[EVERY, RAGGED],
        labels=None,
        outputs=[FINITE],
        activations={0: FINITE, 2: RAGGED},
        statistics={
            "sum": np.stack([whole, whole, ragged], axis=1),
            "count": np.stack(counts, axis=1),
        },
    )


def write(path: Path, codec: Any = None, *, batch: int = 60, cut: bool = False) -> None:
    rows = made()
    with closing(StoreWriter(path, described(), codec)) as writer:
        split = writer.split("all", ROWS, source="test", labels=False, most=64)
        for start in range(0, ROWS, batch):
            split.append(rows[start : start + batch], borrowed=True)
            if cut and start >= ROWS // 2:
                return
        split.finish()


def check(path: Path) -> None:
    split = cnatool.open(path).splits["all"]
    expected = made().arrays()
    for key in KEYS:
        array, there = split.array(key), expected[key]
        assert array.dtype == np.float32
        got = array[:]
        if isinstance(there, Ragged):
            np.testing.assert_array_equal(got.offsets, there.offsets)
            got, there = got.values, there.values
        np.testing.assert_array_equal(got.view(np.uint32), there.view(np.uint32), strict=True)
    values = split.activations("t")
    np.testing.assert_array_equal(values[[200, 3, 3], 5], FINITE[[200, 3, 3], 5])
    for row in (7, 8, 250):
        np.testing.assert_array_equal(values[row], FINITE[row])
    assert cnatool.verify(path).faults == ()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("s.zarr", "none"), ("s.zarr", "lz4"), ("s.zarr", "gzip"), ("s.h5", "none"), ("s.h5", "gzip")],
)
def test_every_value_is_there_after_writing_converting_and_zipping(
    name: str, codec: Any, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, codec)
    check(path)
    for other in ("copy.h5", "copy.zarr"):
        cnatool.convert(path, tmp_path / other)
        check(tmp_path / other)
        found = cnatool.compare(path, tmp_path / other)
        assert found.same
        tensors = found.splits["all"].tensors
        assert [each.activations.max_abs for each in tensors] == [0, 0, 0]
    if path.is_dir():
        shutil.make_archive(str(tmp_path / "z.zarr"), "zip", path)
        check(tmp_path / "z.zarr.zip")


def test_plain_readers(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    write(tmp_path / "s.h5")
    root = zarr.open_group(tmp_path / "s.zarr", mode="r")
    for key in ("inputs/0", "inputs/1/values", "activations/0", "activations/2/values"):
        array: Any = root[f"splits/all/{key}"]
        assert (array.dtype, array.attrs["bits_of"]) == (np.uint16, "bfloat16")
        with h5py.File(tmp_path / "s.h5") as file:
            dataset = file[f"splits/all/{key}"]
            assert dataset.dtype == np.float32
            # Two bytes a value, as h5py itself says only of the type in the file.
            assert dataset.id.get_type().get_size() == 2
            values = dataset[:]
        # HDF5 may give a NaN another payload.
        np.testing.assert_array_equal(values, (array[:].astype(np.uint32) << 16).view(np.float32))
    assert "bits_of" not in root["splits/all/statistics/sum"].attrs


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_it_takes_half_the_space(name: str, tmp_path: Path) -> None:
    path, key = tmp_path / name, "splits/all/activations/0"
    write(path, "none")
    if path.is_dir():
        size = sum(file.stat().st_size for file in (path / key).glob("c.*"))
    else:
        with h5py.File(path) as file:
            size = file[key].id.get_storage_size()
    assert 0 <= size - 2 * FINITE.size < 5000


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_an_interrupted_store_goes_on(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, cut=True)
    store = cnatool.open(tmp_path / name)
    split = store.splits["all"]
    done = len(split)
    assert 0 < done < ROWS
    np.testing.assert_array_equal(split.activations("t")[:], FINITE[:done])
    rows = made()
    digests = start_digests(store.record, labels=False)
    update_digests(digests, rows[:done].inputs, None)
    with closing(StoreWriter.resume(store)) as writer:
        resumed = writer.resume_split(split, digests)
        resumed.append(rows[done:])
        resumed.finish()
    check(tmp_path / name)
    write(tmp_path / f"whole{Path(name).suffix}")
    whole = cnatool.open(tmp_path / f"whole{Path(name).suffix}").splits["all"].record
    assert cnatool.open(tmp_path / name).splits["all"].record.fingerprint == whole.fingerprint


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", "none")
    chunk = next((tmp_path / "s.zarr/splits/all/activations/0").glob("c.*"))
    content = bytearray(chunk.read_bytes())
    content[-1000] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StoreDamagedError, match="activations/0"):
        cnatool.open(tmp_path / "s.zarr").splits["all"].activations("t")[:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stored": "uint16"}, "cannot be narrowed"),
        ({"dtype": "bfloat16"}, "read as float32"),
        ({"stored": "float32"}, "has type bfloat16 instead of float32"),
    ],
)
def test_an_attribute_that_says_something_else(
    change: dict[str, str], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "s.zarr")
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute["tensors"][0] |= change
    with pytest.raises(StoreDamagedError, match=message):
        cnatool.open(tmp_path / "s.zarr").splits["all"].activations("t")


def test_xarray_reads_float32(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    write(tmp_path / "s.zarr")
    dataset = cnatool.open(tmp_path / "s.zarr").splits["all"].to_xarray()
    np.testing.assert_array_equal(dataset["t"].values, FINITE)
    np.testing.assert_array_equal(dataset["x"].values, EVERY)
    assert dataset["r"].dtype == np.float32
