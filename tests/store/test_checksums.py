"""Checksums of rows in the attribute: what another array's chunk, or a changed one, is told by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from support.stores import forget_checksums

import cnatool
from cnatool.errors import CnatoolError, StoreDamagedError
from cnatool.store.integrity import rows_checksum

FORMATS = [".zarr", ".h5"]
ROWS = 300


def slow_crc32c(content: bytes) -> int:
    """CRC-32C bit by bit: reflected, polynomial 0x1EDC6F41, first and last inverted."""
    register = 0xFFFFFFFF
    for octet in content:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def content_of(rows: Any) -> bytes:
    """The bytes that a checksum is of, as docs/store.md says."""
    if rows.dtype.kind in "OTSU":
        texts = [str(text).encode() for text in rows]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return rows.tobytes()


def made(path: Path, seed: int = 0, splits: tuple[str, ...] = ("train", "test")) -> Path:
    rng = np.random.default_rng(seed)
    tensors = dict.fromkeys(("a", "c", "b"), "Linear")
    with cnatool.create_store(path, tensors=tensors, outputs=["b"]) as store:
        for split in splits:
            for rows in (100, 150, ROWS - 250):
                a = rng.standard_normal((rows, 5)).astype(np.float32)
                # Sums of zero.
                a[3] = 0
                b = rng.standard_normal((rows, 3)).astype(np.float32)
                store.append(
                    split,
                    inputs=rng.integers(0, 256, (rows, 4, 4), np.uint8),
                    labels=rng.integers(0, 3, rows),
                    outputs=b,
                    activations={"a": a, "c": a * a, "b": b},
                    ids=[f"{split}/é{i}" for i in range(rows)],
                )
    return path


def arrays(path: Path, split: str) -> dict[str, Any]:
    """All arrays of a split by key, read by a library that knows no cnatool."""
    root = zarr.open_group(path, mode="r") if path.is_dir() else h5py.File(path, "r")
    found: dict[str, Any] = {}

    def visit(group: Any, prefix: str) -> None:
        for name in group:
            member = group[name]
            if hasattr(member, "shape"):
                text = member.dtype.kind in "OS" and not path.is_dir()
                found[prefix + name] = (member.asstr() if text else member)[:]
            else:
                visit(member, f"{prefix}{name}/")

    visit(root[f"splits/{split}"], "")
    return found


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_chunk_has_a_checksum(tmp_path: Path, suffix: str) -> None:
    store = cnatool.open(made(tmp_path / f"s{suffix}"))
    for name, split in store.splits.items():
        checksums = split.record.checksums
        there = arrays(store.path, name)
        assert checksums is not None
        assert set(checksums) == set(there)
        for key, values in there.items():
            each = checksums[key]
            expected = [
                f"{slow_crc32c(content_of(values[i : i + each.rows])):08x}"
                for i in range(0, len(values), each.rows)
            ]
            assert each.crc32c == "".join(expected)


@pytest.mark.parametrize("dtype", ["float32", ">f8", "bool", "int64", "float16", "uint8"])
def test_of_bytes_as_they_are_stored(dtype: str) -> None:
    values = np.arange(24).reshape(6, 4).astype(dtype)
    expected = slow_crc32c(values.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    assert int.from_bytes(rows_checksum(values), "big") == expected
    assert rows_checksum(np.asfortranarray(values)) == rows_checksum(values)


def refusals(store: Path) -> list[str]:
    """What `score` and `verify` say of a damaged store."""
    with pytest.raises(CnatoolError) as refused:
        cnatool.score(store)
    faults = cnatool.verify(store).faults
    assert faults
    return [str(refused.value), *(fault.problem for fault in faults)]


@pytest.mark.parametrize("key", ["labels", "statistics/sum"])
def test_zeros_made_ones(tmp_path: Path, key: str) -> None:
    """0x0000 and 0xffff are the same to Fletcher-32, and every other reader takes them."""
    path = made(tmp_path / "s.h5")
    with h5py.File(path, "r") as root:
        array = root[f"splits/train/{key}"]
        spot = array.id.get_chunk_info(0)
        place = int(np.flatnonzero(array[:].reshape(-1) == 0)[0])
    content = bytearray(path.read_bytes())
    at = spot.byte_offset + place * 8
    assert content[at : at + 8] == bytes(8)
    content[at : at + 2] = b"\xff\xff"
    path.write_bytes(content)
    with h5py.File(path, "r") as root:
        assert root[f"splits/train/{key}"][:].reshape(-1)[place] != 0
    said = refusals(path)
    assert all("do not match their checksum in the store's attribute" in text for text in said)


@pytest.mark.parametrize("key", ["statistics/sum", "labels", "outputs/0", "inputs/0"])
@pytest.mark.parametrize("other", ["split", "store"])
def test_a_shard_of_another_array(tmp_path: Path, key: str, other: str) -> None:
    """It has checksums of its own, all of which hold."""
    path = made(tmp_path / "s.zarr")
    source = made(tmp_path / "t.zarr", seed=1) if other == "store" else path
    split = "train" if other == "store" else "test"
    shard = next((source / f"splits/{split}/{key}").glob("c.*"))
    shutil.copy(shard, path / f"splits/train/{key}" / shard.name)
    said = refusals(path)
    assert all("do not match their checksum in the store's attribute" in text for text in said)


def test_a_dataset_of_another_store(tmp_path: Path) -> None:
    path, other = made(tmp_path / "s.h5"), made(tmp_path / "t.h5", seed=1)
    with h5py.File(path, "r+") as root, h5py.File(other, "r") as source:
        for key in ("labels", "statistics/sum"):
            values = source[f"splits/train/{key}"][:]
            root[f"splits/train/{key}"][:] = values
    assert "do not match" in refusals(path)[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_of_sound_chunks_are_read(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"s{suffix}", splits=("only",))
    store = cnatool.open(path)
    values = store.splits["only"].activations("a")[:]
    for index in (0, -1, slice(3, 7), slice(None, None, -1), [5, 5, 1], np.arange(ROWS) % 7 == 3):
        np.testing.assert_array_equal(store.splits["only"].activations("a")[index], values[index])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_store_without_them_is_read(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"s{suffix}")
    before = cnatool.score(path)
    forget_checksums(path)
    assert cnatool.open(path).splits["train"].record.checksums is None
    assert cnatool.score(path) == before
    assert cnatool.verify(path).faults == ()


def test_converting_takes_them_of_what_it_writes(tmp_path: Path) -> None:
    path = made(tmp_path / "s.h5")
    taken = cnatool.open(path).splits["test"].record.checksums
    forget_checksums(path)
    copy = cnatool.convert(path, tmp_path / "t.zarr")
    assert copy.splits["test"].record.checksums == taken
    assert cnatool.verify(copy.path).faults == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"nothing": {"rows": 1, "crc32c": ""}}, "not one of its arrays"),
        ({"ids": {"rows": 0, "crc32c": ""}}, "are malformed"),
        ({"ids": {"rows": 1, "crc32c": "0123456g"}}, "are malformed"),
        ({"ids": {"rows": 100, "crc32c": "00000000"}}, "has 1 checksums"),
    ],
)
def test_checksums_that_cannot_be(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = made(tmp_path / "s.zarr")
    content = json.loads((path / "zarr.json").read_text())
    del content["attributes"]["cnatool_crc32c"]
    content["attributes"]["cnatool"]["splits"]["train"]["checksums"].update(change)
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match=problem):
        cnatool.open(path)
