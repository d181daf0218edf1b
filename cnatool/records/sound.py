"""Typed records of sound: what is stored of it, and how it becomes a model's input.

They hold settings only; `cnatool.data.audio` applies them.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from cnatool.errors import UsageError

# Rates beyond these are mistakes, such as kHz for Hz.
LEAST_RATE, MOST_RATE = 100, 1 << 20
# No model takes more at once; a file of settings must not claim any amount of memory.
_MOST_SAMPLES = 1 << 27
# The rate at which the windows of AST's extractor last 25 ms.
_AST_RATE = 16_000
_WHISPER_RATE = 16_000


class SoundRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stored sound: the amplitudes of one channel, from -1 to 1 at full scale.

    Attributes
    ----------
    sample_rate : int or None
        Amplitudes a second; null where files may have different rates.
    mixed : bool
        Whether files of several channels were replaced by the mean of these.
    read_by : str
        Library that decoded the files, with its version.
    """

    sample_rate: int | None
    mixed: bool
    read_by: str


class WhisperSpectrogram(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="whisper"
):
    """Log-mel spectrogram of Whisper: (mels, samples // hop).

    Sound is cut to its first ``samples``, or padded with zeros behind its end. Windows of Hann are
    centred, with reflected ends; mel filters are Slaney's. The logarithm to base 10 of the power is
    clamped to 8 below its maximum, and 4 is added before it is divided by 4.

    Attributes
    ----------
    kind : "whisper"
        Tells the kinds of spectrograms apart.
    samples : int
        Length of the sound in samples.
    mels : int
        Number of mel filters.
    fft, hop : int
        Length of a window, and the distance of two, in samples.
    """

    samples: int = 480_000
    mels: int = 80
    fft: int = 400
    hop: int = 160

    def __post_init__(self) -> None:
        _check("samples", self.samples, 1, _MOST_SAMPLES)
        _check("mels", self.mels, 1, 1024)
        _check("fft", self.fft, 2, 1 << 16)
        _check("hop", self.hop, 1, self.fft)
        if self.samples <= self.fft // 2 or self.samples < self.hop:
            raise UsageError(f"samples {self.samples}: give more than half a window of {self.fft}.")

    def __str__(self) -> str:
        return f"log-mel spectrogram of Whisper, {self.mels}×{self.samples // self.hop}"


class ASTSpectrogram(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ast"
):
    """Log-mel filter banks of the Audio Spectrogram Transformer: (frames, mels).

    Kaldi's: windows of Hann of 25 ms every 10 ms at 16 kHz without their mean, pre-emphasis 0.97,
    a Fourier transform of 512 samples, Kaldi's mel filters from 20 Hz to 8 kHz, and the natural
    logarithm. Frames are cut or padded with zeros behind the end, before normalisation.

    Attributes
    ----------
    kind : "ast"
        Tells the kinds of spectrograms apart.
    frames, mels : int
        Number of frames, and of mel filters.
    mean, std : float
        The mean is subtracted, and the result divided by twice ``std``; 0 and 0.5 change nothing.
    """

    frames: int = 1024
    mels: int = 128
    mean: float = -4.2677393
    std: float = 4.5689974

    def __post_init__(self) -> None:
        _check("frames", self.frames, 1, 1 << 20)
        _check("mels", self.mels, 1, 1024)
        if not abs(self.mean) <= 1e30 or not 1e-30 <= abs(self.std) <= 1e30:
            raise UsageError(
                f"mean {self.mean:g} and std {self.std:g}: give finite numbers, std other than 0."
            )

    def __str__(self) -> str:
        return f"log-mel filter banks of AST, {self.frames}×{self.mels}"


Spectrogram: TypeAlias = WhisperSpectrogram | ASTSpectrogram


class SoundTransform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How stored sound becomes a model's input, in this order.

    Attributes
    ----------
    sample_rate : int or None
        Rate that sound is resampled to; absent if it keeps its own.
    resampled_by : str or None
        Library that resamples, with its version.
    duration : float or None
        Seconds that sound is cut to, or padded to with zeros behind its end; absent if it is not.
    normalize : bool
        Whether the mean of each sound is subtracted, and the result divided by its standard
        deviation: the root of the variance and 1e-7. Padding stays 0.
    spectrogram : WhisperSpectrogram or ASTSpectrogram or None
        The spectrogram that is computed last; absent if amplitudes are fed.
    """

    sample_rate: int | None = None
    resampled_by: str | None = None
    duration: float | None = None
    normalize: bool = False
    spectrogram: Spectrogram | None = None

    def __post_init__(self) -> None:
        if self.sample_rate is not None:
            _check("sample_rate", self.sample_rate, LEAST_RATE, MOST_RATE)
        if self.duration is not None and not 1e-3 <= self.duration <= 1e5:
            raise UsageError(f"duration {self.duration:g}: give seconds, from 0.001 to 100000.")
        if self.spectrogram is None:
            return
        if self.sample_rate is None:
            raise UsageError("a spectrogram needs the rate of the sound: give sample_rate as well.")
        if isinstance(self.spectrogram, WhisperSpectrogram) and self.sample_rate < _WHISPER_RATE:
            raise UsageError(
                f"sample_rate {self.sample_rate}: mel filters of Whisper reach 8 kHz, which "
                f"takes at least {_WHISPER_RATE} samples a second."
            )
        if isinstance(self.spectrogram, ASTSpectrogram) and self.sample_rate != _AST_RATE:
            raise UsageError(
                f"sample_rate {self.sample_rate}: filter banks of AST are those of sound at "
                f"{_AST_RATE} Hz."
            )

    def __str__(self) -> str:
        done = []
        if self.sample_rate is not None:
            done.append(f"at {self.sample_rate:,} Hz")
        if self.duration is not None:
            done.append(f"cut or padded to {self.duration:g} s")
        if self.normalize:
            done.append("normalized to mean 0 and variance 1")
        if self.spectrogram is not None:
            done.append(f"as {self.spectrogram}")
        return "sound " + ", ".join(done or ["as it is"])


def _check(word: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{word} {value}: give a whole number from {least} to {most}.")
