from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import msgspec
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import append, arrays, changed_attribute, check_rows, record

from cnatool.errors import (
    MetricError,
    NotAStoreError,
    StoreDamagedError,
    StoreVersionError,
    StoreWriteError,
)
from cnatool.records.layout import StoreRows
from cnatool.records.store import StoreRecord
from cnatool.store.chunk import Chunk
from cnatool.store.chunks import chunk_rows, commit_rows
from cnatool.store.hdf5.tree import HDF5Tree
from cnatool.store.integrity import attribute_checksum
from cnatool.store.reader import open_store
from cnatool.store.replace import check_free
from cnatool.store.writer import StoreWriter
from cnatool.store.zarr.array import ZarrArrayWriter
from cnatool.store.zarr.tree import ZarrTree

FORMATS = [".zarr", ".h5", ".hdf5"]


@pytest.fixture(params=FORMATS[:2])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a store of each format goes."""
    return tmp_path / f"s{request.param}"


def write(path: Path, data: dict[str, np.ndarray], batches: list[int], *, finish: bool = True):
    rows = len(data["labels"])
    writer = StoreWriter(path, record())
    split = writer.split("train", rows, source="made", labels=True, id_bytes=12)
    start = 0
    for size in batches:
        append(split, data, start, start + size)
        start += size
    if finish:
        split.finish()
        writer.close()
    return split


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=15, deadline=None)
@given(batches=st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_what_goes_in_comes_out_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, batches: list[int]
) -> None:
    data = arrays(sum(batches))
    path = tmp_path_factory.mktemp("store") / f"s{suffix}"
    write(path, data, batches)
    split = open_store(path).splits["train"]
    assert len(split) == sum(batches)
    assert split.record.complete
    check_rows(split, data)
    np.testing.assert_array_equal(split.activations("out")[:], data["outputs"])


def test_indexing(path: Path) -> None:
    data = arrays(300)
    write(path, data, [300])
    array = open_store(path).splits["train"].outputs()
    for index in (slice(3, 9), slice(None, None, 7), slice(-5, None), slice(200, 100), slice(0, 0)):
        np.testing.assert_array_equal(array[index], data["outputs"][index])
    np.testing.assert_array_equal(array[::-1], data["outputs"][::-1])
    np.testing.assert_array_equal(array[-1], data["outputs"][-1])
    np.testing.assert_array_equal(np.asarray(array), data["outputs"])
    with pytest.raises(IndexError):
        array[300]


def test_unfinished_rows_do_not_exist(path: Path) -> None:
    data = arrays(20_000)
    writer = write(path, data, [9_000, 9_000], finish=False)
    split = open_store(path).splits["train"]
    assert not split.record.complete
    assert len(split) == writer.committed == 16_384
    np.testing.assert_array_equal(split.inputs()[:], data["inputs"][:16_384])
    np.testing.assert_array_equal(split.activations("a/b")[16_000:], data["b"][16_000:16_384])


def test_only_statistics_of_a_tensor(path: Path) -> None:
    write(path, arrays(10), [10])
    store = open_store(path)
    with pytest.raises(MetricError, match="'thin' are stored. Dump with `keep='full'` to"):
        store.splits["train"].activations("thin")
    with pytest.raises(MetricError, match="no tensor 'nothing'"):
        store.tensor("nothing")
    with pytest.raises(MetricError, match="no tensor 99. Tensors have names, such as"):
        store.tensor(99)  # type: ignore[arg-type]


def test_inputs_by_number_and_name(path: Path) -> None:
    write(path, arrays(10), [10])
    split = open_store(path).splits["train"]
    name = split.store.record.inputs[0].name
    np.testing.assert_array_equal(split.inputs(name)[:], split.inputs(0)[:])
    for wrong in ("nothing", 7):
        with pytest.raises(MetricError, match=f"has no input {wrong!r}. Its inputs: 0 '{name}'"):
            split.inputs(wrong)


def test_any_committed_ranges_are_read(tmp_path: Path) -> None:
    data = arrays(200)
    write(tmp_path / "s.zarr", data, [200])
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute["splits"]["train"].update(
            committed=[[0, 50], [120, 150]], complete=False, checksums=None
        )
    array = open_store(tmp_path / "s.zarr").splits["train"].outputs()
    expected = np.concatenate([data["outputs"][:50], data["outputs"][120:150]])
    np.testing.assert_array_equal(array[:], expected)
    np.testing.assert_array_equal(array[45:60], expected[45:60])
    np.testing.assert_array_equal(array[49], expected[49])


def test_fingerprint_depends_on_data_not_on_batches(tmp_path: Path) -> None:
    data, other = arrays(100), arrays(100, seed=1)
    prints = []
    for name, content, batches in (("a", data, [100]), ("b", data, [33, 67]), ("c", other, [100])):
        write(tmp_path / f"{name}.zarr", content, batches)
        prints.append(open_store(tmp_path / f"{name}.zarr").splits["train"].record.fingerprint)
    assert prints[0] is not None
    assert prints[0] == prints[1] != prints[2]


def test_missing_array_and_wrong_shape(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", arrays(64), [64])
    folder = tmp_path / "s.zarr/splits/train/statistics/sum"
    metadata = json.loads((folder / "zarr.json").read_text())
    metadata["shape"] = [63, 4]
    (folder / "zarr.json").write_text(json.dumps(metadata))
    split = open_store(tmp_path / "s.zarr").splits["train"]
    with pytest.raises(StoreDamagedError, match=r"has shape \(63, 4\) instead of \(64, 4\)"):
        split.statistics()
    shutil.rmtree(folder)
    with pytest.raises(StoreDamagedError, match="array splits/train/statistics/sum cannot be open"):
        split.statistics()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "cnatool.scores/2"}, "does not match the schema"),
        ({"tensors": 3}, "does not match the schema"),
        ({"unheard": 1}, "does not match the schema"),
    ],
)
def test_attribute_of_another_shape(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute.update(change)
    with pytest.raises(StoreDamagedError, match=message):
        open_store(tmp_path / "s.zarr")


@pytest.mark.parametrize("version", [0, 2, 17])
def test_a_store_of_another_version_is_not_called_damaged(tmp_path: Path, version: int) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute.update(schema=f"cnatool.store/{version}", created_by="cnatool 7.5", unheard=[])
    message = (
        rf"was written by another version of cnatool, cnatool 7\.5 \(cnatool\.store/{version}\)"
    )
    with pytest.raises(StoreVersionError, match=message):
        open_store(tmp_path / "s.zarr")


def test_a_field_of_a_later_version_is_not_called_damage(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute.update(unheard=1, created_by="cnatool 7.5")
        whole = attribute_checksum(json.dumps(attribute).encode())
    metadata = json.loads((tmp_path / "s.zarr/zarr.json").read_text())
    metadata["attributes"]["cnatool_crc32c"] = whole
    (tmp_path / "s.zarr/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(
        StoreVersionError, match="was written by another version of cnatool, cnatool 7.5 "
    ):
        open_store(tmp_path / "s.zarr")
    # Without a checksum that holds, nobody knows whether it is whole.
    metadata["attributes"]["cnatool_crc32c"] = "00000000"
    (tmp_path / "s.zarr/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreDamagedError, match="does not match the schema"):
        open_store(tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["tensors", 1, "number"], -1, "tensor 'a/b' is number -1 in place 1"),
        (["tensors", 1, "name"], "a/b:0", "two tensors have the same name"),
        (["tensors", 2, "output"], 1, "tensor 'out' should be output 1"),
        (["tensors", 1, "stored"], "object", "tensor 'a/b' has the unknown type 'object'"),
        (["tensors", 1, "shape"], [-2, 3], r"'a/b' has the impossible shape \(-2, 3\)"),
        (["inputs", 0, "dtype"], "nonsense", "'x' has the unknown type 'nonsense'"),
        (["inputs", 0, "levels"], "uint8", r"are \(257,\) of uint32, but it is \(8, 8\) of uint8"),
        (["outputs", 0, "levels"], "uint8", "'out' is an output, but only inputs can count levels"),
        (["outputs"], [], "tensor 'out' should be output 0, which does not exist"),
        (["splits", "../x"], None, "'../x' is not a valid name of a split"),
        (["splits", "train", "rows"], 10**30, "Integer|has 10+ rows"),
        (["splits", "train", "committed"], [[0, 5]], "claims to be complete, but not all"),
    ],
)
def test_attribute_that_contradicts_itself(
    path: list[str | int], value: object, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    with changed_attribute(tmp_path / "s.zarr") as place:
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value if value is not None else place["train"]
    with pytest.raises(StoreDamagedError, match=message):
        open_store(tmp_path / "s.zarr")


def test_after_a_failed_write_nothing_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows after the gap would stand in the wrong places."""
    data = arrays(20_000)
    split = write(tmp_path / "s.zarr", data, [], finish=False)
    whole = ZarrArrayWriter.write
    failures = iter([True])

    def failing(self: ZarrArrayWriter, start: int, chunks: Sequence[Chunk]) -> None:
        if self.key.endswith("outputs/0") and next(failures, False):
            raise OSError(28, "No space left on device")
        whole(self, start, chunks)

    monkeypatch.setattr(ZarrArrayWriter, "write", failing)

    def append(start: int, stop: int) -> None:
        part = slice(start, stop)
        split.append(
            StoreRows(
                ids=["i"] * (stop - start),
                inputs=[data["inputs"][part]],
                labels=data["labels"][part],
                outputs=[data["outputs"][part]],
                activations={0: data["a"][part], 1: data["b"][part]},
                statistics={"sum": data["sums"][part]},
            )
        )

    with pytest.raises(StoreWriteError, match="No space left on device"):
        append(0, 9_000)
    with pytest.raises(StoreWriteError, match="none can follow"):
        append(9_000, 20_000)
    with pytest.raises(StoreWriteError):
        split.finish()
    assert len(open_store(tmp_path / "s.zarr").splits["train"]) == 0


