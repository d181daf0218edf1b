from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.files import write_tar

from cnatool.data.formats.webdataset import open_webdataset
from cnatool.data.selection import SINGLE_INPUT, ArraySelection, ImageOptions
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (11, 4, 3, 3), np.uint8)


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def samples(rows: range = range(11)) -> list[tuple[str, bytes]]:
    return [
        member
        for i in rows
        for member in (
            (f"./d/{i:03}.png", png(RGB[i])),
            (f"./d/{i:03}.cls", f"{i % 3}\n".encode()),
            (f"./d/{i:03}.json", json.dumps({"label": i, "coarse": -i, "text": "é"}).encode()),
        )
    ]


def joined(source: Source, rows: int = 4) -> tuple[list[str], Any, list[int]]:
    blocks = list(source.blocks(rows))
    assert all(len(b.ids) == rows for b in blocks[:-1])
    labels = [int(y) for b in blocks if b.labels is not None for y in b.labels]
    return [i for b in blocks for i in b.ids], np.concatenate([b.inputs[0] for b in blocks]), labels


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz")])
def test_images_and_labels(tmp_path: Path, ending: str, mode: str) -> None:
    path = write_tar(tmp_path / f"a.{ending}", samples(), mode)
    source = open_webdataset([path], SINGLE_INPUT)
    assert (source.rows, source.inputs[0].layout, source.id_bytes) == (11, "hwc", 5)
    ids, images, labels = joined(source)
    assert ids == [f"d/{i:03}" for i in range(11)]
    np.testing.assert_array_equal(images, RGB)
    assert labels == [i % 3 for i in range(11)]
    for name, wanted in (("label", list(range(11))), ("coarse", [-i for i in range(11)])):
        source = open_webdataset([path], ArraySelection(labels=name))
        assert joined(source)[2] == wanted
    [block] = source.blocks(99, 2)
    assert len(block.ids) == 2


def test_numbered_archives_are_splits(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", samples(range(4)))
    write_tar(tmp_path / "train-000001.tar", samples(range(4, 9)))
    write_tar(tmp_path / "test-000000.tar.gz", samples(range(9, 11)), "w:gz")
    splits = open_splits(tmp_path, {}, SINGLE_INPUT, ReaderOptions(), print)
    assert {name: source.rows for name, source in splits.items()} == {"train": 9, "test": 2}
    ids, images, _ = joined(splits["train"], 3)
    assert ids[3:5] == ["train-000000.tar:d/003", "train-000001.tar:d/004"]
    assert splits["train"].id_bytes == len(ids[0])
    np.testing.assert_array_equal(images, RGB[:9])


def test_arrays_and_several_inputs(tmp_path: Path) -> None:
    members = []
    for i in range(3):
        members += [
            (f"{i}.left.npy", npy(np.arange(i, i + 3, dtype=">i4"))),
            (f"{i}.b.png", png(RGB[i])),
        ]
    path = write_tar(tmp_path / "a.tar", members)
    source = open_webdataset([path], ArraySelection(("left", "right"), {"right": "b"}))
    [block] = source.blocks(9)
    assert block.labels is None
    assert block.inputs[0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    np.testing.assert_array_equal(block.inputs[1], RGB[:3])
    assert [spec.name for spec in source.inputs] == ["left", "right"]
    with pytest.raises(
        DataError, match=r"needs one image, sound file or \.npy for the input 'x' and has"
    ):
        open_webdataset([path], SINGLE_INPUT)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({21: ("./d/007.png", b"x")}, r"sample d/007\.png is damaged, or not an image"),
        ({21: ("./d/007.png", png(RGB[0, :2]))}, r"sample d/007\.png is \(2, 3, 3\) and the first"),
        ({21: ("./d/007.gif", png(RGB[7]))}, r"sample d/007 has no \.png, which the first"),
        ({22: ("./d/007.cls", b"cat")}, r"sample d/007\.cls holds the label 'cat'"),
        ({22: ("./d/007.cls", b"9" * 19)}, "labels are whole numbers of 64 bits"),
        ({22: ("./d/007.png", b"")}, r"member \./d/007\.png, occurs twice"),
        ({21: ("./d/\x1b[31m.png", b"")}, "has no name of the form KEY.EXTENSION"),
        ({21: ("readme", b"")}, "has no name of the form KEY.EXTENSION"),
    ],
)
def test_the_sample_is_named(tmp_path: Path, change: dict[int, Any], text: str) -> None:
    members = samples()
    for place, member in change.items():
        members[place] = member
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=text) as caught:
        list(open_webdataset([path], SINGLE_INPUT).blocks(4))
    assert "\x1b" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    array = np.array([{}], object)
    for name, content in (("0.npy", npy(array)), ("0.npy", b"\x80\x04.")):
        path = write_tar(tmp_path / "a.tar", [(name, content)])
        with pytest.raises(DataError, match="or one of objects, which are never unpickled"):
            open_webdataset([path], SINGLE_INPUT)
    path = write_tar(tmp_path / "a.tar", [("0.pkl", b"\x80\x04."), ("0.cls", b"1")])
    with pytest.raises(DataError, match=r"needs one image, sound file or \.npy"):
        open_webdataset([path], SINGLE_INPUT)


