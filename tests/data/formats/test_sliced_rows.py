from __future__ import annotations

import gc
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from numcodecs import Blosc
from support.stores import forget_checksums, write_store

from cnatool.data.detect import open_source
from cnatool.data.location import locate
from cnatool.data.selection import SINGLE_INPUT, ArraySelection
from cnatool.data.source import Source
from cnatool.errors import DataError, StoreDamagedError
from cnatool.store.reader import open_store

X = np.arange(23 * 6, dtype=np.float32).reshape(23, 2, 3)
Y = np.arange(23) % 4


def h5(path: Path, arrays: dict[str, Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def zarred(path: Path, arrays: dict[str, Any], version: Any = 3, **options: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, array in arrays.items():
        made = group.create_array(name, shape=array.shape, dtype=array.dtype, **options)
        made[...] = array
    return path


def saved(form: str, folder: Path, arrays: dict[str, Any]) -> Path:
    if form == "hdf5":
        return h5(folder / "d.h5", arrays)
    if form == "gzip":
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        return h5(folder / "d.hdf5", arrays, chunks=True, compression="gzip", fletcher32=True)
    path = zarred(folder / "d.zarr", arrays, 2 if form == "zarr2" else 3)
    if form != "zip":
        return path
    packed = folder / "d.zarr.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in path.rglob("*"):
            archive.write(file, file.relative_to(path))
    shutil.rmtree(path)
    return packed


FORMS = ("hdf5", "gzip", "zarr2", "zarr3", "zip")


def opened(path: Path, array: str = "", wanted: ArraySelection = SINGLE_INPUT) -> Source:
    return open_source(locate(f"{path}::{array}" if array else path), wanted)


def check(source: Source, x: Any, y: Any, rows: int = 5, limit: int | None = None) -> None:
    blocks = list(source.blocks(rows, limit))
    assert [i for b in blocks for i in b.ids] == [str(i) for i in range(len(x[:limit]))]
    read = np.concatenate([b.inputs[0] for b in blocks])
    assert read.dtype == x.dtype.newbyteorder("=")
    assert all(b.inputs[0].flags.c_contiguous for b in blocks)
    np.testing.assert_array_equal(read, x[:limit])
    if y is None:
        assert all(b.labels is None for b in blocks)
    else:
        np.testing.assert_array_equal(np.concatenate([b.labels for b in blocks]), y[:limit])


@pytest.mark.parametrize("form", FORMS)
def test_arrays_by_name_and_in_groups(form: str, tmp_path: Path) -> None:
    names = {"x": X, "labels": Y, "g/deep/a": X + 1, "g/deep/y": Y + 1, "g/z": Y}
    path = saved(form, tmp_path, names)
    check(opened(path), X, Y)
    for name in ("g/deep/a", "/g/deep/a/"):
        check(opened(path, name), X + 1, Y + 1)
    check(opened(path, "g/deep", ArraySelection(arrays={"x": "a"})), X + 1, Y + 1)
    check(opened(path, "x", ArraySelection(labels="labels")), X, Y, limit=7)
    assert opened(path, "g/z").inputs[0].name == "z"
    check(opened(path, "g/z"), Y, None)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_that_are_not_there_or_no_samples(form: str, tmp_path: Path) -> None:
    arrays = {"x": X, "y": Y[:9], "f": X[:, 0, 0] + 0.5, "e": X[:0], "n/b": X, "c": X + 1j}
    path = saved(form, tmp_path, arrays)
    for array, wanted, text in (
        ("", SINGLE_INPUT, "has 9 labels and .* has 23 samples: the numbers must be equal"),
        ("", ArraySelection(labels="f"), "real numbers are targets|labels have one axis"),
        ("", ArraySelection(labels="zz"), "a?n? ?array of labels called zz and holds"),
        ("x", ArraySelection(labels="zz"), "`labels=zz`: .* has no such array; it has .*x"),
        ("e", SINGLE_INPUT, "first axis must count the samples"),
        ("c", SINGLE_INPUT, "has dtype complex64, which is not supported"),
        ("n", SINGLE_INPUT, "needs an array of samples called x or .* and holds b"),
        ("n/zz", SINGLE_INPUT, "there is no 'zz', but b|cannot be read as Zarr"),
        ("x/zz", SINGLE_INPUT, "there is no 'zz'|cannot be read as Zarr"),
    ):
        with pytest.raises(DataError, match=text) as caught:
            opened(path, array, wanted)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("rows", [1, 4, 7, 23, 50])
@pytest.mark.parametrize("chunk", [1, 5, 23])
def test_each_chunk_is_read_once(tmp_path: Path, rows: int, chunk: int) -> None:
    path = h5(tmp_path / "d.h5", {"x": X.astype(">f4")}, chunks=(chunk, 2, 3))
    check(opened(path), X, None, rows)
    path = zarred(tmp_path / "d.zarr", {"x": X, "y": Y}, chunks="auto")
    source = zarred(tmp_path / "c.zarr", {"x": X}, chunks=(chunk, 1, 2))
    check(opened(source), X, None, rows)
    check(opened(path), X, Y, rows, 11)


def test_sharded_zarr(tmp_path: Path) -> None:
    path = zarred(tmp_path / "d.zarr", {"x": X}, chunks=(2, 2, 3), shards=(8, 2, 3))
    check(opened(path), X, None)


def test_one_zarr_array_alone(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "pictures.zarr", X)
    source = opened(tmp_path / "pictures.zarr")
    assert source.inputs[0].name == "pictures"
    check(source, X, None)


def test_hdf5_that_leads_out_of_the_file_is_refused(tmp_path: Path) -> None:
    h5(tmp_path / "other.h5", {"x": X})
    raw = tmp_path / "raw.bin"
    raw.write_bytes(X.tobytes())
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "x")
        file.create_dataset("x", X.shape, "f4", external=[(str(raw), 0, X.nbytes)])
        layout = h5py.VirtualLayout(X.shape, "f4")
        layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", X.shape)
        file.create_virtual_dataset("virtual", layout)
    for name, text in (
        ("linked", "'linked' leads into another file"),
        ("x", "keeps its values in other files"),
        ("virtual", "keeps its values in other files"),
    ):
        with pytest.raises(DataError, match=text):
            opened(tmp_path / "d.h5", name)


def test_hdf5_text_and_objects_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = ["a", "b"]
        file.create_dataset("v", (3, 2), h5py.vlen_dtype(np.int32))
        file["empty"] = h5py.Empty("f4")
    for name, text in (
        ("x", "Python objects"),
        ("v", "any length along 2 axes"),
        ("empty", "is empty"),
    ):
        with pytest.raises(DataError, match=text):
            opened(tmp_path / "d.h5", name)


def test_zarr_that_would_be_unpickled_is_refused(tmp_path: Path) -> None:
    path = zarred(tmp_path / "d.zarr", {"x": X}, 2)
    file = path / "x" / ".zarray"
    for key in ("filters", "compressor"):
        for codec in ("pickle", "json2", "msgpack2"):
            metadata = json.loads(file.read_text()) | {"filters": None, "compressor": None}
            metadata[key] = {"id": codec} if key == "compressor" else [{"id": codec}]
            (path / ".zmetadata").unlink(missing_ok=True)
            file.write_text(json.dumps(metadata))
            with pytest.raises(DataError, match="which is not supported|cannot be read as Zarr"):
                opened(path)
    # Zarr itself knows these for objects only; this one it would run over anything.
    metadata = json.loads(file.read_text()) | {"filters": [{"id": "base64"}], "compressor": None}
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match="is encoded with base64, which is not supported"):
        opened(path)


def test_chunks_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", (1 << 29,), "f8", chunks=(1 << 28,))
    group = zarr.open_group(tmp_path / "d.zarr", mode="w")
    group.create_array("x", shape=(1 << 29,), dtype="f8", chunks=(1 << 28,))
    for name in ("d.h5", "d.zarr"):
        with pytest.raises(DataError, match="has chunks of 2147483648 bytes; the limit is"):
            opened(tmp_path / name)


def test_damaged_files(tmp_path: Path) -> None:
    path = h5(tmp_path / "d.h5", {"x": X}, chunks=(4, 2, 3), compression="gzip", fletcher32=True)
    content = bytearray(path.read_bytes())
    content[-40:-32] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read"):
        list(opened(path).blocks(5))
    path.write_bytes(content[:100])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        opened(path)
    path = zarred(tmp_path / "d.zarr", {"x": X}, chunks=(4, 2, 3))
    chunk = path / "x" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(DataError, match=r"array 'x', cannot be read from row 4 to 8"):
        list(opened(path).blocks(4))
    (path / "x" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    with pytest.raises(DataError, match="cannot be read as Zarr"):
        opened(path)
    with pytest.raises(DataError, match="'..' leads out"):
        opened(path, "../d.zarr/x")


def moved_and_linked(place: Path, to: Path) -> None:
    place.rename(to)
    place.symlink_to(to)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("part", ["x", "x/METADATA", "x/CHUNK", "x/CHUNKS"])
def test_a_link_out_of_a_zarr_folder_is_refused(part: str, version: int, tmp_path: Path) -> None:
    path = zarred(tmp_path / "d.zarr", {"x": X}, version, chunks=(4, 2, 3))
    words = {
        2: {"METADATA": ".zarray", "CHUNK": "1.0.0", "CHUNKS": "."},
        3: {"METADATA": "zarr.json", "CHUNK": "c/1/0/0", "CHUNKS": "c"},
    }[version]
    place = path / "/".join(words.get(word, word) for word in part.split("/"))
    inside = path / "moved"
    moved_and_linked(place, inside)
    if part != "x":
        # From one place in the folder to another.
        check(opened(path), X, None)
    place.unlink()
    inside.rename(place)
    moved_and_linked(place, tmp_path / "elsewhere")
    for array in ("", "x"):
        with pytest.raises(DataError, match="symbolic link to a place outside") as caught:
            list(opened(path, array).blocks(4))
        assert f"{path}/x" in str(caught.value)


def test_a_zarr_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    moved_and_linked(zarred(tmp_path / "d.zarr", {"x": X, "y": Y}), tmp_path / "elsewhere")
    check(opened(tmp_path / "d.zarr"), X, Y)
    (tmp_path / "d.zarr" / "note").symlink_to(tmp_path)  # no array, so it is not looked at
    check(opened(tmp_path / "d.zarr"), X, Y)


def test_a_pipe_in_a_zarr_folder_is_refused(tmp_path: Path) -> None:
    path = zarred(tmp_path / "d.zarr", {"x": X}, chunks=(4, 2, 3))
    chunk = path / "x" / "c" / "2" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        list(opened(path).blocks(4))


def test_several_damaged_arrays_are_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zarred(tmp_path / "d.zarr", dict.fromkeys("xyz", X))
    for name in "xyz":
        (path / name / "zarr.json").write_text('{"zarr_format": [], "node_type": "array"}')
    with pytest.raises(DataError, match="cannot be read as Zarr"):
        opened(path)
    gc.collect()
    assert caplog.text == ""


@pytest.mark.parametrize("size", [0, 3, 4, 1 << 31])
def test_an_impossible_chunk_of_hdf5_is_refused(tmp_path: Path, size: int) -> None:
    # HDF5 2.0 reads beyond a chunk that is smaller than its checksum, and takes the process along.
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": (5, 2, 3), "compression": "gzip", "fletcher32": True}
        made = file.create_dataset("x", data=X, **options)
        made.id.write_direct_chunk((5, 0, 0), b"?" * 77)
    content = path.read_bytes()
    entry, wrong = (struct.pack("<IIQ", size, 0, 5) for size in (77, size))
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry, wrong))
    with pytest.raises(DataError, match="the chunk at row 5 has an impossible size or place"):
        opened(path)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_short_chunk_of_hdf5_is_refused(tmp_path: Path, version: str) -> None:
    path = tmp_path / "d.h5"
    with h5py.File(path, "w", libver=version) as file:
        made = file.create_dataset("x", data=X, chunks=(5, 2, 3), fletcher32=True)
        made.id.write_direct_chunk((10, 0, 0), b"???")
        made = file.create_dataset("z", data=X, chunks=(5, 2, 3), compression="gzip")
        # Left as it is by gzip, the mask says, and too short for that.
        made.id.write_direct_chunk((15, 0, 0), b"?" * 50, 1)
    for name, row in (("x", 10), ("z", 15)):
        with pytest.raises(DataError, match=f"the chunk at row {row} has an impossible size"):
            opened(path, name)


