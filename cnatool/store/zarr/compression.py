"""Compression of a chunk's bytes, by the names of `cnatool.records.choices.Codec`."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numcodecs import Blosc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.choices import Codec

# With a gzip header, which every reader of Zarr's codec `gzip` expects.
_GZIP = 31
# Of LZ4 and Zstandard. With level 5, LZ4 makes activations 3 to 14 % smaller and takes a quarter to
# a half longer.
BLOSC_LEVEL = 1
BLOSC_LEVELS = range(10)  # those that Blosc has
# Header of Blosc: versions, flags, element size; then the sizes of the result, of a block, and of
# the whole buffer.
_BLOSC_HEADER = struct.Struct("<4x3I")


class Compressor(Protocol):
    """Compresses the bytes of one chunk; thread-safe."""

    def metadata(self, item_bytes: int) -> list[dict[str, Any]]:
        """Describe the codec in Zarr v3 metadata."""

    def encode(self, content: bytes | NDArray[Any]) -> bytes:
        """Compress bytes or a C-contiguous array."""

    def decode(self, data: bytes) -> bytes:
        """Decompress; raise ValueError or RuntimeError if `encode` did not write the data."""

    def decode_into(self, data: bytes, out: NDArray[Any]) -> None:
        """Decompress into a C-contiguous array of exactly the size of the result."""


class _Raw:
    """No compression."""

    def metadata(self, item_bytes: int) -> list[dict[str, Any]]:
        return []

    def encode(self, content: bytes | NDArray[Any]) -> bytes:
        return content if isinstance(content, bytes) else content.tobytes()

    def decode(self, data: bytes) -> bytes:
        return data

    def decode_into(self, data: bytes, out: NDArray[Any]) -> None:
        _fill(out, data)


@dataclass(frozen=True, slots=True)
class _Gzip:
    level: int

    def metadata(self, item_bytes: int) -> list[dict[str, Any]]:
        return [{"name": "gzip", "configuration": {"level": self.level}}]

    def encode(self, content: bytes | NDArray[Any]) -> bytes:
        return zlib.compress(_buffer(content), self.level, _GZIP)

    def decode(self, data: bytes) -> bytes:
        try:
            return zlib.decompress(data, _GZIP)
        except zlib.error as error:
            raise ValueError(str(error)) from None

    def decode_into(self, data: bytes, out: NDArray[Any]) -> None:
        _fill(out, self.decode(data))


@dataclass(frozen=True, slots=True)
class _Blosc:
    """Blosc without a shuffle.

    Half of a ReLU's values are zero, in runs; shuffling bytes or bits breaks the runs, which costs
    compression and time with LZ4 and Zstandard alike (benchmarks/README.md).
    """

    name: str
    level: int

    def metadata(self, item_bytes: int) -> list[dict[str, Any]]:
        configuration = {
            "typesize": item_bytes,
            "cname": self.name,
            "clevel": self.level,
            "shuffle": "noshuffle",
            "blocksize": 0,
        }
        return [{"name": "blosc", "configuration": configuration}]

    def encode(self, content: bytes | NDArray[Any]) -> bytes:
        return bytes(Blosc(self.name, self.level, Blosc.NOSHUFFLE).encode(content))

    def decode(self, data: bytes) -> bytes:
        self._size(data)
        return bytes(Blosc().decode(data))

    def decode_into(self, data: bytes, out: NDArray[Any]) -> None:
        size = self._size(data)
        if size != out.nbytes:
            raise ValueError(f"it holds {size} bytes instead of {out.nbytes}")
        Blosc().decode(data, out)

    def _size(self, data: bytes) -> int:
        """Return the size of the result; Blosc trusts its header even beyond the data."""
        if len(data) >= _BLOSC_HEADER.size:
            size, _, whole = _BLOSC_HEADER.unpack_from(data)
            if whole == len(data):
                return int(size)
        raise ValueError("it is not a whole Blosc buffer")


COMPRESSORS: dict[Codec, Compressor] = {
    "lz4": _Blosc("lz4", BLOSC_LEVEL),
    "zstd": _Blosc("zstd", BLOSC_LEVEL),
    "gzip": _Gzip(1),
    "none": _Raw(),
}


def make_compressor(codec: Codec, level: int) -> Compressor:
    """Return the compressor of a codec; LZ4 and Zstandard have a level."""
    compressor = COMPRESSORS[codec]
    return replace(compressor, level=level) if isinstance(compressor, _Blosc) else compressor


def _buffer(content: bytes | NDArray[Any]) -> bytes | memoryview:
    return content if isinstance(content, bytes) else content.reshape(-1).view(np.uint8).data


def _fill(out: NDArray[Any], content: bytes) -> None:
    if len(content) != out.nbytes:
        raise ValueError(f"it holds {len(content)} bytes instead of {out.nbytes}")
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