def test_attribute_that_was_changed(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    metadata = tmp_path / "s.zarr/zarr.json"
    content = json.loads(metadata.read_text())
    text = json.dumps(content["attributes"]["cnatool"], sort_keys=True, separators=(",", ":"))
    assert content["attributes"]["cnatool_crc32c"] == f"{google_crc32c.value(text.encode()):08x}"
    metadata.write_text(json.dumps(content, sort_keys=True, indent=7))
    assert open_store(tmp_path / "s.zarr").record.created_by == "test"
    content["attributes"]["cnatool"]["created_by"] = "tess"
    metadata.write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match="does not match its checksum"):
        open_store(tmp_path / "s.zarr")
    del content["attributes"]["cnatool_crc32c"]
    metadata.write_text(json.dumps(content))
    assert open_store(tmp_path / "s.zarr").record.created_by == "tess"
    content["attributes"] = {"cnatool_crc32c": "00000000"}
    metadata.write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match="does not match its checksum"):
        open_store(tmp_path / "s.zarr")


@pytest.mark.parametrize("committed", [[[0, 9]], [[4, 2]], [[-1, 2]], [[0, 5], [3, 8]]])
def test_impossible_ranges(committed: list[list[int]], tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", arrays(8), [8])
    with changed_attribute(tmp_path / "s.zarr") as attribute:
        attribute["splits"]["train"]["committed"] = committed
    with pytest.raises(StoreDamagedError, match="claims to have committed"):
        open_store(tmp_path / "s.zarr")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="no such file or folder"):
        open_store(tmp_path / "nothing.zarr")
    with pytest.raises(NotAStoreError, match="it contains no zarr.json"):
        open_store(tmp_path)
    zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(NotAStoreError, match="no attribute cnatool"):
        open_store(tmp_path / "g.zarr")
    (tmp_path / "g.zarr/zarr.json").write_text("{")
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        open_store(tmp_path / "g.zarr")


