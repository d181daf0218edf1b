from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnatool.data.formats.npy import open_npy, open_npz
from cnatool.errors import DataError

X = np.arange(11 * 6, dtype=np.float32).reshape(11, 2, 3)
Y = np.arange(11) % 4


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def npy_bytes(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    size = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + body


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["x", "inputs", "images", "data"])
@pytest.mark.parametrize("label", ["y", "labels", None])
def test_npz(tmp_path: Path, save: Any, name: str, label: str | None) -> None:
    save(tmp_path / "a.npz", other=np.zeros(3), **{name: X}, **({label: Y} if label else {}))
    source = open_npz(tmp_path / "a.npz")
    assert (source.name, source.rows, source.classes) == ("a.npz", 11, None)
    assert source.labelled is (label is not None)
    [spec] = source.inputs
    assert (spec.name, spec.dtype, spec.shape, spec.layout) == (name, np.float32, (2, 3), None)
    blocks = list(source.blocks(4))
    assert [block.ids for block in blocks][1:] == [["4", "5", "6", "7"], ["8", "9", "10"]]
    np.testing.assert_array_equal(np.concatenate([b.inputs[0] for b in blocks]), X)
    if label:
        np.testing.assert_array_equal(np.concatenate([b.labels for b in blocks]), Y)  # type: ignore[arg-type]
    else:
        assert all(block.labels is None for block in blocks)


def test_npy_with_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", X)
    source = open_npy(tmp_path / "train.npy")
    assert not source.labelled
    assert source.inputs[0].name == "train"
    np.save(tmp_path / "train_labels.npy", Y.astype(np.uint8))
    [block] = open_npy(tmp_path / "train.npy").blocks(99)
    np.testing.assert_array_equal(block.inputs[0], X)
    assert block.labels is not None
    assert block.labels.dtype == np.int64
    np.testing.assert_array_equal(block.labels, Y)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.integers(1, 13),
    limit=st.none() | st.integers(0, 13),
    dtype=st.sampled_from(["?", "u1", "<i2", ">i2", ">u8", "<f2", ">f4", "f8"]),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_streaming_equals_whole(
    tmp_path: Path, rows: int, limit: int | None, dtype: str, version: tuple[int, int]
) -> None:
    x = (X % 2 if dtype == "?" else X).astype(dtype)
    plain, packed = tmp_path / "a.npy", tmp_path / "a.npz"
    with plain.open("wb") as file:
        np.lib.format.write_array(file, x, version=version)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, "x.npy")
    for source in (open_npy(plain), open_npz(packed)):
        blocks = list(source.blocks(rows, limit))
        assert all(len(block.ids) == rows for block in blocks[:-1])
        got = np.concatenate(
            [x[:0].astype(x.dtype.newbyteorder("=")), *(b.inputs[0] for b in blocks)]
        )
        assert got.dtype.isnative
        assert got.dtype == source.inputs[0].dtype
        np.testing.assert_array_equal(got, x[:limit])


def test_a_compressed_member_is_never_whole_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, (4000, 50, 50), dtype=np.uint8)  # 10 MB
    path = npz(tmp_path / "big.npz", x=x, y=np.zeros(4000, np.int64))
    source = open_npz(path)
    list(source.blocks(100, 100))  # what imports and caches cost
    tracemalloc.start()
    try:
        seen = sum(int(block.inputs[0].sum()) for block in source.blocks(100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == int(x.sum())
    # Two blocks of 250 kB, and what the decompressor returns and keeps.
    assert peak < 2_000_000


def test_scalars_are_samples(tmp_path: Path) -> None:
    [block] = open_npz(npz(tmp_path / "a.npz", x=np.arange(3))).blocks(5)
    assert block.inputs[0].tolist() == [0, 1, 2]


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    for file in ("a.npz", "a.npy"):
        x = np.array([Bomb(), Bomb()])
        if file == "a.npz":
            np.savez(tmp_path / file, x=x)
        else:
            np.save(tmp_path / file, x)
        opened = open_npz if file == "a.npz" else open_npy
        with pytest.raises(DataError, match="never unpickled: save it as a numeric array"):
            opened(tmp_path / file)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="is not an array that NumPy wrote"):
        open_npy(tmp_path / "p.npy")
    np.savez(tmp_path / "l.npz", x=X, y=np.array([Bomb()] * 11))
    with pytest.raises(DataError, match=r"array 'y', .*never unpickled"):
        open_npz(tmp_path / "l.npz")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": X, "b": X}, "needs an array called x or inputs or .* holds a,"),
        ({}, "and holds nothing"),
        ({"x": X, "images": X}, "holds x and images, which could be the same array"),
        ({"x": X, "y": Y, "labels": Y}, "holds y and labels, which could be the same array"),
        ({"x": X[:0]}, r"holds no samples: its shape is \(0, 2, 3\)"),
        ({"x": np.float32(3)}, r"has shape \(\): the first axis must count the samples"),
        ({"x": X[:, :0]}, "which hold no value"),
        ({"x": X + 1j}, "has dtype complex64, which is not supported"),
        ({"x": np.array(["a"])}, "has dtype <U1, which is not supported"),
        ({"x": np.array(["2020"], "M8[D]")}, "has dtype datetime64"),
        ({"x": np.zeros(3, [("a", "f4")])}, "which is not supported"),
        ({"x": np.asfortranarray(X)}, r"in Fortran order.*numpy.ascontiguousarray\(x\)"),
        ({"x": X, "y": Y + 0.5}, "holds .*[.]5 at row 0: real numbers are targets of a regression"),
        ({"x": X, "y": np.where(Y > -9, np.nan, 1.0)}, "holds nan at row 0: real numbers"),
        ({"x": X, "y": Y > 1}, "dtype bool; labels are integers"),
        ({"x": X, "y": np.eye(3)[Y % 3]}, r"one axis.*y\.argmax\(1\) if its rows are one-hot"),
        ({"x": X, "y": Y[:, None] * 1.0}, r"numbers, y\[:, 0\]\.astype\('int64'\)\."),
        ({"x": X, "y": np.array(["0.5", "1"])[Y % 2]}, "targets of a regression and not classes"),
        ({"x": X, "y": np.array([["cat"], ["dog"]])[Y % 2]}, r"dtype <U3.*numpy\.unique\("),
        ({"x": X, "y": np.eye(11, dtype=int)}, r"shape \(11, 11\); labels have one axis.*argmax"),
        ({"x": X, "y": Y[:9]}, "has 9 labels and .* has 11 samples"),
    ],
)
def test_npz_that_cannot_be_meant(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    path = npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=text) as caught:
        open_npz(path)
    assert str(path) in str(caught.value)


