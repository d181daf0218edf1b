from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnatool.data.formats.file_table import open_file_table
from cnatool.data.formats.image_folder import open_image_folder
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.errors import DataError

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


def save(path: Path, pixels: Any = GREY, mode: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def read(folder: Path) -> np.ndarray[Any, Any]:
    [block] = open_image_folder(folder).blocks(99)
    return block.inputs[0]


def test_classes_files_and_blocks_come_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    for number, name in enumerate(["b/10.png", "b/9.bmp", "a/z.tiff", "a/é.PNG", "c d/x.png"]):
        save(folder / name, GREY + np.uint8(number))
    (folder / "empty").mkdir()
    (folder / "a" / "notes.txt").write_text("no picture")
    (folder / "a" / ".hidden.png").write_text("no picture")
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("no picture")
    source = open_image_folder(folder)
    assert source.name == "digits"
    assert source.classes == ("a", "b", "c d")
    assert source.notes == (
        f"1 file in {folder} without the extension of an image ignored (.txt)",
        f"folder empty in {folder} without images: no class",
    )
    assert (source.rows, source.labelled) == (5, True)
    [spec] = source.inputs
    assert (spec.name, spec.dtype, spec.shape, spec.layout) == ("pictures", np.uint8, (3, 4), None)
    one, two = source.blocks(2, limit=3)
    assert one.ids == ["a/z.tiff", "a/é.PNG"]
    assert two.ids == ["b/10.png"]
    assert one.labels is not None
    assert one.labels.dtype == np.int64
    assert one.labels.tolist() == [0, 0]
    np.testing.assert_array_equal(one.inputs[0], [GREY + 2, GREY + 3])
    np.testing.assert_array_equal(two.inputs[0], [GREY])
    assert [b.labels.tolist() for b in source.blocks(9) if b.labels is not None] == [
        [0, 0, 1, 1, 2]
    ]


def test_colour_is_height_width_channels(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", RGB)
    source = open_image_folder(tmp_path)
    assert source.inputs[0].shape == (3, 4, 3)
    assert source.inputs[0].layout == "hwc"
    np.testing.assert_array_equal(read(tmp_path), [RGB])


def test_modes_without_loss_are_converted(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    save(tmp_path / "p" / "a" / "1.png", palette)
    assert read(tmp_path / "p").shape == (1, 3, 4, 3)
    assert (read(tmp_path / "p") == [10, 20, 30]).all()
    save(tmp_path / "1" / "a" / "1.png", Image.new("1", (4, 3), 1))
    np.testing.assert_array_equal(read(tmp_path / "1"), np.full((1, 3, 4), 255))
    save(tmp_path / "c" / "a" / "1.tif", Image.new("CMYK", (4, 3), (255, 0, 0, 0)))
    assert (read(tmp_path / "c") == [0, 255, 255]).all()


def test_jpeg_and_webp_are_decoded(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), 90, np.uint8)
    save(tmp_path / "a" / "1.jpg", flat, quality=95)
    save(tmp_path / "a" / "2.jpeg", flat, quality=95)
    save(tmp_path / "a" / "3.webp", flat, lossless=True)
    assert np.abs(read(tmp_path).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, ending: str) -> None:
    # What a viewer must do with stored rows and columns, by the EXIF standard.
    seen = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: GREY[::-1].T,
        7: GREY[::-1, ::-1].T,
        8: GREY.T[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a" / f"1.{ending}", exif=exif)
    np.testing.assert_array_equal(read(tmp_path), [seen])


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (Image.new("RGBA", (4, 3)), "has transparent parts, behind which there is no colour"),
        (Image.new("LA", (4, 3)), "has transparent parts, behind which there is no colour"),
    ],
)
def test_modes_that_lose_are_refused(tmp_path: Path, image: Image.Image, text: str) -> None:
    path = save(tmp_path / "a" / "1.png", image)
    with pytest.raises(DataError, match=text) as caught:
        open_image_folder(tmp_path)
    assert str(path) in str(caught.value)


def test_transparent_palette_float_and_lab_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "p" / "a" / "1.png", Image.new("P", (4, 3)), transparency=0)
    with pytest.raises(DataError, match="transparent parts"):
        open_image_folder(tmp_path / "p")
    save(tmp_path / "f" / "a" / "1.tif", Image.new("F", (4, 3)))
    with pytest.raises(DataError, match="holds numbers of 32 bits"):
        open_image_folder(tmp_path / "f")
    save(tmp_path / "l" / "a" / "1.tif", Image.new("LAB", (4, 3)))
    with pytest.raises(DataError, match="mode LAB, which is not supported"):
        open_image_folder(tmp_path / "l")


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_16_bit_colour_that_pillow_would_halve_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(2, 1, 16, 2, b"\0" + bytes(range(12))))
    with pytest.raises(DataError, match="several channels of 16 bits"):
        open_image_folder(tmp_path)
    (tmp_path / "a" / "1.png").write_bytes(png(2, 1, 8, 2, b"\0" + bytes(range(6))))
    np.testing.assert_array_equal(read(tmp_path).reshape(-1), range(6))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_keeps_its_bits(tmp_path: Path, ending: str) -> None:
    wide = np.array([[0, 1, 255, 256], [257, 4096, 65534, 65535], [9, 8, 7, 6]], np.uint16)
    save(tmp_path / "a" / f"1.{ending}", wide)
    assert open_image_folder(tmp_path).inputs[0].dtype == np.uint16
    np.testing.assert_array_equal(read(tmp_path), [wide])
    save(tmp_path / "b" / "1.png", GREY)
    with pytest.raises(
        DataError, match=r"b/1\.png has 8 bits per channel and the first image 16 \(.*a/1\."
    ):
        open_image_folder(tmp_path)


