"""Blosc frames, checked before they are decoded."""

from __future__ import annotations

import struct
from typing import Any

import numcodecs
import zarr.codecs.blosc
from numcodecs.blosc import Blosc
from numcodecs.compat import ensure_contiguous_ndarray

# The compressed size in a frame's header, after version, flags, type size, size and block size.
_LENGTH = struct.Struct("<12xI")


class CheckedBlosc(Blosc):  # type: ignore[misc]  # of a library without types
    """The Blosc codec, refusing truncated frames.

    Blosc does not know the length of its input: past the end of a truncated frame it reads whatever
    is in memory there, and returns it as values, or crashes.
    """

    codec_id = "blosc"

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a frame; raise ValueError if it is shorter than its header says."""
        frame = memoryview(ensure_contiguous_ndarray(buf)).cast("B")
        if len(frame) < _LENGTH.size or len(frame) < _LENGTH.unpack_from(frame)[0]:
            raise ValueError("a Blosc frame is truncated")
        return super().decode(buf, out)


def install_checked_blosc() -> None:
    """Make zarr decode Blosc by `CheckedBlosc`, for Zarr versions 2 and 3."""
    numcodecs.register_codec(CheckedBlosc)
    zarr.codecs.blosc.Blosc = CheckedBlosc  # type: ignore[attr-defined]
