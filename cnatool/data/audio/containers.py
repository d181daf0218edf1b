"""Containers of sound files: which one a file is, by its content, and whether it is whole.

libsndfile reads a WAV or Ogg file that is cut short as if it were a shorter one, so that its end is
checked here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnatool._util.local_paths import LFS_ADVICE, LFS_SIGNATURE
from cnatool._util.text import count_text
from cnatool.data.source import SampleError

if TYPE_CHECKING:
    from typing import BinaryIO, Literal

FORMATS = "WAV, FLAC, OGG or MP3"
REPLACE_ADVICE = "Replace it or remove it"
_COPY_ADVICE = "Get a complete copy of it"

_HEAD = 12
# A page of Ogg has at most 65,307 bytes.
_OGG_PAGE = 65_307
_OGG_LAST = 4
# What programs that write to a pipe, and so cannot return to the header, write as a size.
_UNKNOWN_SIZE = 0xFFFFFFFF


def looks_like_sound(head: bytes) -> bool:
    """Whether a file is a WAV, FLAC, OGG or MP3 by its first 12 bytes."""
    return _is_wave(head) or head[:4] in (b"OggS", b"fLaC") or _is_mp3(head)


def check_container(where: str, file: BinaryIO) -> None:
    """Refuse a file that is no WAV, FLAC, OGG or MP3 by its first bytes, or that is cut short.

    Raises a SampleError.
    """
    head = file.read(len(LFS_SIGNATURE))
    if head == LFS_SIGNATURE:
        raise SampleError(f"{where} is a Git LFS pointer, not a sound.", LFS_ADVICE)
    if not looks_like_sound(head):
        raise SampleError(
            f"{where} is damaged, or no sound in a known format ({FORMATS}).", REPLACE_ADVICE
        )
    if _is_wave(head):
        _check_wave(where, file, "big" if head[:4] == b"RIFX" else "little")
    elif head[:4] == b"OggS":
        _check_ogg(where, file)


def _is_wave(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"


def _is_mp3(head: bytes) -> bool:
    """Whether a file begins with a tag, or with a frame of MPEG audio of layer III."""
    sync = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head[:3] == b"ID3" or (sync and head[1] & 0x06 == 0x02)


def _check_wave(where: str, file: BinaryIO, order: Literal["big", "little"]) -> None:
    """Compare the size of the data that the header declares with that of the file."""
    end = file.seek(0, os.SEEK_END)
    at, long_size = _HEAD, None
    while at + 8 <= end:
        file.seek(at)
        header = file.read(8)
        size = int.from_bytes(header[4:], order)
        if header[:4] == b"ds64":
            # RF64: 64 bits each of the size of the file and of the data.
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if header[:4] == b"data":
            if size == _UNKNOWN_SIZE:
                size = end - at - 8 if long_size is None else long_size
            if size > end - at - 8:
                raise SampleError(
                    f"{where} is cut short: its header declares {count_text(size, 'byte')} of "
                    f"sound, and {count_text(end - at - 8, 'byte')} follow.",
                    _COPY_ADVICE,
                )
            return
        # Chunks begin at even places.
        at += 8 + size + size % 2
    raise SampleError(f"{where} is a WAV file without data.", _COPY_ADVICE)


def _check_ogg(where: str, file: BinaryIO) -> None:
    """Look for the mark of the last page, which ends every whole file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 2 * _OGG_PAGE))
    tail = file.read()
    last = tail.rfind(b"OggS\0")
    page = tail[last:] if last >= 0 else b""
    # 27 bytes, the last of which counts segments; their lengths; and the segments themselves.
    whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not whole or not page[5] & _OGG_LAST:
        raise SampleError(
            f"{where} is cut short, or was never finished: the mark of its end is missing.",
            _COPY_ADVICE,
        )
