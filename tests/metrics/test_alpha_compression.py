from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Any, get_args

import numpy as np
import pytest
from numcodecs.zstd import Zstd
from PIL import Image

from cnatool.errors import DataError, MetricError
from cnatool.metrics.alpha_compression import compress, compression_ratio, describe_codec
from cnatool.metrics.convention import Codec

CODECS: Any = get_args(Codec)
BYTES = {
    "zlib": (lambda raw: zlib.compress(raw, 9), zlib.decompress),
    "bz2": (lambda raw: bz2.compress(raw, 9), bz2.decompress),
    "lzma": (lambda raw: lzma.compress(raw, preset=9), lzma.decompress),
    "zstd": (lambda raw: Zstd(19).encode(raw), lambda raw: bytes(Zstd().decode(raw))),
}
PICTURES = ("png", "webp", "jpeg2000")


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    """Half noise, half flat, so that codecs have something to find."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, shape, np.uint8)
    x[x < 128] = 7
    return x


@pytest.mark.parametrize("codec", BYTES)
@pytest.mark.parametrize("dtype", ["uint8", "bool", "uint16", "float32", ">i4", "int64"])
def test_share_is_what_the_library_makes_of_the_bytes(codec: Any, dtype: str) -> None:
    x = pictures(9, 13, 11).astype(dtype)
    encode, decode = BYTES[codec]
    raw = [sample.astype(x.dtype.newbyteorder("<")).tobytes() for sample in x]
    expected = [len(encode(one)) / len(one) for one in raw]
    assert compression_ratio(x, codec).tolist() == expected
    assert decode(compress(x[3], codec)) == raw[3]


@pytest.mark.parametrize("codec", PICTURES)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((8, 8), (0, 1)),
        ((1, 1), (0, 1)),
        ((21, 30, 3), (0, 1, 2)),
        ((21, 30, 4), (0, 1, 2)),
        ((3, 21, 30), (1, 2, 0)),
        ((4, 21, 30), (1, 2, 0)),
        ((21, 30, 1), (0, 1, 2)),
        ((1, 21, 30), (1, 2, 0)),
        ((3, 5, 3), (0, 1, 2)),
    ],
)
def test_pictures_are_kept_whole(codec: Any, shape: Any, axes: Any) -> None:
    x = pictures(3, *shape)
    content = [compress(sample, codec) for sample in x]
    for sample, one in zip(x, content, strict=True):
        expected = np.transpose(sample, axes)
        found = np.asarray(Image.open(io.BytesIO(one)))
        if expected.ndim == 2 or expected.shape[2] == 1:  # WebP has no grey
            expected = expected.reshape(expected.shape[:2])
            found = found if found.ndim == 2 else found[..., 0]
        np.testing.assert_array_equal(found, expected)
    size = x[0].size
    assert compression_ratio(x, codec).tolist() == [len(one) / size for one in content]


def test_png_is_pillows() -> None:
    x = pictures(2, 40, 30, 3)
    file = io.BytesIO()
    Image.fromarray(x[1]).save(file, "PNG", compress_level=9)
    assert compression_ratio(x, "png")[1] == len(file.getvalue()) / x[1].size


@pytest.mark.parametrize("codec", CODECS)
def test_simple_pictures_are_smaller(codec: Any) -> None:
    flat = np.full((1, 64, 64), 9, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    half = noise.copy()
    half[..., 32:] = 9
    x = np.concatenate([flat, half, noise])
    shares = compression_ratio(x, codec)
    assert shares[0] < 0.05
    assert (np.diff(shares) > 0).all()
    assert compression_ratio(x[:0], codec).shape == (0,)
    # A sample's share does not depend on the others, nor on how they lie in memory.
    assert compression_ratio(x[2:], codec)[0] == shares[2]
    assert compression_ratio(np.asfortranarray(x), codec).tolist() == shares.tolist()


def test_the_text_names_library_and_setting() -> None:
    texts = {codec: describe_codec(codec) for codec in CODECS}
    assert texts["zlib"] == f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level 9"
    assert texts["lzma"] == "xz, preset 9"
    assert "level 19" in texts["zstd"]
    assert "lossless=True, quality=80, method=4" in texts["webp"]
    assert "irreversible=False" in texts["jpeg2000"]


def test_one_value_a_sample() -> None:
    assert (compression_ratio(np.arange(5.0), "zlib") > 1).all()


@pytest.mark.parametrize("codec", PICTURES)
def test_what_is_no_picture(codec: Any) -> None:
    with pytest.raises(MetricError, match=rf"codec={codec} needs 8-bit images, .* float32"):
        compression_ratio(np.zeros((2, 8, 8), np.float32), codec)
    for shape in ((8,), (8, 8, 2), (2, 3, 4, 5)):
        with pytest.raises(MetricError, match="takes images of shape .*: use `codec='zlib'`"):
            compression_ratio(np.zeros((2, *shape), np.uint8), codec)


def test_pictures_that_a_codec_refuses() -> None:
    with pytest.raises(
        DataError, match=r"codec=webp cannot compress samples of shape \(17000, 2\)"
    ):
        compression_ratio(np.zeros((1, 17000, 2), np.uint8), "webp")


def test_samples_without_values() -> None:
    with pytest.raises(DataError, match="there is nothing to compress"):
        compression_ratio(np.zeros((3, 0), np.uint8), "zlib")