def test_big_endian_16_bit_tiff(tmp_path: Path) -> None:
    # Written by hand: II and MM differ in the order of bytes alone.
    pixels = np.array([[1, 256], [515, 65535]], ">u2")
    tags = [(256, 2), (257, 2), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2)]
    tags.append((279, pixels.nbytes))
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = struct.pack(">2sHI", b"MM", 42, 8 + pixels.nbytes)
    body = struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.tif").write_bytes(head + pixels.tobytes() + body)
    np.testing.assert_array_equal(read(tmp_path), [pixels])
    assert read(tmp_path).dtype.isnative


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_an_opaque_alpha_channel_is_dropped(tmp_path: Path, mode: str, ending: str) -> None:
    if (mode, ending) == ("LA", "webp"):
        pytest.skip("WebP has no grey")
    pixels = RGB if mode == "RGBA" else GREY
    image = Image.fromarray(pixels).convert(mode)
    save(tmp_path / "a" / f"1.{ending}", image, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read(tmp_path), [pixels])
    image.putpixel((1, 2), (*image.getpixel((1, 2))[:-1], 254))
    save(tmp_path / "a" / f"1.{ending}", image, **({"lossless": True} if ending == "webp" else {}))
    with pytest.raises(DataError, match="has transparent parts"):
        open_image_folder(tmp_path)


@pytest.mark.parametrize("side", [2, 160])
def test_many_images_on_several_threads_keep_their_order(tmp_path: Path, side: int) -> None:
    for number in range(100):
        save(tmp_path / "a" / f"{number:03}.png", np.full((side, side), number, np.uint8))
    blocks = list(open_image_folder(tmp_path).blocks(64))
    assert [len(block.ids) for block in blocks] == [64, 36]
    for block in blocks:
        names = [int(name[2:5]) for name in block.ids]
        assert block.inputs[0][:, 0, 0].tolist() == names
    for number in (70, 90, 80):
        (tmp_path / "a" / f"{number:03}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/070\.png is damaged"):
        list(open_image_folder(tmp_path).blocks(64))


