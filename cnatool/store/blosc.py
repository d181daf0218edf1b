"""Frames of Blosc, looked at before they are decoded."""

from __future__ import annotations

import struct
from typing import Any

import numcodecs
import zarr.codecs.blosc
from numcodecs.blosc import Blosc
from numcodecs.compat import ensure_contiguous_ndarray

__all__ = ["CheckedBlosc", "check_frames"]

# Where a frame says how long it is: behind its version, flags and the sizes of what it holds.
_LENGTH = struct.Struct("<12xI")


class CheckedBlosc(Blosc):  # type: ignore[misc]  # of a library without types
    """Blosc that refuses a frame which is cut off.

    Blosc itself is not told the length of a frame: beyond the end of one that is cut off it reads
    whatever lies there in memory, and gives that as values, or crashes.
    """

    codec_id = "blosc"

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a frame.

        Raises
        ------
        ValueError
            If it is shorter than it says.
        """
        frame = memoryview(ensure_contiguous_ndarray(buf)).cast("B")
        if len(frame) < _LENGTH.size or len(frame) < _LENGTH.unpack_from(frame)[0]:
            raise ValueError("a frame of Blosc is cut off")
        return super().decode(buf, out)


def check_frames() -> None:
    """Let zarr decode Blosc by `CheckedBlosc`, in arrays of version 2 and of version 3."""
    numcodecs.register_codec(CheckedBlosc)
    zarr.codecs.blosc.Blosc = CheckedBlosc  # type: ignore[attr-defined]
