from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.files import write_tar
from support.sounds import noise, wave_bytes, write_wave

from cnatool.data.detect import open_source
from cnatool.data.formats.audio_folder import open_audio_folder
from cnatool.data.selection import ArraySelection, ImageOptions, SoundOptions
from cnatool.data.source import Block, SampleError
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged
from cnatool.records.sound import SoundTransform, WhisperSpectrogram

soundfile = pytest.importorskip("soundfile")

SKIP = ArraySelection(images=ImageOptions(skip_unreadable=True))


def selection(mono: bool = False, **transform: Any) -> ArraySelection:
    return ArraySelection(sound=SoundOptions(mono, SoundTransform(**transform)))


def flac(values: np.ndarray, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format="FLAC")
    return file.getvalue()


def sounds(block: Block) -> list[list[float]]:
    [rows] = block.inputs
    assert isinstance(rows, Ragged)
    return [row.tolist() for row in rows]


def scaled(*lengths: int) -> list[list[float]]:
    """Amplitudes of sounds of some lengths, each of them the seed of its noise."""
    return [(noise(length, length) / 32768).tolist() for length in lengths]


def fill(folder: Path, lengths: dict[str, int], rate: int = 16_000) -> Path:
    for name, length in lengths.items():
        write_wave(folder / name, noise(length, length), rate)
    return folder


def test_classes_files_and_blocks_come_in_order(tmp_path: Path) -> None:
    folder = fill(tmp_path / "words", {"no/b.WAV": 50, "no/a.wav": 30, "yes/ü.wav": 70})
    (folder / "yes" / "é.flac").write_bytes(flac(noise(90, 90)))
    (folder / "yes" / "notes.txt").write_text("no sound")
    (folder / "yes" / "._a.wav").write_text("no sound")
    (folder / "empty").mkdir()
    source = open_source(folder)
    assert (source.name, source.rows, source.classes) == ("words", 4, ("no", "yes"))
    assert source.notes == (
        f"1 file in {folder} without the extension of a sound file ignored (.txt)",
        f"folder empty in {folder} without sound files: no class",
    )
    [spec] = source.inputs
    assert (spec.name, spec.dtype, spec.shape, spec.ragged_axis) == ("sound", np.float32, (60,), 0)
    assert (spec.kind, spec.transformed) == ("sound", None)
    assert spec.sound is not None
    assert (spec.sound.sample_rate, spec.sound.mixed) == (16_000, False)
    assert spec.sound.read_by == f"libsndfile {soundfile.__libsndfile_version__}"
    one, two = source.blocks(3)
    assert one.ids == ["no/a.wav", "no/b.WAV", "yes/é.flac"]
    assert two.ids == ["yes/ü.wav"]
    assert one.labels is not None
    assert one.labels.tolist() == [0, 0, 1]
    assert sounds(one) == scaled(30, 50, 90)
    assert sounds(two) == scaled(70)
    assert one.transformed == ()
    [last] = source.blocks(9, limit=2, start=2)
    assert last.ids == ["yes/é.flac", "yes/ü.wav"]


def test_a_folder_without_classes(tmp_path: Path) -> None:
    source = open_source(fill(tmp_path, {"b.wav": 20, "a.wav": 10}))
    assert not source.labelled
    [block] = source.blocks(9)
    assert (block.ids, block.labels) == (["a.wav", "b.wav"], None)
    assert sounds(block) == scaled(10, 20)


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv"])
def test_a_table_lists_names_and_labels(tmp_path: Path, name: str) -> None:
    fill(tmp_path, {"b.wav": 20, "a.wav": 10, "c.wav": 30})
    (tmp_path / name).write_text("file_name,label\nb.wav,dog\nc.wav,cat\n")
    source = open_source(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.notes == (
        f"{tmp_path / name} lists 2 of 3 sound files in its folders; the others are left out",
    )
    [block] = source.blocks(9)
    assert block.ids == ["b.wav", "c.wav"]
    assert block.labels is not None
    assert block.labels.tolist() == [1, 0]
    assert sounds(block) == scaled(20, 30)


def test_splits_are_folders(tmp_path: Path) -> None:
    lengths = {"train/a/0.wav": 10, "train/b/0.wav": 20, "test/a/1.wav": 30, "test/b/1.wav": 40}
    fill(tmp_path, lengths)
    sources = open_splits(tmp_path, {}, ArraySelection(), ReaderOptions(), lambda _: None)
    assert {name: source.rows for name, source in sources.items()} == {"train": 2, "test": 2}
    assert sources["test"].classes == ("a", "b")


def test_folders_with_images_and_sound_files_are_asked_about(tmp_path: Path) -> None:
    fill(tmp_path, {"a/0.wav": 10})
    (tmp_path / "a" / "0.png").write_bytes(b"")
    message = (
        "can be read as a folder of images by class or as a folder of sound files by class: choose "
        "one with `format=pictures` or `format=sounds`."
    )
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)
    assert open_source(tmp_path, format_name="sounds").rows == 1


