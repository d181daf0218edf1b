from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnatool.data.formats.idx import images_stem, looks_like_idx, open_idx
from cnatool.errors import DataError

MNIST = Path(__file__).parents[4] / "shared" / "data" / "mnist"
PIXELS = (np.arange(7 * 2 * 3) * 5 % 251).astype(np.uint8).reshape(7, 2, 3)
LABELS = [3, 1, 4, 1, 5, 9, 2]


def idx(code: int, dims: tuple[int, ...], body: bytes) -> bytes:
    return struct.pack(f">BBBB{len(dims)}I", 0, 0, code, len(dims), *dims) + body


def write(folder: Path, *, ending: str = "", mark: str = "-", labels: bytes | None = None) -> Path:
    squeeze = gzip.compress if ending == ".gz" else bytes
    images = folder / f"train-images{mark}idx3-ubyte{ending}"
    images.write_bytes(squeeze(idx(8, PIXELS.shape, PIXELS.tobytes())))
    if labels is None:
        labels = idx(8, (7,), bytes(LABELS))
    (folder / f"train-labels{mark}idx1-ubyte{ending}").write_bytes(squeeze(labels))
    return images


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("mark", ["-", "."])
def test_reads_images_and_labels(tmp_path: Path, ending: str, mark: str) -> None:
    source = open_idx(write(tmp_path, ending=ending, mark=mark))
    assert source.name == f"train-images{mark}idx3-ubyte{ending}"
    assert (source.rows, source.labelled, source.classes) == (7, True, None)
    [spec] = source.inputs
    assert (spec.dtype, spec.shape, spec.layout) == (np.uint8, (2, 3), None)
    first, second = source.blocks(5)
    assert first.ids == ["0", "1", "2", "3", "4"]
    assert second.ids == ["5", "6"]
    np.testing.assert_array_equal(first.inputs[0], PIXELS[:5])
    np.testing.assert_array_equal(second.inputs[0], PIXELS[5:])
    assert second.labels is not None
    assert second.labels.dtype == np.int64
    assert second.labels.tolist() == [9, 2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.integers(1, 9), limit=st.none() | st.integers(0, 9))
def test_streaming_equals_whole(tmp_path: Path, rows: int, limit: int | None) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    source = open_idx(path if path.exists() else write(tmp_path, ending=".gz"))
    blocks = list(source.blocks(rows, limit))
    whole = PIXELS[:limit]
    assert all(len(block.ids) == rows for block in blocks[:-1])
    pixels = [block.inputs[0] for block in blocks]
    np.testing.assert_array_equal(np.concatenate([PIXELS[:0], *pixels]), whole)
    assert [row for block in blocks for row in block.ids] == [str(i) for i in range(len(whole))]
    assert [y for b in blocks if b.labels is not None for y in b.labels] == LABELS[: len(whole)]


@pytest.mark.parametrize(
    ("code", "values", "dtype"),
    [
        (0x08, struct.pack(">2B", 1, 255), np.uint8),
        (0x09, struct.pack(">2b", -1, 2), np.int8),
        (0x0B, struct.pack(">2h", -300, 2), np.int16),
        (0x0C, struct.pack(">2i", -70000, 2), np.int32),
        (0x0D, struct.pack(">2f", -1.5, 2), np.float32),
        (0x0E, struct.pack(">2d", -1.25, 2), np.float64),
    ],
)
def test_every_dtype_comes_in_native_order(
    tmp_path: Path, code: int, values: bytes, dtype: type
) -> None:
    path = tmp_path / "x.idx"
    path.write_bytes(idx(code, (1, 2), values))
    [block] = open_idx(path).blocks(8)
    assert block.labels is None
    assert block.inputs[0].dtype == np.dtype(dtype)
    assert block.inputs[0].dtype.isnative
    first = {0x08: 1, 0x09: -1, 0x0B: -300, 0x0C: -70000, 0x0D: -1.5, 0x0E: -1.25}[code]
    assert block.inputs[0][0, 0] == first


