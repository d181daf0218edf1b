from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
from support.stores import append, arrays, check_rows, chunks_of, forget_checksums, record

from cnatool.errors import DataError, NotAStoreError, StoreDamagedError, UsageError
from cnatool.records.choices import Codec
from cnatool.records.store import SkippedTensor, StoreRecord
from cnatool.store.hdf5.journal import journal_path
from cnatool.store.hdf5.tree import HDF5Tree
from cnatool.store.reader import open_store
from cnatool.store.replace import ReplacedStore, check_free
from cnatool.store.writer import StoreWriter

KEYS = ["inputs/0", "labels", "outputs/0", "activations/0", "activations/1", "statistics/sum"]


def write(path: Path, data: dict[str, np.ndarray], about: StoreRecord | None = None, **how) -> None:
    store = StoreWriter(path, about or record(), **how)
    rows = len(data["labels"])
    split = store.split("train", rows, source="made", labels=True, id_bytes=12)
    append(split, data, 0, rows)
    split.finish()
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.h5"


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_plain_h5py_reads_it(codec: str, path: Path) -> None:
    data = arrays(20_000)
    write(path, data, codec=codec)
    names = ["inputs", "labels", "outputs", "a", "b", "sums"]
    with h5py.File(path, "r") as root:
        about = json.loads(root.attrs["cnatool"])
        assert about["splits"]["train"]["committed"] == [[0, 20_000]]
        split = root["splits/train"]
        for key, name in zip(KEYS, names, strict=True):
            array = split[key]
            np.testing.assert_array_equal(array[:], data[name])
            assert array.dtype == data[name].dtype
            assert array.fletcher32
            assert array.chunks == (8192, *array.shape[1:])
            assert array.compression == (None if codec == "none" else "gzip")
        np.testing.assert_array_equal(split["ids"].asstr()[:], data["ids"])
        assert (split["ids"].fletcher32, split["ids"].compression) == (True, "gzip")


def test_other_programs_read_it(path: Path) -> None:
    """What HDF5 1.10 does not know would be no exchange format."""
    write(path, arrays(5))
    try:
        text = subprocess.run(
            ["h5dump", "-d", "/splits/train/ids", path], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("there is no h5dump")
    assert '(0): "sample/0", "sample/1", "sample/2", "sample/3", "sample/4"' in text
    # A superblock of version 3, and no flag that says that it is open for writing.
    assert path.read_bytes()[8:12] == bytes([3, 8, 8, 0])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", ">f8", "uint16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1000, 7), (0,), (2, 0)])
@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_chunks_are_those_that_hdf5_writes(
    codec: Codec, dtype: str, shape: tuple[int, ...], path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 2, (10, *shape)).astype(dtype)
    native = values.dtype.newbyteorder("=")
    tree = HDF5Tree.create(path)
    array = tree.create_array("ours", values.shape, native, 4, codec, axes=(), text_bytes=64)
    array.write(0, chunks_of(values, 4))
    tree.commit(b"{}", "00000000")
    tree.close()
    tree = HDF5Tree.open(path)
    found = tree.array("ours").read(0, 10)
    np.testing.assert_array_equal(found, values)
    assert found.dtype == native
    if 0 in shape:
        return
    with h5py.File(path.with_name("theirs.h5"), "w") as theirs, h5py.File(path, "r") as ours:
        theirs.create_dataset(
            "x",
            data=values.astype(native),
            chunks=(4, *shape),
            fletcher32=True,
            compression="gzip" if codec == "gzip" else None,
            compression_opts=1 if codec == "gzip" else None,
        )
        for start in (0, 4, 8):
            place = (start,) + (0,) * len(shape)
            one, other = (f.id.read_direct_chunk(place) for f in (ours["ours"], theirs["x"]))
            if codec == "none":
                assert one == other
            else:
                # Libraries of zlib differ in what they make of the same bytes.
                assert one[0] == other[0]