def test_parquet_and_webdataset(tmp_path: Path) -> None:
    contents = [flac(noise(length, length)) for length in (30, 10, 20)]
    cells = [{"bytes": content, "path": f"{i}.flac"} for i, content in enumerate(contents)]
    pl.DataFrame({"audio": cells, "label": [1, 0, 1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"audio": contents, "label": [1, 0, 1]}).write_parquet(tmp_path / "b.parquet")
    members = [
        member
        for i, (content, label) in enumerate(zip(contents, "101", strict=True))
        for member in ((f"{i}.flac", content), (f"{i}.cls", label.encode()))
    ]
    write_tar(tmp_path / "c.tar", members)
    for name in ("a.parquet", "b.parquet", "c.tar"):
        source = open_source(tmp_path / name)
        [spec] = source.inputs
        assert (spec.kind, spec.shape, spec.ragged_axis) == ("sound", (20,), 0)
        assert spec.name == ("flac" if name == "c.tar" else "audio")
        one, two = source.blocks(2)
        assert sounds(one) + sounds(two) == scaled(30, 10, 20)
        assert one.labels is not None
        assert one.labels.tolist() == [1, 0]
        assert two.ids == ["2"]


def test_sound_in_parquet_that_cannot_be_read(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"bytes": flac(noise(30, 30)), "path": None},
        {"bytes": None, "path": "x.flac"},
        {"bytes": flac(noise(30))[:100], "path": None},
    ]
    path = tmp_path / "a.parquet"
    pl.DataFrame({"audio": cells}).write_parquet(path)
    with pytest.raises(
        SampleError, match="row 1, holds no bytes of a sound file: save sound files"
    ):
        list(open_source(path).blocks(9))
    [block] = open_source(path, SKIP).blocks(9)
    assert sorted(block.faults) == [1, 2]
    assert sounds(block) == [*scaled(30), [], []]


def test_rates_that_differ_are_asked_about(tmp_path: Path) -> None:
    fill(tmp_path, {"a/0.wav": 160, "a/1.wav": 320})
    fill(tmp_path, {"b/0.wav": 80}, rate=8000)
    message = (
        f"{tmp_path / 'b' / '0.wav'} has 8,000 samples a second and the first 16,000 "
        f"({tmp_path / 'a' / '0.wav'}): resample all of them to the rate that the model was "
        "trained with by `sample_rate=HZ`."
    )
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path)
    source = open_source(tmp_path, selection(sample_rate=8000))
    [spec] = source.inputs
    assert spec.sound is not None
    assert spec.sound.sample_rate is None
    assert spec.for_model.shape == (107,)
    assert (spec.for_model.ragged_axis, spec.for_model.kind) == (0, "sound")
    [block] = source.blocks(9)
    # What is stored keeps its own rate.
    assert sounds(block) == scaled(160, 320, 80)
    [fed] = block.transformed
    assert isinstance(fed, Ragged)
    assert fed.lengths.tolist() == [80, 160, 80]
    assert fed[2].tolist() == scaled(80)[0]


def test_a_rate_that_differs_late_is_found_as_it_is_read(tmp_path: Path) -> None:
    fill(tmp_path, {f"a/{i:03}.wav": 10 for i in range(100)})
    fill(tmp_path, {"a/999.wav": 10}, rate=8000)
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=r"999\.wav has 8,000 samples a second and the first"):
        list(source.blocks(10))


