from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import resample_poly

from cnatool.data.audio.decode import Sound
from cnatool.data.audio.transform import fixed_length, resample, transform_sound
from cnatool.errors import UsageError
from cnatool.records.sound import ASTSpectrogram, SoundTransform, WhisperSpectrogram


def signal(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "target"),
    [(44_100, 16_000), (8000, 16_000), (48_000, 16_000), (16_000, 11_025), (7919, 8009)],
)
def test_resampling_is_that_of_scipy(rate: int, target: int) -> None:
    values = signal(3001)
    divisor = math.gcd(rate, target)
    expected = resample_poly(values.astype(np.float64), target // divisor, rate // divisor)
    found = resample(values, rate, target)
    assert found.dtype == np.float32
    assert len(found) == math.ceil(3001 * target / rate)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_tone_stays_a_tone_and_higher_ones_vanish() -> None:
    seconds = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    inner = slice(500, -500)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resample(tone, 44_100, 16_000)[inner], expected[inner], atol=2e-3)
    high = np.sin(2 * np.pi * 12_000 * seconds).astype(np.float32)
    assert np.abs(resample(high, 44_100, 16_000)[inner]).max() < 2e-3


def test_normalisation_is_that_of_transformers() -> None:
    values = signal(1000) * np.float32(0.3) + np.float32(0.1)
    found = transform_sound(Sound(8000, values), SoundTransform(normalize=True))
    wide = values.astype(np.float64)
    expected = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-7)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    silent = transform_sound(Sound(8000, np.zeros(9, np.float32)), SoundTransform(normalize=True))
    assert not silent.any()


def test_sound_is_cut_before_it_is_normalised_and_padded_after_that() -> None:
    values = signal(1000) + np.float32(0.5)
    transform = SoundTransform(duration=0.05, normalize=True)
    found = transform_sound(Sound(8000, values), transform)
    cut = values[:400].astype(np.float64)
    np.testing.assert_allclose(found, (cut - cut.mean()) / np.sqrt(cut.var() + 1e-7), atol=2e-6)
    found = transform_sound(Sound(8000, values[:300]), transform)
    assert len(found) == 400
    assert not found[300:].any()
    assert found[:300].mean() == pytest.approx(0, abs=1e-6)
    assert found[:300].std() == pytest.approx(1, abs=1e-5)


def test_the_length_of_all_sounds() -> None:
    assert fixed_length(SoundTransform(), 8000) is None
    assert fixed_length(SoundTransform(duration=1.5), 8000) == 12_000
    whisper = WhisperSpectrogram(samples=160_000)
    assert fixed_length(SoundTransform(16_000, spectrogram=whisper), 16_000) == 160_000
    short = SoundTransform(16_000, duration=1, spectrogram=whisper)
    assert fixed_length(short, 16_000) == 16_000
    found = transform_sound(Sound(16_000, signal(20_000)), short)
    # Cut to a second, and then padded to ten.
    expected = transform_sound(
        Sound(16_000, signal(20_000)[:16_000]), SoundTransform(16_000, spectrogram=whisper)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoundTransform(16), "sample_rate 16: give a whole number from 100 to 1048576"),
        (lambda: SoundTransform(duration=0), r"duration 0: give seconds, from 0\.001 to 100000"),
        (lambda: SoundTransform(duration=math.nan), "duration nan"),
        (lambda: SoundTransform(spectrogram=ASTSpectrogram()), "give sample_rate as well"),
        (
            lambda: SoundTransform(8000, spectrogram=ASTSpectrogram()),
            "sample_rate 8000: filter banks of AST are those of sound at 16000 Hz",
        ),
        (
            lambda: SoundTransform(8000, spectrogram=WhisperSpectrogram()),
            "sample_rate 8000: mel filters of Whisper reach 8 kHz",
        ),
        (lambda: WhisperSpectrogram(mels=0), "mels 0: give a whole number from 1 to 1024"),
        (lambda: WhisperSpectrogram(samples=100), "samples 100: give more than half a window"),
        (lambda: WhisperSpectrogram(hop=401), "hop 401: give a whole number from 1 to 400"),
        (lambda: ASTSpectrogram(std=0), "give finite numbers, std other than 0"),
    ],
)
def test_settings_that_make_no_sense(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]
