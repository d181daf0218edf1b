from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
from support.networks import mlp, saved
from support.notes import Notes
from support.stores import ROWS, append, arrays, changed_attribute, record, write_store

import cnatool
from cnatool.errors import NotAStoreError, StoreDamagedError, UsageError
from cnatool.records.layout import StoreRows, split_arrays
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.store import Store
from cnatool.store.writer import StoreWriter


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dumped")
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    for name, rows in (("train", 300), ("test", 200)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        np.savez(folder / f"data/{name}.npz", x=x, y=rng.integers(0, 10, rows))
    saved(mlp(), folder / "net.onnx")
    for suffix in ("zarr", "h5"):
        cnatool.dump(folder / "net.onnx", folder / "data", folder / f"net.{suffix}")
    return folder


def same(one: Store, other: Store) -> None:
    """Compare the whole of two stores, bit for bit."""
    assert one.record == other.record
    assert list(one.splits) == list(other.splits)
    for name, split in one.splits.items():
        for spec in split_arrays(one.record, labels=split.record.labels):
            mine, others = split.array(spec.key)[:], other.splits[name].array(spec.key)[:]
            if spec.dtype is str:
                assert [str(text) for text in mine] == [str(text) for text in others]
            else:
                assert mine.dtype == others.dtype
                assert mine.shape == others.shape
                assert mine.tobytes() == others.tobytes()


def score(path: Path) -> dict[str, object]:
    return {**json.loads(cnatool.score(path).to_json()), "store": None}


def test_there_and_back(dumped: Path, tmp_path: Path) -> None:
    first = cnatool.open(dumped / "net.zarr")
    scores = score(dumped / "net.zarr")
    before = dumped / "net.zarr"
    for step, codec in (("a.h5", None), ("b.hdf5", "gzip"), ("c.zarr", "lz4"), ("d.h5", "none")):
        made = cnatool.convert(before, tmp_path / step, codec=codec)
        same(first, made)
        assert score(made.path) == scores
        before = made.path


def test_a_dump_into_hdf5_is_that_into_zarr(dumped: Path) -> None:
    one, other = (cnatool.open(dumped / f"net.{suffix}") for suffix in ("zarr", "h5"))
    same(one, other)
    assert score(one.path) == score(other.path)


DTYPES = ["bool", "uint8", "int8", "uint64", "int64", "float16", "float32", "float64"]


def test_every_bit_is_kept(tmp_path: Path) -> None:
    """Of every type, NaNs with payloads, negative zeros and the largest integers among them."""
    about = StoreRecord(
        schema="cnatool.store/1",
        created_by="somebody else 3",
        inputs=tuple(ArrayRecord(dtype, dtype, (3,)) for dtype in DTYPES),
        outputs=(ArrayRecord("out", "float32", ()),),
        tensors=(TensorRecord(0, "empty", "Op", "other", "bool", (0,), 0, "full", None, "bool"),),
        layers=(),
        statistics=("sum", "count"),
        splits={},
        tags={"colour": "ä\u2028"},
    )
    rows = 1000
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(0, 256, rows * 3 * np.dtype(dtype).itemsize, np.uint8)
        .view(np.dtype(dtype) if dtype != "bool" else np.uint8)
        .reshape(rows, 3)
        for dtype in DTYPES
    ]
    inputs[0] = inputs[0] % 2 == 1
    nan = np.array([0x7FF0_0000_0000_0001, 0xFFF8_0000_DEAD_BEEF], np.uint64).view(np.float64)
    statistics = np.resize(np.concatenate([nan, [-0.0, np.inf]]), (rows, 1))
    writer = StoreWriter(tmp_path / "s.zarr", about)
    split = writer.split("only", rows, source="s", labels=False, id_bytes=200)
    split.append(
        StoreRows(
            ids=["é" * (i % 100) for i in range(rows)],
            inputs=inputs,
            labels=None,
            outputs=[np.zeros(rows, np.float32)],
            activations={0: np.zeros((rows, 0), bool)},
            statistics={"sum": statistics, "count": statistics},
        )
    )
    split.finish()
    writer.close()
    first = cnatool.open(tmp_path / "s.zarr")
    same(first, cnatool.convert(tmp_path / "s.zarr", tmp_path / "t.h5"))
    same(first, cnatool.convert(tmp_path / "t.h5", tmp_path / "u.zarr"))