def test_an_attribute_of_over_a_megabyte(path: Path) -> None:
    skipped = tuple(SkippedTensor(f"naïve/{i}", "If", "because " * 40) for i in range(4000))
    about = msgspec.structs.replace(record(), skipped=skipped)
    write(path, arrays(100), about)
    store = open_store(path)
    assert store.record.skipped == skipped
    check_rows(store.splits["train"], arrays(100))
    with h5py.File(path, "r") as root:
        text = root.attrs["cnatool"]
        assert len(text) > 1 << 20
        assert json.loads(text)["skipped"][3999]["name"] == "naïve/3999"
    # The space of an earlier attribute is used again.
    assert path.stat().st_size < 4 * len(text)


def test_an_id_is_never_cut_off(path: Path) -> None:
    data = arrays(3)
    for name, message in (("ä" * 7, "up to 12 bytes"), ("nul\0byte", "without zero bytes")):
        data["ids"][1] = name
        with pytest.raises(DataError, match=message):
            write(path, data)
        path.unlink()
    data["ids"][1] = "ä" * 6
    write(path, data)
    assert list(open_store(path).splits["train"].ids[:]) == ["sample/0", "ä" * 6, "sample/2"]


def test_codecs(path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a \.h5 store cannot be .* with lz4, only with none or g"
    ):
        StoreWriter(path, record(), "lz4")
    assert not path.exists()


@pytest.mark.parametrize("key", [*KEYS, "ids"])
def test_flipped_bit_is_reported(key: str, path: Path) -> None:
    write(path, arrays(64))
    with h5py.File(path, "r") as root:
        chunk = root[f"splits/train/{key}"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(content)
    array = open_store(path).splits["train"].array(key)
    with pytest.raises(StoreDamagedError, match=f"rows 0 to 63 of array splits/train/{key} cannot"):
        array[:]


def test_missing_chunk_is_no_zeros(path: Path) -> None:
    write(path, arrays(64))
    with h5py.File(path, "r+") as root:
        split = root["splits/train"]
        del split["outputs/0"], split["labels"]
        split.create_dataset("outputs/0", (64, 4), "f4", chunks=(16, 2))[:16] = 1
        split["outputs/0"][16:, :2] = 1
        split.create_dataset("labels", (64,), "i8")
    forget_checksums(path)
    split = open_store(path).splits["train"]
    assert (split.outputs()[:16] == 1).all()
    with pytest.raises(
        StoreDamagedError, match=r"chunk 1 of array .*outputs/0 \(rows 16 to 31\) is missing"
    ):
        split.outputs()[:]
    with pytest.raises(StoreDamagedError, match="array splits/train/labels was never written"):
        split.labels[:]


def test_missing_array_and_wrong_shape(path: Path) -> None:
    write(path, arrays(64))
    with h5py.File(path, "r+") as root:
        split = root["splits/train"]
        del split["statistics/sum"], split["labels"], split["outputs/0"]
        split["labels"] = np.zeros(63)
        split.create_group("outputs/0")
    split = open_store(path).splits["train"]
    with pytest.raises(
        StoreDamagedError,
        match=r"has shape \(63,\) instead of \(64,\), as in the store's attribute",
    ):
        split.labels  # noqa: B018
    with pytest.raises(StoreDamagedError, match="statistics/sum cannot be opened .there is no sum"):
        split.statistics()
    with pytest.raises(StoreDamagedError, match="is a group instead of an array"):
        split.outputs()


def test_no_other_file_is_read(path: Path, tmp_path: Path) -> None:
    """A store may come from anywhere, and must not be able to make us read something else."""
    write(path, arrays(64))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros((64, 4), np.float32)
    (tmp_path / "secret").write_bytes(bytes(64 * 8))
    with h5py.File(path, "r+") as root:
        split = root["splits/train"]
        for key in ("outputs/0", "labels", "statistics/sum", "inputs/0"):
            del split[key]
        split["outputs/0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        split.create_dataset("labels", (64,), "i8", external=[(str(tmp_path / "secret"), 0, 512)])
        layout = h5py.VirtualLayout((64, 4), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (64, 4))
        split.create_virtual_dataset("statistics/sum", layout)
        split["inputs/0"] = h5py.SoftLink("/splits/train/ids")
    split = open_store(path).splits["train"]
    for key, message in (
        ("outputs/0", "there is no 0 in this file"),
        ("inputs/0", "there is no 0 in this file"),
        ("labels", "lie in other files"),
        ("statistics/sum", "lie in other files"),
    ):
        with pytest.raises(StoreDamagedError, match=message):
            split.array(key)


def foreign(path: Path, data: dict[str, np.ndarray], **how) -> None:
    """Write a store as anyone would who has read docs/store.md."""
    about = msgspec.to_builtins(record())
    about["splits"]["train"] = {
        "rows": len(data["labels"]),
        "committed": [[0, len(data["labels"])]],
        "complete": True,
        "labels": True,
        "source": "elsewhere",
    }
    with h5py.File(path, "w") as root:
        root.attrs["cnatool"] = json.dumps(about)
        split = root.create_group("splits/train")
        split.create_dataset("ids", data=[str(name) for name in data["ids"]])
        for key, name in zip(KEYS, ["inputs", "labels", "outputs", "a", "b", "sums"], strict=True):
            split.create_dataset(key, data=data[name], **how)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": True},
        {"chunks": True, "compression": "gzip", "shuffle": True},
        {"chunks": True, "compression": "lzf", "maxshape": None},
    ],
)
def test_a_store_by_other_hands(how: dict[str, object], path: Path) -> None:
    data = arrays(300)
    foreign(path, data, **how)
    split = open_store(path).splits["train"]
    check_rows(split, data)
    np.testing.assert_array_equal(split.outputs()[7:100:3], data["outputs"][7:100:3])
    blocks = [rows for _, rows in split.inputs().blocks()]
    np.testing.assert_array_equal(np.concatenate(blocks), data["inputs"])


