from __future__ import annotations

import gc
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from support.stores import append, arrays, check_rows, record
from zarr.storage import ZipStore

import cnatool
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    store = StoreWriter(path, record())
    split = store.split("train", 20_000, source="made", labels=True)
    append(split, arrays(20_000), 0, 20_000)
    split.finish()
    return path


def zipped(folder: Path, prefix: str, **how: int) -> Path:
    path = folder.with_name("s.zarr.zip")
    with zipfile.ZipFile(path, "w", **how) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


@pytest.mark.parametrize("prefix", ["", "s.zarr/", "another name/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zipped_store_is_read(prefix: str, compression: int, folder: Path) -> None:
    store = open_store(zipped(folder, prefix, compression=compression))
    assert store.record == open_store(folder).record
    check_rows(store.splits["train"], arrays(20_000))


def test_what_other_tools_zip(folder: Path) -> None:
    path = zipped(folder, "s.zarr/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._s.zarr", b"")
        archive.mkdir("s.zarr/splits")
    check_rows(open_store(path).splits["train"], arrays(20_000))
    shutil.move(path, path.with_name("data.bin"))
    check_rows(open_store(path.with_name("data.bin")).splits["train"], arrays(20_000))


def test_it_is_read_only(folder: Path) -> None:
    path = zipped(folder, "")
    with pytest.raises(NotAStoreError, match=r"a zipped store is read-only. Write .*s\.zarr and"):
        cnatool.convert(folder, path, overwrite=True)


def test_what_is_no_zipped_store(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr.zip"
    path.write_text("hello")
    with pytest.raises(NotAStoreError, match="not a readable ZIP file"):
        open_store(path)
    for names in (["a.txt"], ["a/zarr.json", "b/zarr.json"], []):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        with pytest.raises(NotAStoreError, match="it contains no zarr.json at its top"):
            open_store(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", "{")
    with pytest.raises(StoreDamagedError, match="zarr.json cannot be read"):
        open_store(path)


def test_missing_and_broken_chunks(folder: Path) -> None:
    chunk = folder / "splits/train/outputs/0/c.0.0"
    content = bytearray(chunk.read_bytes())
    content[-5000] ^= 1
    chunk.write_bytes(content)
    (folder / "splits/train/labels/c.0").unlink()
    split = open_store(zipped(folder, "")).splits["train"]
    assert len(split.inputs()[:]) == 20_000
    with pytest.raises(
        StoreDamagedError, match=r"of array .*labels \(rows 0 to 19999, in c.0\) is missing"
    ):
        split.labels[:]
    with pytest.raises(StoreDamagedError, match="rows 0 to 19999 of array splits/train/outputs/0"):
        split.outputs()[:]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", ["", "s.zarr/"])
def test_chunks_missing_inside_a_shard(prefix: str, compression: int, folder: Path) -> None:
    """Zarr gives zeros for a chunk that its shard's index does not list."""
    shard = folder / "splits/train/inputs/0/c.0.0.0"
    chunk_rows = open_store(folder).splits["train"].inputs().chunk_rows
    chunks = -(-20_000 // chunk_rows)
    assert chunks > 1
    content = bytearray(shard.read_bytes())
    size = 16 * chunks
    content[16:32] = b"\xff" * 16
    content[size : size + 4] = struct.pack("<I", google_crc32c.value(bytes(content[:size])))
    shard.write_bytes(content)
    path = zipped(folder, prefix, compression=compression)
    with ZipStore(path, mode="r") as archive:
        read = zarr.open_group(archive, path=prefix, mode="r")["splits/train/inputs/0"]
        assert not np.any(read[chunk_rows : 2 * chunk_rows])
    inputs = open_store(path).splits["train"].inputs()
    np.testing.assert_array_equal(inputs[:chunk_rows], arrays(20_000)["inputs"][:chunk_rows])
    for rows in (slice(None), slice(chunk_rows, chunk_rows + 1), slice(0, chunk_rows + 1)):
        with pytest.raises(StoreDamagedError, match=r"a chunk of array .*inputs/0 .* is missing"):
            inputs[rows]
    assert "splits/train/inputs/0" in [fault.where for fault in cnatool.verify(path).faults]


def test_a_bomb_is_not_unpacked(folder: Path) -> None:
    """A member says how much it unpacks to; more than a chunk can hold is refused unread."""
    (folder / "splits/train/labels/c.0").write_bytes(bytes(50 << 20))
    path = zipped(folder, "", compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10 << 20
    with pytest.raises(StoreDamagedError, match="claims to unpack to 52428800 bytes"):
        open_store(path).splits["train"].labels[:]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files")
def test_the_file_is_closed_with_the_last_reference(folder: Path) -> None:
    """Also in a cycle, as an exception's traceback makes one."""
    path = zipped(folder, "")
    loop: list[Any] = [open_store(path).splits["train"].inputs()]
    loop[0][:1]
    loop.append(loop)
    assert count_handles(path) == 1
    del loop
    # A file that only the garbage collector closes leaves a ResourceWarning, which is an error.
    gc.collect()
    assert count_handles(path) == 0


def count_handles(path: Path) -> int:
    handles = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return handles.count(path)
