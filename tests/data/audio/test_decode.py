from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sounds import noise, wave_bytes, write_wave

from cnatool.data.audio.decode import SoundHeader, decode_sound, read_header
from cnatool.data.source import SampleError
from cnatool.errors import DataError

soundfile = pytest.importorskip("soundfile")


def encode(values: np.ndarray, rate: int = 16_000, **how: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, **how)
    return file.getvalue()


@pytest.mark.parametrize(
    ("bits", "least"), [(8, -128), (16, -32768), (24, -(2**23)), (32, -(2**31))]
)
def test_whole_numbers_are_divided_by_full_scale(bits: int, least: int) -> None:
    values = np.array([least, -1, 0, 1, -least // 3, -least - 1])
    sound = decode_sound("a.wav", wave_bytes(values, 8000, bits))
    assert sound.rate == 8000
    assert sound.amplitudes.dtype == np.float32
    expected = (values / -least).astype(np.float32)
    # libsndfile multiplies 32 bits by a float, so that the last bit may differ.
    assert np.abs(sound.amplitudes - expected).max() <= (2e-7 if bits == 32 else 0)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_are_not_clipped(bits: int) -> None:
    values = np.array([0.1, -1.75, 1e-30, 2.5])
    sound = decode_sound("a.wav", wave_bytes(values, bits=bits))
    np.testing.assert_array_equal(sound.amplitudes, values.astype(np.float32))


def test_mu_law_follows_its_formula() -> None:
    codes = np.arange(256)
    head = wave_bytes(np.zeros(256, np.int16), bits=8)
    content = head[:20] + struct.pack("<H", 7) + head[22:44] + bytes(range(256))
    inverted = 255 - codes
    magnitude = (((inverted & 15) << 3) + 132 << ((inverted >> 4) & 7)) - 132
    expected = np.where(codes < 128, -magnitude, magnitude) / 32768
    np.testing.assert_array_equal(decode_sound("a.wav", content).amplitudes, expected)


@pytest.mark.parametrize("how", [{"format": "FLAC"}, {"format": "FLAC", "subtype": "PCM_24"}])
def test_flac_is_lossless(how: dict[str, Any]) -> None:
    values = noise(5000)
    content = encode(values, **how)
    np.testing.assert_array_equal(decode_sound("a.flac", content).amplitudes, values / 32768)


@pytest.mark.parametrize(
    "how",
    [
        {"format": "OGG", "subtype": "VORBIS"},
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "MP3"},
    ],
)
def test_lossy_files_keep_length_and_shape(how: dict[str, Any]) -> None:
    values = 0.5 * np.sin(np.arange(16_000) / 20)
    sound = decode_sound("a", encode(values, **how))
    assert sound.amplitudes.shape == values.shape
    assert np.corrcoef(sound.amplitudes, values)[0, 1] > 0.99


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    values = noise(100)
    path = tmp_path / "a.flac"
    path.write_bytes(wave_bytes(values))
    np.testing.assert_array_equal(decode_sound("a", path).amplitudes, values / 32768)
    path = tmp_path / "a.wav"
    path.write_bytes(encode(values, format="FLAC"))
    np.testing.assert_array_equal(decode_sound("a", path).amplitudes, values / 32768)


def test_mono_is_the_mean_of_the_channels() -> None:
    values = np.stack([noise(70_000, seed) for seed in range(8)], axis=1)
    content = wave_bytes(values)
    assert read_header("a.wav", content) == SoundHeader(16_000, 8, 70_000)
    message = r"^a\.wav has 8 channels: `mono=True` takes their mean, or save the channel"
    with pytest.raises(DataError, match=message):
        decode_sound("a.wav", content)
    expected = (values / 32768).mean(axis=1).astype(np.float32)
    np.testing.assert_array_equal(decode_sound("a.wav", content, mono=True).amplitudes, expected)
    one = decode_sound("a.wav", wave_bytes(values[:, 0]), mono=True)
    np.testing.assert_array_equal(one.amplitudes, values[:, 0] / 32768)


WAVE = wave_bytes(noise(1000))
VORBIS = encode(noise(16_000), format="OGG", subtype="VORBIS")
FLAC = encode(noise(16_000), format="FLAC")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WAVE[:1000], r"is cut short: its header declares 2,000 bytes of sound, and 956 bytes"),
        (
            WAVE[:44],
            r"declares 2,000 bytes of sound, and 0 bytes follow\. Get a complete copy of it;",
        ),
        (WAVE[:40], "is a WAV file without data"),
        (WAVE[:16], "is a WAV file without data"),
        (
            WAVE[:8],
            r"is damaged, or no sound in a known format \(WAV, FLAC, OGG or MP3\)\. Replace",
        ),
        (VORBIS[:-100], "is cut short, or was never finished: the mark of its end is missing"),
        (VORBIS[:30], "is cut short, or was never finished"),
        (FLAC[: len(FLAC) // 2], "is (cut short or )?damaged"),
        (FLAC[:30], "is damaged, or no sound in a known format .*libsndfile: "),
        (b"", "is damaged, or no sound in a known format"),
        (b"no sound, only text\n" * 9, "is damaged, or no sound in a known format"),
        (POINTER, "is a Git LFS pointer, not a sound. Run `git lfs pull`"),
        (wave_bytes(np.zeros(0, np.int16)), "holds no sound: it has no frames"),
        (wave_bytes(np.array([0.0, np.nan, 1]), bits=32), r"not finite \(nan in frame 1\)"),
        (wave_bytes(np.array([0.0, 1, 1e300]), bits=64), r"not finite \(inf in frame 2\)"),
        (wave_bytes(noise(9), rate=3), "declares 3 samples a second, which is no rate of sound"),
    ],
    # Not of the contents: streams of Ogg have random numbers.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(SampleError, match=message) as caught:
            decode_sound(str(path), source)
        assert str(caught.value).startswith(str(path))
        assert str(caught.value).endswith("`on_error=skip` leaves such samples out.")


def test_every_cut_is_noticed() -> None:
    rng = np.random.default_rng(0)
    for whole in (WAVE, VORBIS, FLAC, encode(noise(4000), format="WAVEX")):
        for cut in rng.integers(0, len(whole), 60):
            with pytest.raises(SampleError):
                decode_sound("a", whole[:cut])


def test_a_wave_of_unknown_size_ends_with_the_file() -> None:
    streamed = WAVE[:40] + b"\xff\xff\xff\xff" + WAVE[44:]
    np.testing.assert_array_equal(decode_sound("a", streamed).amplitudes, noise(1000) / 32768)


def test_chunks_before_and_behind_the_data_are_left_aside() -> None:
    chunk = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    content = WAVE[:36] + chunk + WAVE[36:] + chunk
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    np.testing.assert_array_equal(decode_sound("a", content).amplitudes, noise(1000) / 32768)


def test_a_header_cannot_claim_any_amount_of_memory() -> None:
    # STREAMINFO: 20 bits of rate, 3 of channels, 5 of bits, 36 of samples.
    info = bytearray(FLAC)
    info[21:26] = (2**36 - 1 | (info[21] & 0xF0) << 32).to_bytes(5, "big")
    tracemalloc.start()
    with pytest.raises(SampleError, match=r"68,719,476,735 frames, .* the limit is .* Cut it into"):
        decode_sound("a.flac", bytes(info))
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", noise(10))
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(SampleError, match=r"a\.wav cannot be read \(Permission denied\)"):
            decode_sound(str(path), path)
    with pytest.raises(SampleError, match=r"b\.wav cannot be read \(No such file"):
        decode_sound("b.wav", tmp_path / "b.wav")


def test_without_the_package_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from cnatool.data.audio.decode import describe_reader\n"
        "describe_reader()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (
        "sound is read with soundfile, which is not installed: python -m pip install "
        "'cnatool[audio]'"
    ) in done.stderr
