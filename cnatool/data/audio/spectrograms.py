"""Log-mel spectrograms of two extractors of transformers, bit for bit as its NumPy code has them.

Where PyTorch is installed, `WhisperFeatureExtractor` and `ASTFeatureExtractor` compute in single
precision instead, which differs by some 1e-5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError
from cnatool.records.sound import ASTSpectrogram, WhisperSpectrogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cnatool.records.sound import Spectrogram

    Values = NDArray[np.floating[Any]]

# Frames of which the Fourier transform is taken at a time.
_FRAMES = 1 << 12
# Kaldi's windows of 25 ms every 10 ms at 16 kHz, padded to a power of two.
_FRAME, _HOP, _FFT = 400, 160, 512
_PREEMPHASIS = 0.97
_KALDI_FLOOR = 1.192092955078125e-07  # the smallest step of single precision at 1
_SLANEY_FLOOR = 1e-10
_SLANEY_MOST_HZ = 8000.0


def compute_spectrogram(values: Values, rate: int, spectrogram: Spectrogram) -> NDArray[np.float32]:
    """Compute a spectrogram of amplitudes, (n,), which are cut and padded where it needs that.

    Raises a DataError for sound that is shorter than a window.
    """
    if isinstance(spectrogram, WhisperSpectrogram):
        return _compute_whisper(values, rate, spectrogram)
    return _compute_ast(values, rate, spectrogram)


def spectrogram_shape(spectrogram: Spectrogram) -> tuple[int, int]:
    """Return the shape of a spectrogram: (mels, frames) of Whisper, (frames, mels) of AST."""
    if isinstance(spectrogram, WhisperSpectrogram):
        return spectrogram.mels, spectrogram.samples // spectrogram.hop
    return spectrogram.frames, spectrogram.mels


def _compute_whisper(
    values: Values, rate: int, spectrogram: WhisperSpectrogram
) -> NDArray[np.float32]:
    """Compute (mels, samples // hop)."""
    padded = np.zeros(spectrogram.samples, values.dtype)
    padded[: len(values)] = values[: spectrogram.samples]
    # Windows are centred, and the last one is left out.
    half = spectrogram.fft // 2
    padded = np.pad(padded, half, mode="reflect")
    window = np.hanning(spectrogram.fft + 1)[:-1]
    power = _compute_power(
        padded, spectrogram.fft, spectrogram.hop, spectrogram.fft, lambda frames: frames * window
    )
    filters = _slaney_filters(spectrogram.mels, spectrogram.fft, rate)
    mel = np.log10(np.maximum(_SLANEY_FLOOR, np.dot(filters.T, power.T)))
    values = mel.astype(np.float32)[:, : spectrogram.samples // spectrogram.hop]
    values = np.maximum(values, values.max() - 8.0)
    return np.ascontiguousarray((values + 4.0) / 4.0, np.float32)


def _compute_ast(values: Values, rate: int, spectrogram: ASTSpectrogram) -> NDArray[np.float32]:
    """Compute (frames, mels)."""
    if len(values) < _FRAME:
        raise DataError(
            f"{len(values)} samples are shorter than a window of a spectrogram, {_FRAME}."
        )
    values = values[: (spectrogram.frames - 1) * _HOP + _FRAME]
    window = np.hanning(_FRAME)

    def emphasize(frames: Values) -> Values:
        frames = frames - frames.mean(axis=1, keepdims=True)
        emphasized = frames.copy()
        emphasized[:, 1:] -= _PREEMPHASIS * frames[:, :-1]
        emphasized[:, 0] *= 1 - _PREEMPHASIS
        return emphasized * window

    power = _compute_power(values, _FRAME, _HOP, _FFT, emphasize)
    mel = np.maximum(_KALDI_FLOOR, np.dot(_kaldi_filters(spectrogram.mels, rate).T, power.T))
    banks = np.zeros((spectrogram.frames, spectrogram.mels), np.float32)
    banks[: mel.shape[1]] = np.log(mel).astype(np.float32).T
    return np.asarray((banks - spectrogram.mean) / (spectrogram.std * 2), np.float32)


def _compute_power(
    values: Values, length: int, hop: int, fft: int, prepare: Callable[[Values], Values]
) -> NDArray[np.float64]:
    """Compute the power of frames, (frames, fft // 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(values, length)[::hop]
    power = np.empty((len(frames), fft // 2 + 1))
    for start in range(0, len(frames), _FRAMES):
        part = prepare(frames[start : start + _FRAMES].astype(np.float64))
        # In single precision, as in transformers.
        spectrum = np.fft.rfft(part, fft, axis=1).astype(np.complex64)
        power[start : start + _FRAMES] = np.abs(spectrum, dtype=np.float64) ** 2.0
    return power


@lru_cache(maxsize=8)
def _slaney_filters(mels: int, fft: int, rate: int) -> NDArray[np.float64]:
    """Return mel filters (fft // 2 + 1, mels) that are linear up to 1 kHz and of equal area."""
    corners = _slaney_to_hertz(np.linspace(0.0, _hertz_to_slaney(_SLANEY_MOST_HZ), mels + 2))
    filters = _triangles(np.linspace(0, rate // 2, fft // 2 + 1), corners)
    filters *= 2.0 / (corners[2:] - corners[:-2])
    return filters


@lru_cache(maxsize=8)
def _kaldi_filters(mels: int, rate: int) -> NDArray[np.float64]:
    """Return mel filters (257, mels) that are triangles on the scale of mels."""
    corners = np.linspace(_hertz_to_kaldi(20), _hertz_to_kaldi(rate // 2), mels + 2)
    bins = rate / ((_FFT // 2 + 1 - 1) * 2) * np.arange(_FFT // 2 + 1)
    return _triangles(_hertz_to_kaldi(bins), corners)


def _triangles(places: Values, corners: Values) -> NDArray[np.float64]:
    """Return triangles between every other corner, at some places, (places, corners - 2)."""
    widths = np.diff(corners)
    slopes = corners[None, :] - places[:, None]
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return np.maximum(0.0, np.minimum(rising, falling))


def _hertz_to_kaldi(hertz: Any) -> Any:
    return 1127.0 * np.log(1.0 + hertz / 700.0)


def _hertz_to_slaney(hertz: float) -> float:
    """Convert a frequency of at least 1 kHz, from where on the scale is logarithmic."""
    return float(15.0 + np.log(hertz / 1000.0) * (27.0 / np.log(6.4)))


def _slaney_to_hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    hertz: NDArray[np.float64] = 200.0 * mels / 3.0
    above = mels >= 15.0
    hertz[above] = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels[above] - 15.0))
    return hertz
