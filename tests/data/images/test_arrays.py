"""Images that are resized as they are read, and samples that cannot be read."""

from __future__ import annotations

import errno
import io
import threading
import time
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.files import write_tar

from cnatool.data.images import decode as decoding
from cnatool.data.images.arrays import transform_source
from cnatool.data.images.decode import decode
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.data.source import Block, InputSpec, SampleError, Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.data.wrappers import MOST_SKIPPED, ReadableSamples
from cnatool.errors import DataError, UsageError
from cnatool.records.image_transform import Geometry

SQUARE = Geometry(resize=12, crop=(10, 8), colour="rgb")
COUNT = 13
FORMS = ("folder", "listed", "parquet", "webdataset")


def images(seed: int = 0) -> list[Image.Image]:
    """Grey and RGB, each of a size of its own."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(COUNT):
        h, w = (int(side) for side in rng.integers(9, 30, 2))
        shape = (h, w) if i % 4 == 2 else (h, w, 3)
        made.append(Image.fromarray(rng.integers(0, 256, shape, np.uint8)))
    return made


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def written(form: str, folder: Path, contents: list[bytes]) -> Path:
    """Write encoded images with labels i % 3 in a form; give where they are."""
    folder.mkdir()
    names = [f"{i:03}.png" for i in range(len(contents))]
    if form == "parquet":
        rows = [{"bytes": content, "path": None} for content in contents]
        labels = [i % 3 for i in range(len(contents))]
        pl.DataFrame({"image": rows, "label": labels}).write_parquet(folder / "a.parquet")
        return folder / "a.parquet"
    if form == "webdataset":
        members = []
        for i, content in enumerate(contents):
            members += [(f"{i:03}.png", content), (f"{i:03}.cls", b"%d" % (i % 3))]
        return write_tar(folder / "a.tar", members)
    for i, (name, content) in enumerate(zip(names, contents, strict=True)):
        inside = folder / f"c{i % 3}" / name if form == "folder" else folder / name
        inside.parent.mkdir(exist_ok=True)
        inside.write_bytes(content)
    if form == "listed":
        labels = [i % 3 for i in range(len(contents))]
        pl.DataFrame({"filename": names, "label": labels}).write_csv(folder / "labels.csv")
    return folder


def order(form: str) -> list[int]:
    """Give the numbers of the images in the order of a form."""
    return sorted(range(COUNT), key=lambda i: (i % 3, i)) if form == "folder" else [*range(COUNT)]


def opened(path: Path, view: ImageOptions) -> Source:
    splits = open_splits(
        None, {"a": path}, ArraySelection(), ReaderOptions(images=view), lambda _: None
    )
    return splits["a"]


def joined(source: Source, rows: int = 4, limit: int | None = None) -> Block:
    blocks = list(source.blocks(rows, limit))
    assert all(len(block.ids) == rows for block in blocks[:-1])
    return Block(
        [one for block in blocks for one in block.ids],
        tuple(np.concatenate(parts) for parts in zip(*(b.inputs for b in blocks), strict=True)),
        np.concatenate([block.labels for block in blocks]),
        tuple(
            np.concatenate(parts) for parts in zip(*(b.transformed for b in blocks), strict=True)
        ),
        skipped=tuple(one for block in blocks for one in block.skipped),
    )


def literally(image: Image.Image) -> np.ndarray[Any, Any]:
    """What `SQUARE` asks for, with Pillow alone: torchvision's Resize(12) and CenterCrop."""
    image = image.convert("RGB")
    w, h = image.size
    size = (12, int(12 * h / w)) if w <= h else (int(12 * w / h), 12)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 8) / 2), round((size[1] - 10) / 2)
    return np.asarray(image.crop((left, top, left + 8, top + 10)))


