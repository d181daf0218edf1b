"""Decoding of one sound file, from a file or from bytes, to the amplitudes of one channel."""

from __future__ import annotations

import errno
import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from cnatool._util.observer import working_on
from cnatool._util.text import bytes_text, one_line, printable
from cnatool.data.audio.containers import FORMATS, REPLACE_ADVICE, check_container
from cnatool.data.source import MAX_SAMPLE_BYTES, SampleError
from cnatool.errors import DataError, UsageError
from cnatool.records.sound import LEAST_RATE, MOST_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

# A file, or what is in one.
Content: TypeAlias = Path | bytes

# Frames of several channels that are decoded at a time.
_FRAMES = 1 << 16
# Errors of a file that is not as it should be; others are of the system.
_FILE_ERRORS = (None, errno.ENOENT, errno.EISDIR, errno.EACCES, errno.EPERM)


class SoundHeader(NamedTuple):
    """What a file says about its sound."""

    rate: int  # frames a second
    channels: int
    frames: int


class Sound(NamedTuple):
    """Sound of one channel."""

    rate: int  # amplitudes a second
    amplitudes: NDArray[np.float32]  # (n,); full scale is from -1 to 1


def describe_reader() -> str:
    """Return the library that decodes sound, with its version; raise a UsageError without it."""
    version: str = _import_soundfile().__libsndfile_version__
    return f"libsndfile {version}"


def read_header(where: str, content: Content) -> SoundHeader:
    """Read what a file says about its sound; raise a SampleError if it cannot be read."""
    with _open(where, content) as file:
        return _check_header(where, file)


def describe_channels(where: str, header: SoundHeader) -> str | None:
    """Describe that a file has several channels; None if it has one."""
    if header.channels == 1:
        return None
    return (
        f"{where} has {header.channels} channels: `mono=True` takes their mean, or save the "
        "channel that you want."
    )


def decode_sound(where: str, content: Content, *, mono: bool = False) -> Sound:
    """Decode a file to single precision, as libsndfile does.

    Whole numbers of b bits are divided by 2^(b − 1). Floats, and what Vorbis and MP3 decode to, may
    lie beyond -1 and 1, and are not clipped.

    Parameters
    ----------
    where : str
        The sound, for messages.
    content : Path or bytes
    mono : bool
        Whether several channels are replaced by their mean.

    Raises
    ------
    SampleError
        If the file is damaged, empty, or too long.
    DataError
        If it has several channels and not ``mono``, or if the system fails.
    """
    with _open(where, content) as file:
        header = _check_header(where, file)
        if not mono and (fault := describe_channels(where, header)) is not None:
            raise DataError(fault)
        amplitudes = np.empty(header.frames, np.float32)
        count = _read(file, header, amplitudes)
    if count < header.frames:
        raise SampleError(
            f"{where} is cut short or damaged: its header declares {header.frames:,} frames, and "
            f"{count:,} can be decoded.",
            REPLACE_ADVICE,
        )
    # A sum of floats in double precision is finite if all of them are.
    if not np.isfinite(amplitudes.sum(dtype=np.float64)):
        row = int(np.flatnonzero(~np.isfinite(amplitudes))[0])
        raise SampleError(
            f"{where} holds an amplitude that is not finite ({amplitudes[row]} in frame {row:,}).",
            REPLACE_ADVICE,
        )
    return Sound(header.rate, amplitudes)


def _read(file: Any, header: SoundHeader, amplitudes: NDArray[np.float32]) -> int:
    """Decode into an array; return how many frames there are."""
    if header.channels == 1:
        return len(file.read(out=amplitudes))
    count = 0
    while count < header.frames:
        frames = file.read(_FRAMES, dtype="float32", always_2d=True)
        if not len(frames):
            break
        amplitudes[count : count + len(frames)] = frames.mean(axis=1, dtype=np.float64)
        count += len(frames)
    return count


def _check_header(where: str, file: Any) -> SoundHeader:
    header = SoundHeader(file.samplerate, file.channels, file.frames)
    if not LEAST_RATE <= header.rate <= MOST_RATE:
        raise SampleError(
            f"{where} declares {header.rate} samples a second, which is no rate of sound.",
            REPLACE_ADVICE,
        )
    if header.frames < 1:
        raise SampleError(f"{where} holds no sound: it has no frames.", REPLACE_ADVICE)
    # A header of a few bytes can promise any length.
    if 4 * header.frames > MAX_SAMPLE_BYTES:
        hours = MAX_SAMPLE_BYTES / 4 / header.rate / 3600
        raise SampleError(
            f"{where} declares {header.frames:,} frames, {bytes_text(4 * header.frames)} when "
            f"decoded; the limit is {bytes_text(MAX_SAMPLE_BYTES)}, {hours:.2g} hours here.",
            "Cut it into shorter files",
        )
    return header


@contextmanager
def _open(where: str, content: Content) -> Iterator[Any]:
    """Open a file with soundfile, whose errors become those of cnatool."""
    soundfile = _import_soundfile()
    try:
        with working_on(where.rstrip(",")):
            with _open_bytes(content) as head:
                check_container(where, head)
            source = io.BytesIO(content) if isinstance(content, bytes) else str(content)
            with soundfile.SoundFile(source) as file:
                yield file
    except (DataError, UsageError, MemoryError):
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else printable(one_line(error))
        if error.errno not in _FILE_ERRORS:
            # The file is not at fault: too many open files, or a disk fails.
            raise DataError(f"{where} cannot be read ({reason}).") from error
        raise SampleError(f"{where} cannot be read ({reason}).") from error
    # A file that libsndfile refuses is a RuntimeError, and a name that ends in .raw a TypeError.
    except (RuntimeError, TypeError, ValueError) as error:
        reason = getattr(error, "error_string", None) or printable(one_line(error))
        raise SampleError(
            f"{where} is damaged, or no sound in a known format ({FORMATS}; libsndfile: {reason}).",
            REPLACE_ADVICE,
        ) from error


def _open_bytes(content: Content) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _import_soundfile() -> Any:
    try:
        import soundfile
    # An OSError where libsndfile is missing, which its wheels contain.
    except (ImportError, OSError) as error:
        reason = "" if isinstance(error, ImportError) else f" ({printable(one_line(error))})"
        raise UsageError(
            "sound is read with soundfile, which is not installed" + reason + ": "
            "python -m pip install 'cnatool[audio]'"
        ) from error
    return soundfile