def test_labels_of_the_other_compression_are_found_second(tmp_path: Path) -> None:
    images = write(tmp_path, ending=".gz")
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    assert not open_idx(images).labelled
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(8, (7,), bytes(range(7))))
    [block] = open_idx(images).blocks(7)
    assert block.labels is not None
    assert block.labels.tolist() == list(range(7))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(8, (7,), bytes(7))))
    [block] = open_idx(images).blocks(7)
    assert block.labels is not None
    assert block.labels.tolist() == [0] * 7


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not an IDX file: it starts with the bytes –"),
        (b"\x89PNG\r\n", "is not an IDX file: it starts with the bytes 89 50 4e 47"),
        (b"\0\0\x07\x02", "is not an IDX file: it starts with the bytes 00 00 07 02"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "is cut short: its header declares 3 axes and holds 1"),
        (idx(8, (0, 2), b""), "holds no samples: its header declares 0 rows"),
        (idx(8, (2, 0), b""), r"samples of shape \(0,\), which hold no value"),
        (idx(8, (4,), bytes(4)), "one axis, which is how labels are stored: give the images file"),
        (idx(8, (4, 2), bytes(7)), "is cut short: its header declares 4 rows, and it holds 3"),
        (idx(8, (4, 2), bytes(9)), "holds more bytes than the 4 rows that its header declares"),
        (idx(8, (1, 2**20, 2**20), b""), "the limit is 1073741824"),
        (b"\x1f\x8b\x08\x00", "cannot be read"),
        (
            gzip.compress(b"hello", mtime=0),
            "is not an IDX file: it starts with the bytes 68 65 6c 6c",
        ),
    ],
)
def test_a_bad_file_is_refused_at_opening(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        open_idx(path)
    assert str(path) in str(caught.value)


def test_a_gzip_that_is_cut_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "cut.idx.gz"
    # The stream itself is whole: what it holds is three rows and a half.
    path.write_bytes(gzip.compress(idx(8, (7, 2, 3), bytes(21))))
    with pytest.raises(DataError, match="cut short or damaged at row 3 of 7"):
        list(open_idx(path).blocks(7))
    blocks = open_idx(path).blocks(2)
    next(blocks)
    with pytest.raises(DataError, match="cut short or damaged at row 3 of 7"):
        next(blocks)


def test_a_gzip_stream_that_ends_early_gives_what_it_has_and_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "cut.idx.gz"
    noise = np.random.default_rng(0).integers(0, 256, (500, 100), dtype=np.uint8)
    path.write_bytes(gzip.compress(idx(8, noise.shape, noise.tobytes()))[:25_000])
    parts = []
    with pytest.raises(DataError, match=r"damaged at row (\d+) of 500") as caught:
        parts.extend(block.inputs[0] for block in open_idx(path).blocks(8))
    seen = 8 * len(parts)
    np.testing.assert_array_equal(np.concatenate(parts), noise[:seen])
    row = int(str(caught.value).split("row ")[1].split()[0])
    assert seen <= row < seen + 8
    assert 200 < row < 250


def test_flipped_bits_in_a_gzip_stream_are_found(tmp_path: Path) -> None:
    path = tmp_path / "flipped.idx.gz"
    noise = np.random.default_rng(0).integers(0, 256, (50, 100), dtype=np.uint8)
    content = bytearray(gzip.compress(idx(8, noise.shape, noise.tobytes())))
    content[3000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged at row \d+ of 50"):
        list(open_idx(path).blocks(50))


def test_bytes_after_the_last_row_of_a_gzip(tmp_path: Path) -> None:
    path = tmp_path / "long.idx.gz"
    path.write_bytes(gzip.compress(idx(8, (3, 2), bytes(7))))
    with pytest.raises(DataError, match="holds more bytes than the 3 rows"):
        list(open_idx(path).blocks(2))
    assert len(list(open_idx(path).blocks(1, limit=2))) == 2


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            idx(8, (6,), bytes(6)),
            "has 6 labels and .*images.* has 7 samples: the numbers must be equal",
        ),
        (idx(8, (7,), bytes(5)), "declares 7 rows, and it holds 5"),
        (idx(8, (7,), bytes(8)), "more bytes than the 7 rows"),
        (idx(8, (7, 1), bytes(7)), "has 2 axes of uint8; labels are one axis of integers"),
        (idx(13, (7,), bytes(28)), "has 1 axes of float32; labels are one axis of integers"),
    ],
)
def test_bad_labels_are_refused_at_opening(
    tmp_path: Path, ending: str, labels: bytes, text: str
) -> None:
    with pytest.raises(DataError, match=text):
        open_idx(write(tmp_path, ending=ending, labels=labels))


def test_labels_in_a_gzip_that_is_cut_are_refused_at_opening(tmp_path: Path) -> None:
    images = write(tmp_path, ending=".gz")
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"cut short or damaged: it declares 7 labels"):
        open_idx(images)


def test_names_and_magic(tmp_path: Path) -> None:
    assert images_stem("train-images-idx3-ubyte.gz") == "train-"
    assert images_stem("emnist-letters-train-images.idx3-ubyte") == "emnist-letters-train-"
    assert images_stem("train-labels-idx1-ubyte") is None
    path = tmp_path / "whatever"
    path.write_bytes(gzip.compress(idx(8, (1, 1), b"\1")))
    assert looks_like_idx(path)
    path.write_bytes(b"\x1f\x8bnot gzip")
    assert not looks_like_idx(path)
    path.write_bytes(b"text")
    assert not looks_like_idx(path)


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"MNIST is not at {MNIST}")
def test_mnist() -> None:
    source = open_idx(MNIST / "t10k-images-idx3-ubyte.gz")
    with gzip.open(MNIST / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read()[16:], np.uint8).reshape(10_000, 28, 28)
    blocks = list(source.blocks(999))
    np.testing.assert_array_equal(np.concatenate([b.inputs[0] for b in blocks]), raw)
    labels = np.concatenate([b.labels for b in blocks if b.labels is not None])
    # The counts of the digits in the test set, as published.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts
