"""Resampling, cutting and normalisation of sound, as the usual extractors of features do them."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.audio.spectrograms import compute_spectrogram
from cnatool.data.budget import Budget
from cnatool.records.sound import SoundTransform, WhisperSpectrogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.data.audio.decode import Sound

# The variance is added to this before its root is taken, as in transformers.
_EPSILON = 1e-7
# Values in double precision that threads hold together.
_BUDGET = Budget(1 << 26)


def describe_resampler() -> str:
    """Return the library that resamples, with its version."""
    return f"scipy {metadata.version('scipy')}"


def transform_sound(sound: Sound, transform: SoundTransform) -> NDArray[np.float32]:
    """Turn the amplitudes of one file into what a model receives.

    Parameters
    ----------
    sound : Sound
    transform : SoundTransform

    Returns
    -------
    ndarray of float32
        Amplitudes (n,), or a spectrogram of `spectrogram_shape`.

    Raises
    ------
    DataError
        If the sound is too short for a spectrogram.
    """
    values, rate = sound.amplitudes, sound.rate
    if transform.sample_rate not in (None, rate):
        values, rate = resample(values, rate, transform.sample_rate), transform.sample_rate
    length = fixed_length(transform, rate)
    values = values[:length]
    if transform.normalize:
        values = (values - values.mean()) / np.sqrt(values.var() + _EPSILON)
    if length is not None and len(values) < length:
        values = np.concatenate([values, np.zeros(length - len(values), np.float32)])
    if transform.spectrogram is None:
        return values
    # A spectrogram takes several values in double precision for each amplitude.
    with _BUDGET.reserve(8 * len(values)):
        return compute_spectrogram(values, rate, transform.spectrogram)


def fixed_length(transform: SoundTransform, rate: int) -> int | None:
    """Return the amplitudes that all sounds have after cutting and padding; None if they differ."""
    lengths = [] if transform.duration is None else [max(1, round(transform.duration * rate))]
    if isinstance(transform.spectrogram, WhisperSpectrogram):
        lengths.append(transform.spectrogram.samples)
    return min(lengths, default=None)


def resample(values: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """Resample amplitudes, (n,), to another rate: (ceil(n · target / rate),).

    `scipy.signal.resample_poly` with its own filter, in double precision, rounded once: the ratio
    of the rates is reduced to up/down; a low-pass filter of 20 · max(up, down) + 1 taps, windowed
    by Kaiser's with β = 5, is applied without shift, and the signal is zero beyond its ends.
    """
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, target)
    up, down = target // divisor, rate // divisor
    with _BUDGET.reserve(len(values) + math.ceil(len(values) * up / down)):
        filtered = resample_poly(values.astype(np.float64), up, down, window=_design(up, down))
        return np.asarray(filtered, np.float32)


@lru_cache(maxsize=8)
def _design(up: int, down: int) -> NDArray[Any]:
    """Design the filter that `resample_poly` has by default, which it would do for each sound."""
    from scipy.signal import firwin

    most = max(up, down)
    window: NDArray[Any] = firwin(20 * most + 1, 1.0 / most, window=("kaiser", 5.0))
    return window