def test_byte_order_and_text_of_other_hands(path: Path) -> None:
    data = arrays(30)
    foreign(path, data)
    with h5py.File(path, "r+") as root:
        split = root["splits/train"]
        del split["outputs/0"], split["ids"]
        split["outputs/0"] = data["outputs"].astype(">f4")
        split["ids"] = np.array([name.encode() for name in data["ids"]])
        text = root.attrs["cnatool"]
        root.attrs["cnatool"] = np.array([text], h5py.string_dtype())
    check_rows(open_store(path).splits["train"], data)
    assert open_store(path).splits["train"].outputs()[:].dtype == np.float32


def test_what_is_no_store(path: Path, tmp_path: Path) -> None:
    path.touch()
    with pytest.raises(
        NotAStoreError, match=r"s\.h5 is not a cnatool store: it is not an HDF5 file"
    ):
        open_store(path)
    path.write_text("hello")
    with pytest.raises(NotAStoreError, match="it is not an HDF5 file"):
        open_store(path)
    with h5py.File(path, "w") as root:
        root["x"] = 1
    with pytest.raises(NotAStoreError, match="its root has no attribute cnatool"):
        open_store(path)
    with h5py.File(path, "r+") as root:
        root.attrs["cnatool"] = 3
    with pytest.raises(StoreDamagedError, match="the attribute cnatool is not text"):
        open_store(path)


@pytest.mark.parametrize("userblock", [0, 512, 2048])
def test_a_name_says_nothing_about_what_is_there(userblock: int, path: Path) -> None:
    write(path, arrays(8))
    content = path.read_bytes()
    odd = path.with_name("store.dat")
    with h5py.File(odd, "w", userblock_size=userblock) as root, h5py.File(path, "r") as store:
        root.attrs["cnatool"] = store.attrs["cnatool"]
        store.copy("splits", root)
    check_rows(open_store(odd).splits["train"], arrays(8))
    assert path.read_bytes() == content