def counted(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.array([(np.asarray(image) == level).sum() for level in range(256)])


@pytest.mark.parametrize("form", FORMS)
def test_images_of_any_size_in_every_form(form: str, tmp_path: Path) -> None:
    given = images()
    source = opened(written(form, tmp_path / "d", [*map(png, given)]), ImageOptions(SQUARE))
    [spec] = source.inputs
    assert (spec.shape, spec.dtype, spec.levels) == ((257,), np.uint32, True)
    assert (spec.for_model.shape, spec.for_model.layout) == ((10, 8, 3), "hwc")
    block = joined(source)
    for row, i in enumerate(order(form)):
        np.testing.assert_array_equal(block.for_model[0][row], literally(given[i]))
        np.testing.assert_array_equal(block.inputs[0][row, :256], counted(given[i]))
        assert block.inputs[0][row, 256] == zlib.crc32(literally(given[i]).tobytes())
        assert block.labels is not None
        assert block.labels[row] == i % 3


@pytest.mark.parametrize("form", FORMS)
def test_images_of_one_size_may_be_stored_themselves(form: str, tmp_path: Path) -> None:
    given = [image.convert("RGB").resize((20, 16)) for image in images()]
    path = written(form, tmp_path / "d", [*map(png, given)])
    block = joined(opened(path, ImageOptions(SQUARE, "values")))
    for row, i in enumerate(order(form)):
        np.testing.assert_array_equal(block.inputs[0][row], np.asarray(given[i]))
        np.testing.assert_array_equal(block.for_model[0][row], literally(given[i]))
    plain = joined(opened(path, ImageOptions(keep_inputs="levels")))
    for row, i in enumerate(order(form)):
        np.testing.assert_array_equal(plain.inputs[0][row, :256], counted(given[i]))
        np.testing.assert_array_equal(plain.for_model[0][row], np.asarray(given[i]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("view", "text"),
    [
        (ImageOptions(), r"Make them so with `resize=\(HEIGHT, WIDTH\)`"),
        (ImageOptions(Geometry(resize=12)), r"`crop=\(HEIGHT, WIDTH\)`"),
        (ImageOptions(Geometry(resize=(9, 9))), r"Make them so with `colour=rgb`"),
        (ImageOptions(SQUARE, "values"), r"Or use `keep_inputs=levels`"),
    ],
)
def test_images_that_stay_different_are_refused(
    form: str, view: ImageOptions, text: str, tmp_path: Path
) -> None:
    path = written(form, tmp_path / "d", [*map(png, images())])
    # Not even where damaged ones are skipped: these are whole.
    for given in (view, ImageOptions(view.geometry, view.keep_inputs, skip_unreadable=True)):
        with pytest.raises(DataError, match=text):
            joined(opened(path, given))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damaged", [[0], [3, 7], [12], [0, 1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8]])
@pytest.mark.parametrize("rows", [1, 4, 64])
def test_damaged_images_are_left_out(
    form: str, damaged: list[int], rows: int, tmp_path: Path
) -> None:
    given = images()
    contents = [*map(png, given)]
    for i in damaged:
        contents[i] = contents[i][:60]
    path = written(form, tmp_path / "d", contents)
    with pytest.raises(DataError, match="`on_error=skip` leaves such samples out"):
        joined(opened(path, ImageOptions(SQUARE)))
    source = opened(path, ImageOptions(SQUARE, skip_unreadable=True))
    assert source.rows == COUNT
    block = joined(source, rows)
    good = [i for i in order(form) if i not in damaged]
    np.testing.assert_array_equal(block.for_model[0], [literally(given[i]) for i in good])
    np.testing.assert_array_equal(block.labels, [i % 3 for i in good])
    assert len(block.skipped) == len(damaged)
    for one in block.skipped:
        assert one.id not in block.ids
        assert "is damaged, or not an image in a known format" in one.reason
        assert "skip" not in one.reason


def test_a_limit_counts_damaged_ones(tmp_path: Path) -> None:
    contents = [*map(png, images())]
    contents[1] = b"x"
    source = opened(
        written("parquet", tmp_path / "d", contents), ImageOptions(SQUARE, skip_unreadable=True)
    )
    block = joined(source, 4, 6)
    assert block.ids == ["0", "2", "3", "4", "5"]
    assert [one.id for one in block.skipped] == ["1"]


def test_a_split_drawn_by_lot_is_not_shifted(tmp_path: Path) -> None:
    contents = [*map(png, images())]
    whole = written("parquet", tmp_path / "a", contents)
    contents[0] = contents[5] = b"x"
    damaged = written("parquet", tmp_path / "b", contents)
    ids = {}
    for path, skip in ((whole, False), (damaged, True)):
        reading = ReaderOptions(holdout=0.4, images=ImageOptions(SQUARE, skip_unreadable=skip))
        splits = open_splits(path, {}, ArraySelection(), reading, lambda _: None)
        ids[skip] = {name: set(joined(source).ids) for name, source in splits.items()}
    for name, there in ids[False].items():
        assert ids[True][name] == there - {"0", "5"}


def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    path = written("parquet", tmp_path / "d", [b"x"] * COUNT)
    with pytest.raises(DataError, match=r"row 0, is damaged"):
        opened(path, ImageOptions(SQUARE, skip_unreadable=True))


@pytest.mark.parametrize(
    ("column", "reasons"),
    [
        ([[1.0, 2], [3], [4, 5], None, [6, 7]], ["has 1 value", "is missing"]),
        ([[1.0, 2], [3, None], [4, 5], [None, None], [6, 7]], ["is missing", "is missing"]),
        ([[[1.0, 2]], [[3]], [[4, 5]], [[1, 2], [3, 4]], [[6, 7]]], ["has 1 val", "has 2 val"]),
        ([1.0, None, 2.0, None, 3.0], ["is missing", "is missing"]),
    ],
)
def test_rows_of_a_table_that_do_not_fit(
    column: list[Any], reasons: list[str], tmp_path: Path
) -> None:
    pl.DataFrame({"x": column, "y": range(5)}).write_parquet(tmp_path / "a.parquet")
    block = joined(opened(tmp_path / "a.parquet", ImageOptions(skip_unreadable=True)), 2)
    np.testing.assert_array_equal(block.inputs[0], [column[i] for i in (0, 2, 4)])
    np.testing.assert_array_equal(block.labels, [0, 2, 4])
    assert [one.id for one in block.skipped] == ["1", "3"]
    for one, text in zip(block.skipped, reasons, strict=True):
        assert text in one.reason


@pytest.mark.parametrize("first", [None, [1.0], [1.0, None]])
def test_the_first_row_may_be_damaged(first: Any, tmp_path: Path) -> None:
    column = [first, [1.0, 2.0], [3.0, 4.0], [6.0, 7.0], [5.0]]
    pl.DataFrame({"x": column, "y": range(5)}).write_parquet(tmp_path / "a.parquet")
    block = joined(opened(tmp_path / "a.parquet", ImageOptions(skip_unreadable=True)))
    np.testing.assert_array_equal(block.inputs[0], column[1:4])
    assert [one.id for one in block.skipped] == ["0", "4"]


def test_rows_of_a_table_without_a_number_or_a_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,y\n1,2,0\nx,3,1\n4,,2\n5,6,\n7,8,3\n")
    with pytest.raises(DataError, match=r"column 'a', row 1, is 'x'.*`on_error=skip` leaves"):
        joined(opened(tmp_path / "a.csv", ImageOptions()))
    block = joined(opened(tmp_path / "a.csv", ImageOptions(skip_unreadable=True)))
    np.testing.assert_array_equal(block.inputs[0], [[1, 2], [7, 8]])
    np.testing.assert_array_equal(block.labels, [0, 3])
    assert [one.id for one in block.skipped] == ["1", "2", "3"]


class Broken:
    """A source of which one sample in two cannot be read."""

    name, rows, id_bytes, labelled, classes = "broken", 10**6, 7, False, None
    inputs = (InputSpec("x", np.dtype(np.uint8), (1,)),)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Any:
        for first in range(start, self.rows, rows):
            ids = [str(i) for i in range(first, first + rows)]
            faults = {row: f"{ids[row]} is broken." for row in range(0, rows, 2)}
            yield Block(ids, (np.zeros((rows, 1), np.uint8),), None, (), faults)


def test_too_many_are_no_few_damaged_samples() -> None:
    with pytest.raises(DataError, match=f"over {MOST_SKIPPED:,} samples cannot be read, the last"):
        deque(ReadableSamples(Broken()).blocks(100), maxlen=0)


@pytest.mark.parametrize("axes", ["hwc", "chw", "hw"])
def test_arrays_are_resized_as_files_are(axes: str, tmp_path: Path) -> None:
    given = [image.convert("RGB").resize((20, 16)) for image in images()]
    if axes == "hw":
        given = [image.convert("L") for image in given]
    arrays = np.stack([np.asarray(image) for image in given])
    stored = arrays.transpose(0, 3, 1, 2) if axes == "chw" else arrays
    np.savez(tmp_path / "a.npz", x=stored, y=np.arange(COUNT))
    block = joined(opened(tmp_path / "a.npz", ImageOptions(SQUARE)))
    np.testing.assert_array_equal(block.inputs[0], stored)
    np.testing.assert_array_equal(block.for_model[0], [literally(image) for image in given])
    block = joined(opened(tmp_path / "a.npz", ImageOptions(SQUARE, "levels")))
    np.testing.assert_array_equal(block.inputs[0][:, :256], [counted(image) for image in given])


@pytest.mark.parametrize("shape", [(7, 5, 1), (1, 7, 5), (7, 5), (7, 5, 3), (3, 7, 5)])
def test_levels_of_arrays_of_any_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (COUNT, *shape), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(COUNT))
    block = joined(opened(tmp_path / "a.npz", ImageOptions(keep_inputs="levels")))
    expected = [np.bincount(sample.ravel(), minlength=256) for sample in x]
    np.testing.assert_array_equal(block.inputs[0][:, :256], expected)


def test_not_every_error_is_a_damaged_image(tmp_path: Path) -> None:
    def failing(error: Exception) -> Any:
        def opener() -> Any:
            raise error

        return opener

    for error in (OSError(errno.EMFILE, "too many"), OSError(errno.EIO, "disk")):
        with pytest.raises(DataError, match=r"a.png cannot be read") as caught:
            decode("a.png", failing(error))
        assert not isinstance(caught.value, SampleError)
    with pytest.raises(MemoryError):
        decode("a.png", failing(MemoryError()))
    with pytest.raises(SampleError):
        decode("a.png", failing(OSError(errno.ENOENT, "gone")))


def test_images_too_oblong_are_named_and_skipped(tmp_path: Path) -> None:
    given = images()
    given[3] = Image.new("RGB", (1, 60_000))
    path = written("parquet", tmp_path / "d", [*map(png, given)])
    with pytest.raises(DataError, match=r"row 3: an image of 60000×1 would be resized"):
        joined(opened(path, ImageOptions(Geometry(resize=64, crop=(8, 8), colour="rgb"))))
    block = joined(
        opened(
            path, ImageOptions(Geometry(resize=64, crop=(8, 8), colour="rgb"), skip_unreadable=True)
        )
    )
    assert [one.id for one in block.skipped] == ["3"]


def test_large_images_are_not_decoded_all_at_once() -> None:
    room, most, now = decoding.Budget(1000), [0], [0]
    lock = threading.Lock()

    def one(pixels: int) -> None:
        with room.reserve(pixels):
            with lock:
                now[0] += pixels
                most[0] = max(most[0], now[0])
            time.sleep(0.001)
            with lock:
                now[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, [400, 700, 100, 300] * 20))
    assert 700 <= most[0] <= 1000
    one(5000)
    assert now[0] == 0


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((3, 5, 3), "the axis of channels is ambiguous: choose `layout=hwc->chw`"),
        ((7,), "which are not images"),
        ((4, 5, 6), "which are not images"),
    ],
)
def test_arrays_that_are_no_images_or_in_doubt(
    shape: tuple[int, ...], text: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, *shape), np.uint8))
    with pytest.raises(UsageError, match=text):
        opened(tmp_path / "a.npy", ImageOptions(SQUARE))


def test_what_is_said_of_the_axes_counts(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 5, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(COUNT))
    for axes, shape in (("hwc", (6, 6, 3)), ("chw", (6, 6, 3))):
        view = ImageOptions(Geometry(resize=(6, 6)), axes=axes)
        assert opened(tmp_path / "a.npz", view).inputs[0].for_model.shape == shape
    plain = opened(tmp_path / "a.npz", ImageOptions())
    assert transform_source(plain, ImageOptions()) is plain


def test_levels_are_those_of_8_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6), np.float32))
    with pytest.raises(DataError, match="`keep_inputs=values`"):
        opened(tmp_path / "a.npy", ImageOptions(keep_inputs="levels"))
    image = Image.fromarray(np.zeros((5, 6), np.uint16))
    path = written("folder", tmp_path / "d", [png(image)])
    with pytest.raises(DataError, match=r"000.png has 16 bits per channel"):
        opened(path, ImageOptions(Geometry(resize=(3, 3))))