def test_labels_beyond_int64_name_the_row(tmp_path: Path) -> None:
    y = np.zeros(11, np.uint64)
    y[7] = 2**63
    source = open_npz(npz(tmp_path / "a.npz", x=X, y=y))
    with pytest.raises(DataError, match="label 9223372036854775808 at row 7"):
        list(source.blocks(3))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not an array that NumPy wrote"),
        (b"hello world", "is not an array that NumPy wrote"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
        (npy_bytes("", version=(9, 0)), "is not an array that NumPy wrote"),
        (npy_bytes("{'descr': '<f4'}"), "is not an array that NumPy wrote"),
        (npy_bytes("(" * 9000), "is not an array that NumPy wrote"),
        (npy_bytes("[" * 5000 + "]" * 5000), "is not an array that NumPy wrote"),
        (npy_bytes("__import__('os').getpid()"), "is not an array that NumPy wrote"),
        (npy_bytes(" " * 20_000), "its header has 20000 bytes, and the limit is 10000"),
        (
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -1)}"),
            "the first axis must count",
        ),
        (
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)}", bytes(23)),
            "is cut short: its header declares 3 rows, and it holds 2",
        ),
        (
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)}", bytes(25)),
            "holds more bytes than the 3 rows",
        ),
        (
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000, 2)}"),
            "is cut short: its header declares 9000000000000 rows, and it holds 0",
        ),
        (
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 9000000000000)}"),
            "the limit is 1073741824",
        ),
    ],
)
def test_hostile_npy(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        open_npy(path)
    assert str(path) in str(caught.value)


def test_a_header_of_gigabytes_in_a_compressed_member_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    content = b"\x93NUMPY\x02\x00" + struct.pack("<I", 50_000_000) + b" " * 50_000_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="its header has 50000000 bytes"):
            open_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_boolean_bytes_other_than_0_and_1(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy_bytes("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\1\7"))
    with pytest.raises(DataError, match="it is boolean and holds bytes above 1"):
        list(open_npy(path).blocks(2))


def test_an_npz_that_is_no_archive_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        open_npz(path)
    npz(path, x=X)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot be read as an \.npz archive"):
        open_npz(path)


def test_flipped_bits_in_a_member_are_found_before_the_last_block(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x = np.arange(110_000, dtype=np.float32).reshape(11, 10_000)
    np.savez(path, x=x)
    content = bytearray(path.read_bytes())
    at = content.index(x[10].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    seen = []
    with pytest.raises(DataError, match=r"damaged at row \d+ of 11 \(Bad CRC-32"):
        seen.extend(block.ids for block in open_npz(path).blocks(4))
    assert len(seen) <= 2


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, X)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", buffer.getvalue())
    with pytest.raises(DataError, match="compressed in a way that NumPy does not write"):
        open_npz(tmp_path / "a.npz")


def test_names_from_the_archive_are_escaped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("\x1b[31mred.npy", b"")
    with pytest.raises(DataError) as caught:
        open_npz(tmp_path / "a.npz")
    assert "\x1b" not in str(caught.value)
    assert r"\x1b[31mred" in str(caught.value)


def test_a_reader_that_stops_early_leaves_no_file_open(tmp_path: Path) -> None:
    # ResourceWarning is an error in these tests.
    blocks = open_npz(npz(tmp_path / "a.npz", x=X, y=Y)).blocks(2)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_labels_that_are_whole_are_class_numbers_in_any_type(dtype: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X, y=(np.arange(len(X)) % 3).astype(dtype))
    (block,) = open_npz(tmp_path / "x.npz").blocks(len(X))
    assert block.labels is not None
    assert block.labels.dtype == np.int64
    np.testing.assert_array_equal(block.labels, np.arange(len(X)) % 3)