def test_progress_is_told(dumped: Path, tmp_path: Path) -> None:
    told = Notes()
    cnatool.convert(dumped / "net.zarr", tmp_path / "s.h5", observer=told)
    assert told.texts == []
    assert [entry for entry in told.done if entry[1] == entry[2]] == [
        ("train", 300, 300),
        ("test", 200, 200),
    ]
    for name in ("train", "test"):
        counts = [done for split, done, _ in told.done if split == name]
        assert counts == sorted(counts)
        assert len(counts) > 3


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s.h5", record())
    split = writer.split("train", 20_000, source="made", labels=True)
    append(split, arrays(20_000), 0, 9000)
    with pytest.raises(
        UsageError,
        match=r"s\.h5 is not finished: it has 8,192 of 20,000 rows of train",
    ):
        cnatool.convert(tmp_path / "s.h5", tmp_path / "t.zarr")
    writer.close()
    assert not (tmp_path / "t.zarr").exists()


def test_only_a_store_is_overwritten_and_only_by_a_whole_one(dumped: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    cnatool.convert(dumped / "net.zarr", path)
    with pytest.raises(NotAStoreError, match="exists already"):
        cnatool.convert(dumped / "net.h5", path)
    cnatool.convert(dumped / "net.h5", path, overwrite=True)
    with pytest.raises(UsageError, match="would replace"):
        cnatool.convert(path, path, overwrite=True)
    with pytest.raises(UsageError, match=r"a \.h5 store cannot be compressed with zstd"):
        cnatool.convert(dumped / "net.zarr", path, codec="zstd", overwrite=True)
    # A source that turns out to be broken costs nothing.
    broken = tmp_path / "broken.h5"
    content = bytearray((dumped / "net.h5").read_bytes())
    content[-200] ^= 1
    broken.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"broken\.h5"):
        cnatool.convert(broken, path, overwrite=True)
    same(cnatool.open(path), cnatool.open(dumped / "net.h5"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.h5", "s.h5"]


def test_no_number_is_rounded(dumped: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes((dumped / "net.h5").read_bytes())
    with h5py.File(path, "r+") as root:
        values = root["splits/train/outputs/0"][:].astype(np.float64)
        del root["splits/train/outputs/0"]
        root["splits/train/outputs/0"] = values / 3
    with pytest.raises(StoreDamagedError, match="outputs/0 has type float64 instead of float32"):
        cnatool.convert(path, tmp_path / "t.zarr")


def test_rows_that_are_not_those_of_the_fingerprint(dumped: Path, tmp_path: Path) -> None:
    store = cnatool.open(dumped / "net.h5")
    splits = dict(store.record.splits)
    splits["train"] = msgspec.structs.replace(splits["train"], fingerprint="0" * 64)
    record = msgspec.structs.replace(store.record, splits=splits)
    path = tmp_path / "s.h5"
    path.write_bytes((dumped / "net.h5").read_bytes())
    with h5py.File(path, "r+") as root:
        root.attrs["cnatool"] = msgspec.json.encode(record).decode()
        del root.attrs["cnatool_crc32c"]
    with pytest.raises(StoreDamagedError, match="do not match their fingerprint"):
        cnatool.convert(path, tmp_path / "t.zarr")
    assert not (tmp_path / "t.zarr").exists()


def test_room_is_made_only_for_arrays_that_are_there(tmp_path: Path) -> None:
    """An attribute that claims 16 GiB a row, with a checksum that fits."""
    path = tmp_path / "s.h5"
    with cnatool.create_store(path, tensors=["a"], outputs=["a"]) as store:
        values = np.ones((4, 3), np.float32)
        store.append("train", inputs=values, outputs=values, activations={"a": values})
    with h5py.File(path, "r+") as root:
        attribute = json.loads(root.attrs["cnatool"])
        attribute["inputs"][0]["shape"] = [(1 << 32) + 5]
        root.attrs["cnatool"] = json.dumps(attribute)
        del root.attrs["cnatool_crc32c"]
    tracemalloc.start()
    with pytest.raises(StoreDamagedError, match="inputs/0 has shape"):
        cnatool.convert(path, tmp_path / "t.zarr")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert not (tmp_path / "t.zarr").exists()


@pytest.mark.parametrize("name", ["t.zarr", "t.h5"])
def test_rows_that_are_committed_in_several_ranges(name: str, tmp_path: Path) -> None:
    """As other tools may list them."""
    data = write_store(tmp_path / "s.zarr")
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute["splits"]["train"] |= {"committed": [[0, 2], [2, ROWS]], "checksums": None}
    split = cnatool.convert(tmp_path / "s.zarr", tmp_path / name).splits["train"]
    assert split.record.committed == ((0, ROWS),)
    assert split.record.checksums is not None
    for key, values in data.items():
        np.testing.assert_array_equal(split.array(key)[:], values)
