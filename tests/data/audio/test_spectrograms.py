from __future__ import annotations

import math
import re

import numpy as np
import pytest

from cnatool.data.audio.decode import Sound
from cnatool.data.audio.spectrograms import compute_spectrogram
from cnatool.data.audio.transform import transform_sound
from cnatool.errors import DataError
from cnatool.records.sound import ASTSpectrogram, SoundTransform, WhisperSpectrogram

RATE = 16_000
# Of `signal`, some values and the sum of all, as transformers 5.24 computes them without PyTorch.
WHISPER, WHISPER_SUM = [-0.18982255, 0.79596394, 0.84994495, 0.82910323], -202127.21848524
AST, AST_SUM = [-0.58879989, 0.52692926, 0.92613494, 1.016386], 61022.34885424


def signal(length: int = 24_000) -> np.ndarray:
    values = np.random.default_rng(7).normal(size=length) * np.sin(np.arange(length) / RATE * 9)
    return (values * 0.3).astype(np.float32)


def mel_slaney(hertz: float) -> float:
    """Slaney's scale, as his Auditory Toolbox has it: linear to 1 kHz, then 27 steps for 6.4."""
    if hertz < 1000:
        return hertz * 3 / 200
    return 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def hertz_slaney(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_kaldi(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def triangle(place: float, left: float, centre: float, right: float) -> float:
    if left < place <= centre:
        return (place - left) / (centre - left)
    return (right - place) / (right - centre) if centre < place < right else 0.0


def power(frame: np.ndarray, fft: int) -> np.ndarray:
    """Power of a frame by the definition of the Fourier transform."""
    angles = -2j * np.pi * np.outer(np.arange(fft // 2 + 1), np.arange(len(frame))) / fft
    return np.abs(np.exp(angles) @ frame) ** 2


def whisper_frames(values: np.ndarray, samples: int, mels: int, frames: list[int]) -> np.ndarray:
    """Logarithms of the mels of some frames, (mels, frames), before they are clamped."""
    padded = np.zeros(samples)
    padded[: len(values)] = values[:samples]
    padded = np.concatenate([padded[200:0:-1], padded, padded[-2:-202:-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    corners = [hertz_slaney(mel_slaney(8000) * i / (mels + 1)) for i in range(mels + 2)]
    bins = [RATE / 400 * k for k in range(201)]
    columns = []
    for frame in frames:
        spectrum = power(padded[frame * 160 :][:400] * window, 400)
        sums = [
            sum(triangle(b, *corners[m : m + 3]) * p for b, p in zip(bins, spectrum, strict=True))
            * (2 / (corners[m + 2] - corners[m]))
            for m in range(mels)
        ]
        columns.append([math.log10(max(value, 1e-10)) for value in sums])
    return np.array(columns).T


@pytest.mark.parametrize("mels", [80, 128])
def test_whisper_follows_its_definition(mels: int) -> None:
    values = signal()
    spectrogram = WhisperSpectrogram(samples=16_000, mels=mels)
    found = compute_spectrogram(values, RATE, spectrogram)
    assert (found.shape, found.dtype) == ((mels, 100), np.float32)
    frames = [0, 1, 50, 98, 99]
    expected = whisper_frames(values, 16_000, mels, frames)
    # The clamp needs the maximum of all frames, which the result has as well.
    peak = float(found.max()) * 4 - 4
    expected = (np.maximum(expected, peak - 8) + 4) / 4
    np.testing.assert_allclose(found[:, frames], expected, atol=2e-6)
    assert found.min() >= (peak - 8 + 4) / 4 - 1e-6


def test_ast_follows_its_definition() -> None:
    values = signal()
    spectrogram = ASTSpectrogram(frames=200, mean=1.5, std=2.0)
    found = compute_spectrogram(values, RATE, spectrogram)
    assert (found.shape, found.dtype) == ((200, 128), np.float32)
    corners = [mel_kaldi(20) + (mel_kaldi(8000) - mel_kaldi(20)) * i / 129 for i in range(130)]
    bins = [mel_kaldi(RATE / 512 * k) for k in range(257)]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    for frame in (0, 77, 147):
        part = values[frame * 160 :][:400].astype(np.float64)
        part -= part.mean()
        part = np.concatenate([part[:1] * (1 - 0.97), part[1:] - 0.97 * part[:-1]]) * window
        spectrum = power(part, 512)
        mel = [
            sum(triangle(b, *corners[m : m + 3]) * p for b, p in zip(bins, spectrum, strict=True))
            for m in range(128)
        ]
        expected = (np.log(np.maximum(mel, 2**-23)) - 1.5) / 4
        np.testing.assert_allclose(found[frame], expected, atol=2e-5)
    # 148 frames fit; what follows is 0 before it is normalised.
    np.testing.assert_allclose(found[148:], -1.5 / 4, rtol=1e-6)


def test_values_of_transformers() -> None:
    at = ([0, 7, 40, 79], [0, 50, 120, 127])
    whisper = SoundTransform(RATE, spectrogram=WhisperSpectrogram())
    found = transform_sound(Sound(RATE, signal()), whisper)
    np.testing.assert_allclose(found[at], WHISPER, atol=1e-6)
    assert found.sum(dtype=np.float64) == pytest.approx(WHISPER_SUM, rel=1e-7)
    ast = SoundTransform(RATE, spectrogram=ASTSpectrogram())
    found = transform_sound(Sound(RATE, signal()), ast)
    np.testing.assert_allclose(found[at], AST, atol=1e-6)
    assert found.sum(dtype=np.float64) == pytest.approx(AST_SUM, rel=1e-7)


@pytest.mark.parametrize("length", [1, 400, 16_000, 500_000])
@pytest.mark.parametrize("normalize", [False, True])
def test_equal_to_the_extractor_of_transformers(length: int, *, normalize: bool) -> None:
    extractors = pytest.importorskip("transformers")
    extractor = extractors.WhisperFeatureExtractor(feature_size=128)
    padded = extractor.pad(
        {"input_features": [signal(length)[:, None]]},
        padding="max_length",
        max_length=480_000,
        truncation=True,
        return_attention_mask=normalize,
    )
    values = padded["input_features"]
    if normalize:
        values = extractor.zero_mean_unit_var_norm(values, padded["attention_mask"])
    expected = extractor._np_extract_fbank_features(np.array(values)[..., 0], "cpu")[0]
    transform = SoundTransform(RATE, normalize=normalize, spectrogram=WhisperSpectrogram(mels=128))
    np.testing.assert_array_equal(transform_sound(Sound(RATE, signal(length)), transform), expected)


def test_sound_shorter_than_a_window() -> None:
    transform = SoundTransform(RATE, spectrogram=ASTSpectrogram())
    message = "399 samples are shorter than a window of a spectrogram, 400"
    with pytest.raises(DataError, match=re.escape(message)):
        transform_sound(Sound(RATE, signal(399)), transform)
    assert transform_sound(Sound(RATE, signal(400)), transform).shape == (1024, 128)
