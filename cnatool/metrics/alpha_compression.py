"""α by compression: compressed bytes / raw bytes of an input (docs/metrics.md; paper §3.1)."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool.errors import DataError, MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Codec

_THREADS = min(8, os.cpu_count() or 1)
_CHANNELS = (1, 3, 4)
_LEAST_DICTIONARY, _GREATEST_DICTIONARY = 1 << 12, 1 << 26  # of LZMA; the last is preset 9's


def compression_ratio(x: NDArray[Any], codec: Codec) -> NDArray[np.float64]:
    """Return compressed bytes / raw bytes of each sample, (n,) (paper §3.1).

    After Serrà et al. 2019. The bytes of (n, …) inputs are taken row by row, least significant
    first. ``png``, ``webp`` and ``jpeg2000`` compress 8-bit images, (h, w), (h, w, C) or (C, h,
    w) with 1, 3 or 4 channels; where both ends could be the channels, the last axis is. What a
    codec writes beside the data counts, so that small samples may have a ratio above 1.
    `describe_codec` names each codec's setting.

    Raises
    ------
    DataError
        For samples without any value, and images that the codec cannot compress.
    MetricError
        For a codec for images if the samples are none.
    """
    values, encoder = np.asarray(x), _CODECS[codec]
    n, size = len(values), math.prod(values.shape[1:]) * values.dtype.itemsize
    if size == 0:
        raise DataError(f"The samples have shape {values.shape[1:]}: there is nothing to compress.")
    where = f"samples of shape {values.shape[1:]}"
    sizes = _compress_all(_prepare_samples(values, codec), encoder, codec, where)
    return np.array(sizes, np.float64).reshape(n) / size


def ragged_compression_ratio(samples: Iterable[NDArray[Any]], codec: Codec) -> NDArray[np.float64]:
    """Return the `compression_ratio` of samples that differ in shape; NaN for one of no bytes."""
    arrays = [np.asarray(sample) for sample in samples]
    bytes_each = np.array([sample.nbytes for sample in arrays], np.float64)
    kept = [_prepare_samples(sample[None], codec)[0] for sample in arrays if sample.nbytes]
    sizes = _compress_all(kept, _CODECS[codec], codec, "these samples")
    ratios = np.full(len(arrays), np.nan)
    ratios[bytes_each > 0] = sizes / bytes_each[bytes_each > 0]
    return ratios


def _compress_all(
    samples: NDArray[Any] | Sequence[NDArray[Any]], encoder: _Codec, codec: Codec, where: str
) -> list[int]:
    """Return the compressed bytes of each sample, from several threads."""
    step = max(1, -(-len(samples) // (4 * _THREADS)))
    parts = [samples[start : start + step] for start in range(0, len(samples), step)]

    def lengths(part: NDArray[Any] | Sequence[NDArray[Any]]) -> list[int]:
        return [len(encoder.encode(sample)) for sample in part]

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            return [size for part in pool.map(lengths, parts) for size in part]
    except (OSError, ValueError) as error:  # from Pillow, for an image that is too large
        raise DataError(f"codec={codec} cannot compress {where}: {error}.") from error


def compress(sample: NDArray[Any], codec: Codec) -> bytes:
    """Compress one sample; parameters as in `compression_ratio`."""
    return _CODECS[codec].encode(_prepare_samples(np.asarray(sample)[None], codec)[0])


def describe_codec(codec: Codec) -> str:
    """Describe which library compresses, in which version and at which setting.

    The compressed size depends on all three.
    """
    return _CODECS[codec].text()


def _prepare_samples(values: NDArray[Any], codec: Codec) -> NDArray[Any]:
    """Bring samples into the shape that the codec needs: images, or rows of bytes."""
    if _CODECS[codec].images:
        return _images(np.ascontiguousarray(values), codec)
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    return np.ascontiguousarray(rows, values.dtype.newbyteorder("<"))


def _images(values: NDArray[Any], codec: str) -> NDArray[np.uint8]:
    """Bring images into the shape (n, h, w) or (n, h, w, C)."""
    shape = values.shape[1:]
    if values.dtype != np.uint8:
        raise MetricError(
            f"codec={codec} needs 8-bit images, but the inputs are {values.dtype}: use "
            "`codec='zlib'`, bz2, lzma or zstd."
        )
    if len(shape) == 2:
        return values
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return values[..., 0] if shape[2] == 1 else values
    if len(shape) == 3 and shape[0] in _CHANNELS:
        moved = values[:, 0] if shape[0] == 1 else np.moveaxis(values, 1, 3)
        return np.ascontiguousarray(moved)
    raise MetricError(
        f"codec={codec} takes images of shape (h, w), (h, w, C) or (C, h, w) with 1, 3 or 4 "
        f"channels, and the inputs have shape {shape}: use `codec='zlib'`, bz2, lzma "
        "or zstd."
    )


class _Codec(NamedTuple):
    encode: Callable[[NDArray[Any]], bytes]
    text: Callable[[], str]
    images: bool = False


def _zlib(sample: NDArray[Any]) -> bytes:
    import zlib

    return zlib.compress(sample.data, 9)


def _zlib_text() -> str:
    import zlib

    return f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level 9"


def _bz2(sample: NDArray[Any]) -> bytes:
    import bz2

    return bz2.compress(sample.data, 9)


def _lzma(sample: NDArray[Any]) -> bytes:
    import lzma

    # Preset 9 takes 0.7 GB for its dictionary, of which only what the sample fills is of use.
    size = min(max(sample.nbytes, _LEAST_DICTIONARY), _GREATEST_DICTIONARY)
    filters: Sequence[Mapping[str, int]] = [
        {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size}
    ]
    return lzma.compress(sample.data, filters=filters)


def _zstd(sample: NDArray[Any]) -> bytes:
    from numcodecs.zstd import Zstd

    content: bytes = Zstd(level=19).encode(sample)
    return content


def _zstd_text() -> str:
    from importlib.metadata import version

    return f"Zstandard of numcodecs {version('numcodecs')}, level 19"


_IMAGE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "PNG": {"compress_level": 9},
    "WEBP": {"lossless": True, "quality": 80, "method": 4, "exact": True},
    "JPEG2000": {"irreversible": False, "no_jp2": True},
}


def _image(kind: str, sample: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    content = BytesIO()
    Image.fromarray(sample).save(content, kind, **_IMAGE_OPTIONS[kind])
    return content.getvalue()


def _image_text(kind: str, library: str, name: str) -> str:
    from PIL import __version__, features

    options = ", ".join(f"{key}={value}" for key, value in _IMAGE_OPTIONS[kind].items())
    return f"{kind} of Pillow {__version__} ({name} {features.version(library)}), {options}"


def _image_codec(kind: str, library: str, name: str) -> _Codec:
    return _Codec(partial(_image, kind), partial(_image_text, kind, library, name), True)


_CODECS: Mapping[Codec, _Codec] = {
    "zlib": _Codec(_zlib, _zlib_text),
    "bz2": _Codec(_bz2, lambda: "bzip2, level 9"),
    "lzma": _Codec(_lzma, lambda: "xz, preset 9"),
    "zstd": _Codec(_zstd, _zstd_text),
    "png": _image_codec("PNG", "zlib", "zlib"),
    "webp": _image_codec("WEBP", "webp", "libwebp"),
    "jpeg2000": _image_codec("JPEG2000", "jpg_2000", "OpenJPEG"),
}