def test_only_a_store_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    check_free(path, overwrite=False)
    write(path, arrays(8), [8])
    with pytest.raises(NotAStoreError, match="exists already"):
        check_free(path, overwrite=False)
    check_free(path, overwrite=True)
    other = tmp_path / "photos.zarr"
    other.mkdir()
    (other / "photo.png").touch()
    with pytest.raises(NotAStoreError, match="is not a cnatool store, so it is not"):
        check_free(other, overwrite=True)
    (tmp_path / "link.zarr").symlink_to(path)
    with pytest.raises(NotAStoreError, match="is a link"):
        check_free(tmp_path / "link.zarr", overwrite=True)
    with pytest.raises(NotAStoreError, match=r"the name of a store must end in \.zarr"):
        check_free(tmp_path / "s.dat", overwrite=False)
    with pytest.raises(NotAStoreError, match="no such folder"):
        check_free(tmp_path / "no/s.zarr", overwrite=False)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreWriteError, match="cannot be created"):
        StoreWriter(tmp_path / "file" / "s.zarr", record())


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=2000),
    st.integers(1, 10**6),
    st.none() | st.integers(0, 10**7),
)
def test_chunks_divide_the_commit_or_hold_the_whole_split(
    sizes: list[int], rows: int, most: int | None
) -> None:
    commit = commit_rows(sizes, most)
    # Without a known pace, no more rows are lost than a chunk may have.
    assert commit <= max(64, 8192 if most is None else most)
    assert commit == 64 or commit * sum(sizes) <= 1 << 30
    for chunk, size in zip(chunk_rows(sizes, rows, most), sizes, strict=True):
        assert chunk <= 8192
        assert 1 <= chunk <= rows
        assert commit % chunk == 0 or chunk == rows
        assert chunk * size <= 4 << 20 or chunk == 1
    chunks = chunk_rows(sizes, rows, most)
    buffers = sum(c * s for c, s in zip(chunks, sizes, strict=True) if c > 1)
    assert buffers <= max(256 << 20, 2000 * 64 * 1024)


def test_record_survives_json() -> None:
    text = msgspec.json.encode(record())
    assert msgspec.json.decode(text, type=StoreRecord) == record()


def test_rows_are_safe_only_once_their_commit_is_through(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt may come in the middle of it."""
    data = arrays(20_000)
    split = write(path, data, [], finish=False)
    form = ZarrTree if path.suffix == ".zarr" else HDF5Tree

    def interrupted(self: object, *words: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(form, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        append(split, data, 0, 9_000)
    assert split.committed == len(open_store(path).splits["train"]) == 0