def test_several_channels(tmp_path: Path) -> None:
    stereo = np.stack([noise(50, 1), noise(50, 2)], axis=1)
    write_wave(tmp_path / "a" / "0.wav", stereo)
    fill(tmp_path, {"a/1.wav": 30})
    with pytest.raises(DataError, match=r"0\.wav has 2 channels: `mono=True` takes their mean"):
        open_source(tmp_path)
    source = open_source(tmp_path, selection(mono=True))
    assert source.inputs[0].sound is not None
    assert source.inputs[0].sound.mixed
    [block] = source.blocks(9)
    assert sounds(block) == [(stereo / 32768).mean(axis=1).tolist(), *scaled(30)]


def test_one_length_for_all(tmp_path: Path) -> None:
    fill(tmp_path, {"a.wav": 100, "b.wav": 300})
    source = open_source(tmp_path, selection(duration=200 / 16_000))
    [spec] = source.inputs
    assert (spec.for_model.shape, spec.for_model.ragged_axis) == ((200,), None)
    [block] = source.blocks(9)
    [fed] = block.transformed
    short, long = scaled(100, 300)
    np.testing.assert_array_equal(fed, [short + [0] * 100, long[:200]])
    assert sounds(block) == scaled(100, 300)


def test_spectrograms(tmp_path: Path) -> None:
    fill(tmp_path, {"a.wav": 1000, "b.wav": 3000})
    whisper = WhisperSpectrogram(samples=3200, mels=20)
    source = open_source(tmp_path, selection(sample_rate=16_000, spectrogram=whisper))
    [spec] = source.inputs
    assert (spec.for_model.shape, spec.for_model.ragged_axis) == ((20, 20), None)
    [block] = source.blocks(9)
    assert isinstance(block.transformed[0], np.ndarray)
    assert block.transformed[0].shape == (2, 20, 20)


def test_unreadable_files_are_refused_or_skipped(tmp_path: Path) -> None:
    fill(tmp_path, {"a/0.wav": 10, "a/3.wav": 30})
    (tmp_path / "a" / "1.wav").write_text("no sound, only text")
    (tmp_path / "a" / "2.wav").write_bytes(wave_bytes(noise(100))[:100])
    (tmp_path / "a" / "4.flac").write_bytes(b"")
    with pytest.raises(SampleError, match=r"1\.wav is damaged, or no sound in a known format"):
        list(open_source(tmp_path).blocks(9))
    [block] = open_source(tmp_path, SKIP).blocks(9)
    assert sorted(block.faults) == [1, 2, 4]
    assert "is cut short: its header declares 200 bytes of sound, and 56" in block.faults[2]
    assert sounds(block) == [*scaled(10), [], [], *scaled(30), []]


def test_the_first_may_be_unreadable_if_such_are_skipped(tmp_path: Path) -> None:
    fill(tmp_path, {"b.wav": 30})
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(SampleError, match=r"a\.wav is damaged"):
        open_source(tmp_path)
    [block] = open_source(tmp_path, SKIP).blocks(9)
    assert sounds(block) == [[], *scaled(30)]
    [block] = open_source(
        tmp_path,
        ArraySelection(
            images=SKIP.images, sound=SoundOptions(transform=SoundTransform(duration=0.001))
        ),
    ).blocks(9)
    assert block.transformed[0].shape == (2, 16)


def test_links_and_names(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", {"a/0.wav": 10})
    outside = write_wave(tmp_path / "outside.wav", noise(20, 20))
    (folder / "a" / "1.wav").symlink_to(outside)
    with pytest.raises(DataError, match=r"1\.wav is a symbolic link to a place outside"):
        open_audio_folder(folder)
    links = ArraySelection(images=ImageOptions(follow_links=True))
    [block] = open_audio_folder(folder, links).blocks(9)
    assert sounds(block) == scaled(10, 20)
    (folder / "a" / "1.wav").unlink()
    os.mkfifo(folder / "a" / "2.wav")
    with pytest.raises(DataError, match=r"2\.wav is named like a sound file and is not a file"):
        open_audio_folder(folder)
    (folder / "a" / "2.wav").unlink()
    write_wave(folder / "0.wav", noise(5))
    with pytest.raises(DataError, match=r"0\.wav lies outside the class folders"):
        open_audio_folder(folder)
