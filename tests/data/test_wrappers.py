"""How many samples cannot be read is said before anyone skips them, and labels are never lost."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.files import write_tar
from support.networks import mlp, saved
from support.notes import Notes

import cnatool
from cnatool.data.formats.webdataset import open_webdataset
from cnatool.data.selection import SINGLE_INPUT, ImageOptions
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError


def opened(path: Path, *, skip: bool = False) -> Source:
    reading = ReaderOptions(images=ImageOptions(skip_unreadable=skip))
    return open_splits(path, {}, SINGLE_INPUT, reading, lambda _: None)["all"]


def message(source: Source) -> str:
    with pytest.raises(DataError) as caught:
        list(source.blocks(50))
    return str(caught.value)


def ragged(path: Path, lengths: list[int]) -> Path:
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, length).tolist() for length in lengths]
    pl.DataFrame({"x": rows, "label": [i % 3 for i in range(len(rows))]}).write_parquet(path)
    return path


def test_padding_comes_first_where_most_samples_would_go(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).integers(3, 40, 200).tolist()
    path = ragged(tmp_path / "d.parquet", lengths)
    usual = max(set(lengths), key=lengths.count)
    lost = sum(length != usual for length in lengths)
    text = message(opened(path))
    assert "pad all lists to one length" in text
    assert f"{lost} of the first 200 samples ({lost / 200:.0%}) cannot be read" in text
    assert text.index("pad all lists") < text.index("`on_error=skip`")


@pytest.mark.parametrize(("ragged_rows", "rows"), [(1, 10), (1, 200), (20, 200), (21, 200)])
def test_skipping_is_advised_where_the_share_is_small(
    ragged_rows: int, rows: int, tmp_path: Path
) -> None:
    lengths = [4] * (rows - ragged_rows) + [5] * ragged_rows
    text = message(opened(ragged(tmp_path / "d.parquet", lengths)))
    assert "`on_error=skip` leaves such samples out" in text
    small = ragged_rows == 1 or ragged_rows <= 0.1 * rows
    assert ("of the first" in text) != small


def test_samples_far_behind_are_few(tmp_path: Path) -> None:
    text = message(opened(ragged(tmp_path / "d.parquet", [4] * 1200 + [5] * 800)))
    assert text.endswith("`on_error=skip` leaves such samples out.")


@pytest.mark.parametrize(("damaged", "many"), [(1, False), (30, True)])
def test_a_dump_says_how_much_it_skipped(damaged: int, many: bool, tmp_path: Path) -> None:
    saved(mlp(), tmp_path / "net.onnx")
    folder = tmp_path / "d" / "a"
    folder.mkdir(parents=True)
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
        if i >= 40 - damaged:
            (folder / f"{i:02}.png").write_bytes(b"x")
    notes = Notes()
    words = (tmp_path / "net.onnx", tmp_path / "d", tmp_path / "s.zarr")
    cnatool.dump(*words, on_error="skip", observer=notes)
    [text] = (note for note in notes.texts if "skipped" in note)
    assert ("only 10 of 40 samples are stored; 30 samples" in text) == many
    assert ("(75%)" in text) == many
    result = cnatool.score(tmp_path / "s.zarr")
    [said] = (note for note in result.notes if "could not be read" in note)
    assert (f"{damaged} of 40 samples of all (75%)" in said) == many


def png(seed: int) -> bytes:
    held = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("first", ["png", "cls"])
def test_members_apart_are_refused(first: str, skip: bool, tmp_path: Path) -> None:
    second = {"png": "cls", "cls": "png"}[first]
    contents = {"png": png, "cls": lambda i: str(i % 3).encode()}
    members = [(f"{i:03}.{e}", contents[e](i)) for e in (first, second) for i in range(6)]
    with pytest.raises(
        DataError, match=r"members of sample 000 in two places.*order of names: find"
    ):
        open_splits(
            write_tar(tmp_path / "t.tar", members), {}, SINGLE_INPUT,
            ReaderOptions(images=ImageOptions(skip_unreadable=skip)), lambda _: None,
        )  # fmt: skip


@pytest.mark.parametrize("skip", [False, True])
def test_a_first_sample_without_label_does_not_take_all_labels_away(
    skip: bool, tmp_path: Path
) -> None:
    members = [("000.png", png(0))]
    members += [m for i in range(1, 5) for m in ((f"{i}.cls", b"1"), (f"{i}.png", png(i)))]
    path = write_tar(tmp_path / "t.tar", members)
    with pytest.raises(DataError, match=r"sample 000, the first, has no label, and 4 others"):
        opened(path, skip=skip)


def test_a_dot_within_the_key(tmp_path: Path) -> None:
    members = [
        (f"clip {i}.5.{e}", png(i) if e == "png" else str(i).encode())
        for i in range(4)
        for e in ("cls", "png")
    ]
    source = open_webdataset([write_tar(tmp_path / "t.tar", members)], SINGLE_INPUT)
    [block] = source.blocks(8)
    assert block.labels is not None
    assert block.labels.tolist() == [0, 1, 2, 3]
    assert block.ids == [f"clip {i}" for i in range(4)]


@pytest.mark.parametrize("name", ["README.md", "LICENSE.txt", "dataset.json"])
def test_a_first_member_that_is_no_sample(name: str, tmp_path: Path) -> None:
    members = [(name, b"{}")]
    members += [m for i in range(4) for m in ((f"{i}.cls", b"1"), (f"{i}.png", png(i)))]
    key, extension = name.split(".")
    with pytest.raises(
        DataError, match=rf"sample {key}, the first, is not a sample: it has \.{extension} and no"
    ):
        opened(write_tar(tmp_path / "t.tar", members))