def test_paths_and_links_lead_nowhere(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [("../../etc/0.png", png(RGB[0])), ("/1.png", png(RGB[1]))]
    )
    ids, images, _ = joined(open_webdataset([path], SINGLE_INPUT))
    assert ids == ["../../etc/0", "/1"]  # names and no paths: nothing is ever unpacked
    np.testing.assert_array_equal(images, RGB[:2])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("0.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(DataError, match=r"0\.png, is a link or not a regular file"):
            open_webdataset([path], SINGLE_INPUT)


def test_one_sample_is_held_until_one_can_be_read(tmp_path: Path) -> None:
    values = np.zeros((1 << 20,), np.uint8)
    members = [(f"{i:03}.npy", npy(values)[: -1 if i < 20 else None]) for i in range(40)]
    path = write_tar(tmp_path / "a.tar", members)
    tracemalloc.start()
    try:
        source = open_webdataset(
            [path], replace(SINGLE_INPUT, images=ImageOptions(skip_unreadable=True))
        )
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert source.inputs[0].shape == values.shape
    faults = [row for block in source.blocks(40) for row in block.faults]
    assert faults == list(range(20))


def test_a_cut_or_broken_archive_is_never_a_shorter_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(range(4)))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in (*range(0, end, 256), end - end % 512, end + 511 - (end - 1) % 512):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cut short or damaged"):
            open_webdataset([path], SINGLE_INPUT)
    place = whole.index(b"./d/002.png")
    path.write_bytes(whole[: place + 150] + b"\xff" + whole[place + 151 :])
    with pytest.raises(DataError, match=r"damaged after \./d/001\.json .*header is missing"):
        open_webdataset([path], SINGLE_INPUT)


def test_a_gzip_checksum_is_compared(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", samples(range(4)), "w:gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="cut short or damaged"):
        open_webdataset([path], SINGLE_INPUT)


def test_sizes_are_limited(tmp_path: Path) -> None:
    def header(size: int, kind: bytes) -> bytes:
        info = tarfile.TarInfo("0.png")
        info.size, info.type = size, kind
        return info.tobuf(tarfile.PAX_FORMAT)

    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
            file.write(header(8**11 - 1, kind))
        with pytest.raises(DataError, match="the limit is 268435456|a header of 8589934592 bytes"):
            open_webdataset([tmp_path / "a.tar.gz"], SINGLE_INPUT)


def test_archives_without_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no samples"):
        open_webdataset([write_tar(tmp_path / "a.tar", [])], SINGLE_INPUT)
    (tmp_path / "b.tar").write_bytes(b"")
    with pytest.raises(DataError, match="cut short or damaged"):
        open_webdataset([tmp_path / "b.tar"], SINGLE_INPUT)