def test_only_a_store_is_overwritten(path: Path) -> None:
    def refused() -> bool:
        try:
            check_free(path, overwrite=True)
        except NotAStoreError:
            return True
        return False

    write(path, arrays(8))
    assert not refused()
    content = path.read_bytes()
    broken = bytearray(content)
    broken[48:60] = bytes(12)
    path.write_bytes(broken)
    assert not refused()
    with h5py.File(path, "w") as root:
        root["x"] = np.arange(1000)
    assert refused()
    foreign_broken = bytearray(path.read_bytes())
    foreign_broken[len(foreign_broken) // 2 :] = b""
    path.write_bytes(foreign_broken)
    assert refused()
    path.write_bytes(content)
    with h5py.File(path, "r+") as root:
        root["mine"] = 1
    assert refused()
    path.write_text("text")
    assert refused()
    path.write_bytes(b"")
    assert not refused()
    path.unlink()
    path.mkdir()
    assert refused()


def test_a_store_moves_as_its_last_commit_left_it(path: Path, monkeypatch) -> None:
    """A journal that a crash left is part of the store that makes room for another."""
    from cnatool.store.hdf5 import journal

    data = arrays(64)
    write(path, data)
    old = path.read_bytes()
    path.rename(path.with_name("old.h5"))
    monkeypatch.setattr(journal.Journal, "apply", lambda *_: (_ for _ in ()).throw(OSError(5)))
    with pytest.raises(OSError, match="5"):
        StoreWriter(path, record())
    monkeypatch.undo()
    assert journal_path(path).exists()
    assert path.stat().st_size == 0
    assert open_store(path).splits == {}
    replaced = ReplacedStore(path)
    path.with_name("old.h5").rename(path)
    assert sorted(f.name for f in path.parent.iterdir())[1:] == ["s.h5"]
    assert replaced.keep() == path.with_name("s.previous.h5")
    assert open_store(path.with_name("s.previous.h5")).splits == {}
    replaced = ReplacedStore(path)
    journal_path(path).touch()
    replaced.restore()
    assert path.read_bytes() == old
    assert not journal_path(path).exists()


def test_a_store_left_open_ends_with_the_interpreter(path: Path) -> None:
    write(path, arrays(64))
    code = (
        "import sys, cnatool\n"
        "from cnatool.store.hdf5.tree import HDF5Tree\n"
        "from pathlib import Path\n"
        f"store = cnatool.open({str(path)!r}); labels = store.splits['train'].labels\n"
        f"tree = HDF5Tree.create(Path({str(path.with_name('t.h5'))!r}))\n"
        "array = tree.create_array('x', (3,), labels.dtype, 3, 'none', axes=(), text_bytes=1)\n"
        "from cnatool.store.chunk import Chunk\n"
        "array.write(0, [Chunk.of([labels[:3]])])\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""


@pytest.mark.parametrize("shape", [(3,), (0,)])
def test_the_name_of_an_array_is_an_attribute(shape: tuple[int, ...], path: Path) -> None:
    """Also of an array without elements, which cannot grow and is created again."""
    tree = HDF5Tree.create(path)
    settings = {"axes": (), "text_bytes": 1, "grows": True}
    for key, name in (("a", "/conv1/Größe"), ("b", None), ("c", "")):
        tree.create_array(key, (0, *shape), np.dtype("f4"), 4, "none", name=name, **settings)
        tree.set_rows(key, 9)
    tree.commit(b"{}", "00000000")
    tree.close()
    with h5py.File(path) as root:
        # h5py gives text of a fixed length as bytes.
        names = [{name: value.decode() for name, value in root[key].attrs.items()} for key in "abc"]
        assert names == [{"long_name": "/conv1/Größe"}, {}, {}]
        assert root["a"].shape == (9, *shape)