def test_chunks_of_hdf5_that_filters_left_as_they_were(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (23, 50), np.uint8)
    for x in (noise, np.zeros_like(noise), X):
        for filters in (
            {"compression": "gzip"},
            {"compression": "lzf", "shuffle": True, "fletcher32": True},
            {"fletcher32": True},
            {"scaleoffset": 0, "compression": "gzip"} if x.dtype == np.uint8 else {},
        ):
            path = h5(tmp_path / "d.h5", {"x": x}, chunks=(5, *x.shape[1:]), **filters)
            check(opened(path), x, None)
    # Chunks that nobody has written hold zeros.
    with h5py.File(tmp_path / "d.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", X.shape, X.dtype, chunks=(5, 2, 3))[:5] = X[:5]
    check(opened(tmp_path / "d.h5"), np.where(np.arange(23)[:, None, None] < 5, X, 0), None)


def test_a_filter_of_hdf5_without_its_settings(tmp_path: Path) -> None:
    # h5py looks for gzip's level where it names the filters of an array.
    with h5py.File(tmp_path / "d.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((5, 6))
        made.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((23, 6))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, made)
    check(opened(tmp_path / "d.h5"), np.zeros((23, 6), np.float32), None)


def test_a_damaged_array_of_labels_is_not_missing_labels(tmp_path: Path) -> None:
    path = h5(tmp_path / "d.h5", {"x": X, "y": Y})
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.SoftLink("/no/such")
        header = h5py.h5o.get_info(file["y"].id).addr
    # A link that leads nowhere is no damage.
    assert open_source(path).labelled
    content = bytearray(path.read_bytes())
    content[header] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.h5 cannot be read as HDF5"):
        open_source(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kept", [0, 5, 20, -1])
def test_blosc_reads_nothing_beyond_its_frame(tmp_path: Path, version: Any, kept: int) -> None:
    codec = Blosc() if version == 2 else zarr.codecs.BloscCodec()
    path = zarred(tmp_path / "d.zarr", {"x": X, "y": Y}, version, compressors=codec)
    assert sum(len(block.ids) for block in open_source(path).blocks(4)) == len(X)
    (chunk,) = (path / "y").rglob("0")
    chunk.write_bytes(chunk.read_bytes()[:kept])
    with pytest.raises(DataError, match="array 'y',.*a Blosc frame is truncated"):
        list(open_source(path).blocks(4))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_store_of_others_whose_frame_of_blosc_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write_store(path)
    forget_checksums(path)
    place = path / "splits/train/activations/2"
    values = open_store(path).splits["train"].activations("t2")[:]
    shutil.rmtree(place)
    made = zarr.create_array(
        path, name="splits/train/activations/2", data=values, compressors=zarr.codecs.BloscCodec()
    )
    assert made.shape == values.shape
    zarr.consolidate_metadata(path)
    np.testing.assert_array_equal(open_store(path).splits["train"].activations("t2")[:], values)
    (chunk,) = (each for each in (place / "c").rglob("*") if each.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(StoreDamagedError, match="activations/2"):
        open_store(path).splits["train"].activations("t2")[:]
