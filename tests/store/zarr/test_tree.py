"""The Zarr format: what zarr writes we read, what we write zarr reads."""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
from collections.abc import Iterator
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from support.stores import chunks_of, record, write_store
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from cnatool._util import files
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.choices import Codec
from cnatool.store.verify import verify
from cnatool.store.writer import StoreWriter
from cnatool.store.zarr import shard as shards
from cnatool.store.zarr.array import ZarrArray
from cnatool.store.zarr.foreign import ForeignArray
from cnatool.store.zarr.tree import ZarrTree

CODECS: dict[Codec, list[Any]] = {
    "lz4": [BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle")],
    "zstd": [BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")],
    "gzip": [GzipCodec(level=1)],
    "none": [],
}
KINDS = [
    *product(["bool", "uint8", "int64", "float16", ">f8"], [(), (3,), (2, 1000, 7), (4, 0)]),
    (str, ()),
]


def made(path: Path) -> ZarrTree:
    tree = ZarrTree.create(path)
    tree.commit(b"{}", "00000000")
    return tree


def values_of(dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 9, shape)
    if dtype is str:
        return np.array([f"ä{value}" * value for value in values.ravel()], object).reshape(shape)
    return values.astype(dtype)


def of_zarr(path: Path, values: np.ndarray, rows: int, codec: Codec, **more: Any) -> zarr.Array:
    """Make an array of our layout with zarr alone."""
    inner = (rows, *(max(1, size) for size in values.shape[1:]))
    chunks = min(255, -(-len(values) // rows))
    return zarr.create_array(
        path,
        shape=values.shape,
        dtype=str if values.dtype == object else values.dtype.newbyteorder("="),
        chunks=inner,
        shards={"shape": (rows * chunks, *inner[1:]), "index_location": "start"},
        compressors=[*CODECS[codec], Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=[f"axis{i}" for i in range(values.ndim)],
        config={"write_empty_chunks": True},
        **more,
    )


def of_ours(tree: ZarrTree, key: str, values: np.ndarray, rows: int, codec: Codec = "lz4") -> Any:
    dtype = str if values.dtype == object else values.dtype.newbyteorder("=")
    axes = tuple(f"axis{i}" for i in range(values.ndim))
    return tree.create_array(key, values.shape, dtype, rows, codec, axes=axes, text_bytes=64)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("dtype", "shape"), KINDS)
def test_we_write_what_zarr_writes(
    codec: Codec, dtype: Any, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The same metadata, and each reads the other's array."""
    values = values_of(dtype, (10, *shape))
    tree = made(tmp_path / "tree.zarr")
    of_ours(tree, "ours", values, 4, codec).write(0, chunks_of(values, 4))
    tree.commit(b"{}", "00000000", final=True)
    theirs = of_zarr(tmp_path / "tree.zarr/theirs", values, 4, codec)
    theirs[:] = values
    metadata = [
        json.loads((tmp_path / "tree.zarr" / name / "zarr.json").read_text())
        for name in ("ours", "theirs")
    ]
    assert metadata[0] == metadata[1]
    for name in ("ours", "theirs"):
        plain = zarr.open_array(tmp_path / "tree.zarr" / name, mode="r")[:]
        np.testing.assert_array_equal(np.asarray(plain).astype(values.dtype), values)
        array = tree.array(name)
        assert isinstance(array, ZarrArray)
        assert array.dtype.name == values.dtype.name
        np.testing.assert_array_equal(array.read(0, 10), values)
        np.testing.assert_array_equal(array.read(3, 9), values[3:9])
        assert array.read(5, 5).shape == (0, *shape)


@pytest.mark.parametrize("codec", CODECS)
def test_chunks_are_encoded_as_zarr_does(codec: Codec, tmp_path: Path) -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=(64, 4, 100)), 0).astype(np.float32)
    tree = made(tmp_path / "tree.zarr")
    of_ours(tree, "ours", values, 16, codec).write(0, chunks_of(values, 16))
    of_zarr(tmp_path / "tree.zarr/theirs", values, 16, codec)[:] = values

    def chunks(name: str) -> list[bytes]:
        content = (tmp_path / "tree.zarr" / name / "c.0.0.0").read_bytes()
        index = np.frombuffer(content, "<u8", 8).reshape(-1, 2)
        return [content[offset : offset + size] for offset, size in index.tolist()]

    tree.commit(b"{}", "00000000")
    assert codec == "gzip" or chunks("ours") == chunks("theirs")  # gzip has a time in its head


def test_root_and_groups_are_those_of_zarr(tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    for key in ("splits/train/ids", "splits/train/activations/0", "splits/test/ids"):
        values = values_of(np.float32, (3,))
        of_ours(tree, key, values, 2).write(0, chunks_of(values, 2))
    tree.commit(b'{"a": [1.5, null]}', "0123abcd")
    assert "consolidated_metadata" not in json.loads((tmp_path / "t.zarr/zarr.json").read_text())
    tree.commit(b'{"a": [1.5, null]}', "0123abcd", final=True)
    ours = json.loads((tmp_path / "t.zarr/zarr.json").read_text())
    opened = zarr.open_consolidated(tmp_path / "t.zarr", mode="r")
    assert dict(opened.attrs) == {"cnatool": {"a": [1.5, None]}, "cnatool_crc32c": "0123abcd"}
    assert sorted(opened["splits/train"].keys()) == ["activations", "ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that it is not in the specification yet
        zarr.consolidate_metadata(tmp_path / "t.zarr")
    assert ours == json.loads((tmp_path / "t.zarr/zarr.json").read_text())


@pytest.mark.parametrize("pieces", [[600], [100, 155, 1, 344], [255, 255, 90]])
def test_many_shards(pieces: list[int], tmp_path: Path) -> None:
    values = values_of(np.int64, (600, 2))
    tree = made(tmp_path / "t.zarr")
    writer = of_ours(tree, "a", values, 1)
    reader = tree.array("a")
    start = 0
    for size in pieces:
        writer.write(start, chunks_of(values[start : start + size], 1))
        with pytest.raises(StoreDamagedError, match=rf"chunk {start} of array a .* is missing"):
            reader.read(start, start + 1)
        plain = zarr.open_array(tmp_path / "t.zarr/a", mode="r")
        np.testing.assert_array_equal(plain[:start], values[:start])
        tree.commit(b"{}", "00000000")
        start += size
        np.testing.assert_array_equal(reader.read(0, start), values[:start])
        np.testing.assert_array_equal(plain[:start], values[:start])
    names = sorted(path.name for path in (tmp_path / "t.zarr/a").iterdir())
    assert names == ["c.0.0", "c.1.0", "c.2.0", "zarr.json"]


FOREIGN: dict[str, dict[str, Any]] = {
    "defaults": {},
    "unsharded": {"chunks": (4, 3, 5), "compressors": [ZstdCodec(level=3)]},
    "chunked over all axes": {"chunks": (4, 2, 2)},
    "uncompressed": {"chunks": (3, 3, 5), "compressors": None},
    "shards": {"chunks": (2, 3, 5), "shards": (6, 3, 5)},
    "shards over all axes": {"chunks": (2, 1, 2), "shards": (4, 2, 4)},
    "index in front": {
        "chunks": (2, 3, 5),
        "shards": {"shape": (6, 3, 5), "index_location": "start"},
        "compressors": [GzipCodec(), Crc32cCodec()],
    },
    "big-endian": {"chunks": (4, 3, 5), "serializer": BytesCodec(endian="big")},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_arrays_of_other_writers(name: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 3, 5)).astype(np.float32)
    values[4:6] = 0  # a chunk of zeros must be there too
    tree = made(tmp_path / "t.zarr")
    array = zarr.create_array(
        tmp_path / "t.zarr/a",
        shape=values.shape,
        dtype=values.dtype,
        config={"write_empty_chunks": True},
        **FOREIGN[name],
    )
    array[:] = values
    ours = tree.array("a")
    assert isinstance(ours, ForeignArray)
    for start, stop in ((0, 10), (3, 8), (9, 10), (2, 2)):
        np.testing.assert_array_equal(ours.read(start, stop), values[start:stop])


@pytest.mark.parametrize("name", ["unsharded", "shards", "shards over all axes", "index in front"])
def test_chunks_that_other_writers_left_out(name: str, tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    array = zarr.create_array(
        tmp_path / "t.zarr/a", shape=(10, 3, 5), dtype=np.float32, **FOREIGN[name]
    )
    array[:4] = 1
    array[8:] = 1
    ours = tree.array("a")
    np.testing.assert_array_equal(ours.read(0, 4), np.ones((4, 3, 5)))
    np.testing.assert_array_equal(ours.read(8, 10), np.ones((2, 3, 5)))
    for start, stop in ((0, 10), (4, 8), (3, 5), (7, 9)):
        with pytest.raises(StoreDamagedError, match="of array a .* is missing"):
            ours.read(start, stop)


def test_shards_whose_chunks_cannot_be_told(tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    codec = ShardingCodec(chunk_shape=(2,), index_codecs=[BytesCodec()])
    zarr.create(shape=(4,), chunks=(4,), dtype="f4", codecs=[codec], store=tmp_path / "t.zarr/a")[
        :
    ] = 1
    with pytest.raises(StoreDamagedError, match="so chunks may be missing"):
        tree.array("a").read(0, 4)


def test_text_of_other_writers(tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    array = zarr.create_array(tmp_path / "t.zarr/a", shape=(3,), dtype=str)
    array[:] = np.array(["a", "äöü", "c"], object)
    ours = tree.array("a")
    assert isinstance(ours, ForeignArray)
    assert ours.dtype == object
    assert ours.read(0, 3).tolist() == ["a", "äöü", "c"]


@pytest.fixture
def one(tmp_path: Path) -> tuple[ZarrTree, Path, np.ndarray]:
    values = values_of(np.float32, (20, 3))
    tree = made(tmp_path / "t.zarr")
    of_ours(tree, "a", values, 4).write(0, chunks_of(values, 4))
    tree.commit(b"{}", "00000000")
    return tree, tmp_path / "t.zarr/a/c.0.0", values


def test_flipped_bit(one: tuple[ZarrTree, Path, np.ndarray]) -> None:
    tree, path, values = one
    content = bytearray(path.read_bytes())
    content[4096 + 3] ^= 4
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match="rows 0 to 3 of array a cannot be read .*checksum"):
        tree.array("a").read(2, 10)
    np.testing.assert_array_equal(tree.array("a").read(4, 20), values[4:])


def test_cut_short(one: tuple[ZarrTree, Path, np.ndarray]) -> None:
    tree, path, _ = one
    content = path.read_bytes()
    for size in (0, 10, 50, 100, 4100):
        path.write_bytes(content[:size])
        with pytest.raises(StoreDamagedError, match=r"rows \d+ to \d+ of array a cannot be read"):
            tree.array("a").read(0, 20)


def test_missing_shard(one: tuple[ZarrTree, Path, np.ndarray]) -> None:
    tree, path, _ = one
    path.unlink()
    with pytest.raises(
        StoreDamagedError,
        match=r"chunk 1 of array a \(rows 4 to 7\) is missing \(there is no c.0.0",
    ):
        tree.array("a").read(5, 6)


def test_chunk_that_holds_more_than_it_should(one: tuple[ZarrTree, Path, np.ndarray]) -> None:
    """A valid checksum over a chunk of another size."""
    tree = one[0]
    for codec in CODECS:
        wide = values_of(np.float32, (20, 7))
        of_ours(tree, codec, wide, 4, codec).write(0, chunks_of(wide, 4))
        narrow = values_of(np.float32, (20, 3))
        of_ours(tree, f"{codec}-narrow", narrow, 4, codec).write(0, chunks_of(narrow, 4))
        tree.commit(b"{}", "00000000")
        (tree.path / codec / "c.0.0").replace(tree.path / f"{codec}-narrow" / "c.0.0")
        with pytest.raises(StoreDamagedError, match="rows 0 to 3 of array"):
            tree.array(f"{codec}-narrow").read(0, 4)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"zarr_format": 3}', '{"zarr_format": 3, "node_type": "group"}']
)
def test_metadata_that_are_none(text: str, one: tuple[ZarrTree, Path, np.ndarray]) -> None:
    tree, path, _ = one
    (path.parent / "zarr.json").write_text(text)
    with pytest.raises(StoreDamagedError, match="array a cannot be opened"):
        tree.array("a")


def test_group_with_fields_that_must_be_understood(tmp_path: Path) -> None:
    made(tmp_path / "t.zarr")
    path = tmp_path / "t.zarr/zarr.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "more": {"must_understand": False}}))
    assert ZarrTree.open(tmp_path / "t.zarr").attribute() is not None
    path.write_text(json.dumps({**content, "more": {"must_understand": True}}))
    with pytest.raises(StoreDamagedError, match="unknown field 'more'"):
        ZarrTree.open(tmp_path / "t.zarr")
    path.unlink()
    with pytest.raises(NotAStoreError):
        ZarrTree.open(tmp_path / "t.zarr")


@pytest.mark.parametrize("codec", CODECS)
def test_plain_zarr_reads_a_store(codec: Codec, tmp_path: Path) -> None:
    data = write_store(tmp_path / "s.zarr", codec)
    root = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert root.attrs["cnatool"]["splits"]["train"]["committed"] == [[0, len(data["ids"])]]
    for key, values in data.items():
        np.testing.assert_array_equal(np.asarray(root[f"splits/train/{key}"][:]), values)


def test_xarray_reads_a_store(tmp_path: Path) -> None:
    reason = "xarray, which is not among cnatool's own needs, is not installed"
    xarray = pytest.importorskip("xarray", reason=reason)
    data = write_store(tmp_path / "s.zarr")
    names = {"ids": ["sample"], "inputs/0": ["sample", "axis1_8", "axis2_8"]}
    names |= {"statistics/sum": ["sample", "tensor"]}
    for key, values in data.items():
        group, _, name = f"splits/train/{key}".rpartition("/")
        found = xarray.open_zarr(tmp_path / "s.zarr", group=group, chunks=None)[name]
        np.testing.assert_array_equal(found.values, values)
        assert key not in names or list(found.dims) == names[key]
        if group.endswith("activations"):
            assert found.attrs == {"long_name": f"t{name}"}
    tree = xarray.open_datatree(tmp_path / "s.zarr", engine="zarr", chunks=None)
    assert set(tree["splits/train/activations"].data_vars) == {str(i) for i in range(6)}


def test_only_stores_are_replaceable(tmp_path: Path) -> None:
    """What a kill leaves of a store that was just being made is one, too."""
    path = tmp_path / "t.zarr"
    path.mkdir()
    assert ZarrTree.is_replaceable(path)
    (path / "zarr.json.partial").touch()
    assert ZarrTree.is_replaceable(path)
    (path / "splits").mkdir()
    assert not ZarrTree.is_replaceable(path)
    (path / "zarr.json").write_text("{")
    assert ZarrTree.is_replaceable(path)
    (path / "notes.txt").touch()
    assert not ZarrTree.is_replaceable(path)


# One in so many moments is continued from.
CONTINUED = int(os.environ.get("CNATOOL_CONTINUED", "53"))
# Random losses tried at each moment.
LOSSES = int(os.environ.get("CNATOOL_LOSSES", "1"))


class Disk:
    """Records what a store writes and syncs, and shows what may be left of it.

    A file is what was last synced, and of each later write to it any sectors at all. The root's
    metadata are as they were when the last rename was synced, or newer.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, before: dict[Path, bytes] | None = None
    ) -> None:
        self.events: list[tuple[str, Path, int, bytes | None]] = []
        self._before = before or {}
        write, sync, replace = files.write_all, os.fsync, files.replace_file
        truncate = files.truncate

        def writing(file: Any, data: bytes) -> None:
            self.events.append(("write", Path(file.name), file.tell(), bytes(data)))
            write(file, data)

        def syncing(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self.events.append(("sync", path, 0, b""))
            sync(descriptor)

        def replacing(path: Path, content: bytes, partial: Path) -> None:
            replace(path, content, partial)
            self.events.append(("root", path, 0, content))

        def truncating(file: Any, size: int) -> None:
            self.events.append(("write", Path(file.name), size, None))
            truncate(file, size)

        monkeypatch.setattr(files, "write_all", writing)
        monkeypatch.setattr(files, "truncate", truncating)
        monkeypatch.setattr(os, "fsync", syncing)
        monkeypatch.setattr("cnatool.store.zarr.tree.replace_file", replacing)

    def left(self, after: int, rng: random.Random) -> tuple[int, dict[Path, bytes]]:
        """Give commits that are safe after so many events, and what each file may hold."""
        safe, pending = dict(self._before), {}
        commits = 0
        for kind, path, offset, data in self.events[:after]:
            if kind == "write":
                safe.setdefault(path, b"")
                pending.setdefault(path, []).append((offset, data))
            elif kind == "sync" and path in pending:
                for written in pending.pop(path):
                    safe[path] = _patched(safe[path], *written)
            elif kind == "root":
                commits += 1
        for path, writes in pending.items():
            for offset, data in writes:
                if data is None and rng.random() < 0.5:
                    safe[path] = _patched(safe[path], offset, None)
                for start in range(0, len(data or b""), 512):
                    if rng.random() < 0.5:
                        part = data[start : start + 512]
                        safe[path] = _patched(safe[path], offset + start, part)
        return commits, safe


def _patched(content: bytes, offset: int, data: bytes | None) -> bytes:
    content = content.ljust(offset, b"\0")
    if data is None:
        return content[:offset]
    return content[:offset] + data + content[offset + len(data) :]


def states(disk: Disk) -> Iterator[tuple[int, dict[Path, bytes]]]:
    rng = random.Random(0)
    for after in range(len(disk.events) + 1):
        for _ in range(LOSSES):
            yield disk.left(after, rng)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it asks /proc what was synced")
def test_whatever_a_power_cut_leaves_committed_rows_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every moment of a run of six commits, and sectors of what was not synced lost at random."""
    values = np.random.default_rng(0).normal(size=(280, 30)).astype(np.float32)
    tree = made(tmp_path / "t.zarr")
    writer = of_ours(tree, "a", values, 1)
    steps = [0, 1, 30, 31, 220, 260, 280]
    disk = Disk(monkeypatch)
    for start, stop in pairwise(steps):
        writer.write(start, chunks_of(values[start:stop], 1))
        tree.commit(b"{}", "00000000")
    monkeypatch.undo()
    seen = set()
    for commits, contents in states(disk):
        for path in (tmp_path / "t.zarr/a").glob("c.*"):
            path.unlink()
        for path, content in contents.items():
            path.write_bytes(content)
        rows = steps[commits]
        np.testing.assert_array_equal(tree.array("a").read(0, rows), values[:rows])
        head = contents.get(tmp_path / "t.zarr/a/c.0.0", b"")[:4084]
        seen.add(len(head) == 4084 and shards._with_checksum(head[:-4]) != head)
    assert seen == {False, True}  # heads were torn, too


def put(folder: Path, contents: dict[Path, bytes]) -> None:
    for path in folder.glob("c.*"):
        path.unlink()
    for path, content in contents.items():
        path.write_bytes(content)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it asks /proc what was synced")
def test_whatever_a_power_cut_leaves_can_be_continued_whatever_cuts_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any moment of a run the rest is written, and from any moment of that once more."""
    values = np.random.default_rng(0).normal(size=(280, 30)).astype(np.float32)
    root = tmp_path / "t.zarr"
    tree = made(root)
    writer = of_ours(tree, "a", values, 1)
    steps = [0, 1, 30, 220, 280]
    disk = Disk(monkeypatch)
    for start, stop in pairwise(steps):
        writer.write(start, chunks_of(values[start:stop], 1))
        tree.commit(b"{}", "00000000")
    monkeypatch.undo()
    torn = 0
    for commits, contents in islice(states(disk), 0, None, CONTINUED):
        rows = steps[commits]
        middle = (rows + 281) // 2
        put(root / "a", contents)
        again = Disk(monkeypatch, contents)
        tree = ZarrTree.reopen(root, [])
        writer = tree.reopen_array("a", rows)
        for start, stop in ((rows, middle), (middle, 280)):
            writer.write(start, chunks_of(values[start:stop], 1))
            tree.commit(b"{}", "00000000")
        monkeypatch.undo()
        np.testing.assert_array_equal(ZarrTree.open(root).array("a").read(0, 280), values)
        for path in (root / "a").glob("c.*"):
            ends = path.read_bytes()
            # The copy of the index is the end of the file, and the head is not torn.
            assert ends[:4084] == ends[-4084:] == shards._with_checksum(ends[: 4084 - 4])
        rng = random.Random(commits)
        for after in rng.sample(range(len(again.events) + 1), min(8, len(again.events))):
            more, left = again.left(after, rng)
            put(root / "a", left)
            safe = (rows, middle, 280)[more]
            np.testing.assert_array_equal(tree.array("a").read(0, safe), values[:safe])
            head = left.get(root / "a/c.0.0", b"")[:4084]
            torn += len(head) == 4084 and shards._with_checksum(head[:-4]) != head
            writer = ZarrTree.reopen(root, []).reopen_array("a", safe)
            writer.write(safe, chunks_of(values[safe:], 1))
            for shard in writer.take_unpublished():
                shard.publish()
            np.testing.assert_array_equal(tree.array("a").read(0, 280), values)
    assert torn


def test_what_an_unknown_split_left_goes(tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    for key in ("splits/train/ids", "splits/test/ids", "splits/test/labels"):
        of_ours(tree, key, np.arange(4), 4)
    tree.commit(b"{}", "00000000")
    (tmp_path / "t.zarr/zarr.json.partial").touch()
    (tmp_path / "t.zarr/splits/half").mkdir()
    again = ZarrTree.reopen(tmp_path / "t.zarr", ["train"])
    assert not (tmp_path / "t.zarr/zarr.json.partial").exists()
    assert {path.name for path in (tmp_path / "t.zarr/splits").iterdir()} == {"zarr.json", "train"}
    values = np.arange(4)
    again.reopen_array("splits/train/ids", 0).write(0, chunks_of(values, 4))
    of_ours(again, "splits/test/ids", values, 4).write(0, chunks_of(values, 4))
    again.commit(b"{}", "00000000", final=True)
    root = zarr.open_group(tmp_path / "t.zarr", mode="r", use_consolidated=True)
    assert (
        root["splits/train/ids"][:].tolist() == root["splits/test/ids"][:].tolist() == [*range(4)]
    )
    ZarrTree.reopen(tmp_path / "t.zarr", [])
    assert not (tmp_path / "t.zarr/splits").exists()


def test_what_cannot_be_continued(tmp_path: Path) -> None:
    tree = made(tmp_path / "t.zarr")
    values = values_of(np.float32, (9,))
    writer = of_ours(tree, "a", values, 2)
    writer.write(0, chunks_of(values[:4], 2))
    tree.commit(b"{}", "00000000")
    of_zarr(tmp_path / "t.zarr/b", values, 2, "lz4", attributes={})
    message = r"t\.zarr: array a cannot be continued \(c\.0 is cut short, or lacks chunks\)"
    with pytest.raises(StoreDamagedError, match=message):
        ZarrTree.reopen(tree.path, []).reopen_array("a", 6)
    (tmp_path / "t.zarr/a/c.0").unlink()
    with pytest.raises(StoreDamagedError, match="array a cannot be continued"):
        ZarrTree.reopen(tree.path, []).reopen_array("a", 4)


def test_new_files_and_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("cnatool.store.zarr.tree.sync", synced.append)
    tree = made(tmp_path / "t.zarr")
    values = values_of(np.float32, (4,))
    of_ours(tree, "x/a", values, 4).write(0, chunks_of(values, 4))
    tree.commit(b"{}", "00000000")
    root = tmp_path / "t.zarr"
    inside = ["x", "x/a", "x/zarr.json", "x/a/zarr.json"]
    assert set(synced) == {tmp_path, root, *(root / name for name in inside)}


@pytest.mark.parametrize("number", range(6))
def test_half_written_metadata_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Metadata of arrays that are being made, in front of readers and after a kill."""
    path = tmp_path / "s.zarr"
    writer = StoreWriter(path, record())
    write, calls = Path.write_bytes, iter(range(100))

    def half(self: Path, content: bytes) -> int:
        if next(calls) == number:
            write(self, content[: len(content) // 2])
            raise KeyboardInterrupt
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        writer.split("train", 9, source="made", labels=True, id_bytes=9)
    assert verify(path).faults == ()
    for found in path.rglob("zarr.json"):
        json.loads(found.read_text())
    writer.close()


def test_arrays_of_a_split_that_no_commit_lists_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write_store(path)
    faults = verify(path).faults
    copied = path / "splits/another"
    shutil.copytree(path / "splits/train", copied)
    assert verify(path).faults == faults
    # In a split of the attribute they are one.
    copied.rename(path / "splits/train/another")
    assert len(verify(path).faults) > len(faults)