def test_several_images_in_one_file_are_refused(tmp_path: Path) -> None:
    more = [Image.fromarray(GREY + 1)]
    save(tmp_path / "a" / "1.tif", save_all=True, append_images=more)
    with pytest.raises(DataError, match="holds several images: save each as a file of its own"):
        open_image_folder(tmp_path)


def test_the_first_of_each_class_is_compared_at_opening(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", GREY)
    save(tmp_path / "b" / "1.png", GREY.T)
    with pytest.raises(
        DataError, match=r"b/1.png is \(4, 3\) and the first is \(3, 4\) \(.*a/1.png\)"
    ):
        open_image_folder(tmp_path)
    save(tmp_path / "b" / "1.png", RGB)
    with pytest.raises(DataError, match=r"b/1.png is .* `colour=rgb`"):
        open_image_folder(tmp_path)


def test_others_are_compared_as_they_are_read(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png", GREY)
    save(tmp_path / "a" / "3.png", np.zeros((50, 50), np.uint8))
    blocks = open_image_folder(tmp_path).blocks(2)
    next(blocks)
    with pytest.raises(
        DataError, match=r"a/3.png is \(50, 50\) and the first is \(3, 4\) \(.*a/0.png\)"
    ):
        next(blocks)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_image_that_is_cut_is_named(tmp_path: Path, ending: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = save(tmp_path / "a" / f"1.{ending}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match="is damaged, or not an image in a known format") as caught:
        open_image_folder(tmp_path)
    assert str(path) in str(caught.value)


def test_only_the_named_formats_are_decoded(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", format="GIF")
    with pytest.raises(DataError, match="not an image in a known format"):
        open_image_folder(tmp_path)


@pytest.mark.parametrize("times", [1, 3])
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow warns from its limit on and refuses from twice the limit.
    save(tmp_path / "a" / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11 // times)
    with pytest.raises(DataError, match="is too large to be decoded safely") as caught:
        open_image_folder(tmp_path)
    assert "a/1.png" in str(caught.value)


def test_a_folder_without_images(tmp_path: Path) -> None:
    text = "holds no images in class folders: put each image .* into a sub-folder"
    with pytest.raises(DataError, match=text):
        open_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("")
    with pytest.raises(DataError, match=text):
        open_image_folder(tmp_path)


def test_images_whose_class_is_in_doubt(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"2\.png lies outside the class folders"):
        open_image_folder(tmp_path)
    (tmp_path / "2.png").unlink()
    save(tmp_path / "a" / "deep" / "1.png")
    with pytest.raises(DataError, match="a/deep is a folder inside the class folder 'a'"):
        open_image_folder(tmp_path)


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    outside = save(tmp_path / "outside" / "1.png")
    folder = tmp_path / "data"
    save(folder / "a" / "1.png")
    (folder / "a" / "2.png").symlink_to(folder / "a" / "1.png")
    assert open_image_folder(folder).rows == 2
    (folder / "a" / "3.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"a/3\.png is a symbolic link to a place outside"):
        open_image_folder(folder)
    (folder / "a" / "3.png").unlink()
    (folder / "b").symlink_to(outside.parent)
    followed = open_image_folder(folder, ArraySelection(images=ImageOptions(follow_links=True)))
    assert followed.classes == ("a", "b")
    with pytest.raises(DataError, match="data/b is a symbolic link to a place outside"):
        open_image_folder(folder)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"1\.png is named like an image and is not a file"):
        open_image_folder(tmp_path)


def test_names_that_cannot_be_ids(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x\x1b[31m.png")
    with pytest.raises(DataError, match=r"holds the name .*: rename it") as caught:
        open_image_folder(tmp_path)
    assert "\x1b" not in str(caught.value)


def listed(folder: Path, table: str, name: str = "labels.csv") -> Any:
    for i, file in enumerate(("b.png", "a.png", "deep/c.png")):
        save(folder / file, GREY + np.uint8(i))
    (folder / name).write_text(table)
    return open_file_table(folder)


def test_images_with_a_table_of_labels(tmp_path: Path) -> None:
    source = listed(tmp_path, "filename,label\nb.png,7\ndeep/c.png,3\na.png,7\n")
    assert (source.rows, source.classes, source.labelled) == (3, None, True)
    [block] = source.blocks(9)
    assert block.ids == ["b.png", "deep/c.png", "a.png"]
    assert block.labels.tolist() == [7, 3, 7]
    np.testing.assert_array_equal(block.inputs[0], [GREY, GREY + 2, GREY + 1])


def test_images_that_a_table_does_not_list_are_counted(tmp_path: Path) -> None:
    whole = listed(tmp_path / "whole", "filename,label\nb.png,7\n./deep/c.png,3\na.png,7\n")
    assert whole.notes == ()
    source = listed(tmp_path / "part", "filename,label\nb.png,7\ndeep/c.png,3\n")
    assert source.rows == 2
    assert source.notes == (
        f"{tmp_path / 'part' / 'labels.csv'} lists 2 of 3 images in its folders; the others are "
        "left out",
    )


def test_classes_by_name_in_a_table(tmp_path: Path) -> None:
    source = listed(tmp_path, "label,file_name\ndog,b.png\n01,a.png\n", "metadata.csv")
    assert source.classes == ("01", "dog")
    [block] = source.blocks(9)
    assert block.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            "filename,breed\nb.png,cat\n",
            r"labels\.csv needs one column of labels, called label or .* holds",
        ),
        ("x,label\nb.png,1\n", "needs one column of file names"),
        ("filename,label\nb.png,1\nb.png,2\n", "row 1: 'b.png' is listed in row 0 as well"),
        ("filename,label\nb.png,\n", "row 0, has no value in 'label'"),
        ("filename,label\nz.png,1\n", "row 0: there is no file"),
        ("filename,label\n../o.png,1\n", "row 0: '../o.png' is not the path of a file inside"),
        ("filename,label\n/etc/passwd,1\n", "not the path of a file inside"),
        ("filename,label\nlink.png,1\n", "not the path of a file inside"),
        ("filename,label\n", "lists no images"),
        ("filename,label\nb.png,1,2,3\n", r"as a table \([^)]*Schema'\). Rows need as many cells"),
        ('filename,label\nb.png,"at\x02', "cannot be read as a table"),
        ("f" * 5000 + ",label\nb.png,1\n", "and holds f{60}…, label"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, table: str, text: str) -> None:
    save(tmp_path / "o.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link.png").symlink_to(tmp_path / "o.png")
    with pytest.raises(DataError, match=text) as caught:
        listed(tmp_path / "d", table)
    assert str(caught.value).isprintable()
    if table.startswith(("filename,label\n..", "filename,label\n/")):
        # A path that leads out by itself is none that links may take.
        with pytest.raises(DataError, match=text):
            open_file_table(tmp_path / "d", ArraySelection(images=ImageOptions(follow_links=True)))


def test_a_listed_link_may_be_followed(tmp_path: Path) -> None:
    save(tmp_path / "o.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link.png").symlink_to(tmp_path / "o.png")
    (tmp_path / "d" / "labels.csv").write_text("filename,label\nlink.png,1\n")
    assert (
        open_file_table(tmp_path / "d", ArraySelection(images=ImageOptions(follow_links=True))).rows
        == 1
    )


@pytest.mark.parametrize("bit", [4, 5, 6, 7])
def test_a_chunk_that_promises_gigabytes_gets_no_room(tmp_path: Path, bit: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "0.png"
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") - 4] ^= 1 << bit
    path.write_bytes(content)
    tracemalloc.start()
    try:
        [block] = open_image_folder(tmp_path).blocks(4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(block.inputs[0], pixels[None])
    assert peak < 1 << 24
