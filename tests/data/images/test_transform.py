from __future__ import annotations

import math
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.peers import peer

from cnatool.data.images.transform import (
    parse_colour,
    parse_crop,
    parse_interpolation,
    parse_resize,
    transform_array,
)
from cnatool.errors import DataError, UsageError
from cnatool.records.choices import Interpolation
from cnatool.records.image_transform import Geometry

Pixels = np.ndarray[Any, Any]
FILTERS = get_args(Interpolation)
SIDES = st.integers(1, 60)
SIZES = st.tuples(SIDES, SIDES)


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> Pixels:
    rng = np.random.default_rng(sum(shape))
    if dtype == "float32":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# --- resizing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("shape", [(37, 53, 3), (53, 37), (40, 40, 1)])
@pytest.mark.parametrize("size", [(20, 31), (90, 11), (37, 53), (1, 1)])
def test_a_pair_is_met_exactly_by_the_filter_of_pillow(
    interpolation: Interpolation, shape: tuple[int, ...], size: tuple[int, int]
) -> None:
    image = noise(shape)
    plane = Image.fromarray(image[..., 0] if shape[-1] == 1 else image)
    resized = plane.resize(size[::-1], Image.Resampling[interpolation.upper()])
    out = transform_array(image, Geometry(resize=size, interpolation=interpolation))
    np.testing.assert_array_equal(out, np.asarray(resized).reshape(*size, -1))
    assert out.flags.c_contiguous


@given(size=SIZES, side=SIDES)
def test_one_number_is_the_shorter_side_and_the_other_is_rounded_down(
    size: tuple[int, int], side: int
) -> None:
    height, width = Geometry(resize=side).resized(*size)
    longer = math.floor(side * max(size) / min(size))
    assert (height, width) == ((longer, side) if size[1] <= size[0] else (side, longer))


@given(size=SIZES, side=SIDES)
def test_contain_makes_it_the_longer_side(size: tuple[int, int], side: int) -> None:
    geometry = Geometry(resize=side, fit="contain")
    shorter = math.floor(side * min(size) / max(size))
    if shorter == 0:
        with pytest.raises(DataError, match="would be resized to .* pixels: give both sides"):
            geometry.resized(*size)
    else:
        wide = size[0] < size[1]
        assert geometry.resized(*size) == ((shorter, side) if wide else (side, shorter))


@given(size=SIZES, pair=SIZES)
def test_a_pair_is_covered_or_contains_the_image(
    size: tuple[int, int], pair: tuple[int, int]
) -> None:
    sides = [have * want[0] / want[1] for have in size for want in zip(pair, size, strict=True)]
    assume(min(sides) > 0.6)
    covers = Geometry(resize=pair, fit="cover").resized(*size)
    lies = Geometry(resize=pair, fit="contain").resized(*size)
    assert all(have >= want for have, want in zip(covers, pair, strict=True))
    assert all(have <= want for have, want in zip(lies, pair, strict=True))
    # One side is met, and the other keeps the ratio to the nearest pixel.
    for made in (covers, lies):
        assert any(
            made[one] == pair[one]
            and abs(made[1 - one] - size[1 - one] * pair[one] / size[one]) < 0.5001
            for one in (0, 1)
        )


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(40, 31), (9, 12), (23, 50), (60, 8)])
def test_other_depths_are_resized_as_floats(
    interpolation: Interpolation, size: tuple[int, int]
) -> None:
    geometry = Geometry(resize=size, interpolation=interpolation)
    filter_ = Image.Resampling[interpolation.upper()]
    floats = noise((23, 31, 3), "float32")
    # Filters overshoot beside such edges.
    edges = noise((23, 31, 3), "uint16") // 32768 * np.uint16(65535)
    for image in (floats, noise((23, 31, 3), "uint16"), edges):
        out = transform_array(image, geometry)
        assert out.dtype == image.dtype
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype(np.float32))
            expected = np.asarray(plane.resize(size[::-1], filter_))
            if image is not floats:
                expected = np.rint(np.clip(expected, 0, 65535)).astype(np.uint16)
            np.testing.assert_array_equal(out[..., channel], expected)


def test_each_of_many_channels_is_resized_by_itself() -> None:
    image = noise((9, 14, 5))
    out = transform_array(image, Geometry(resize=(6, 7)))
    for channel in range(5):
        alone = transform_array(image[..., channel], Geometry(resize=(6, 7)))
        np.testing.assert_array_equal(out[..., channel], alone[..., 0])


# --- cropping -----------------------------------------------------------------------------------


def literal_crop(image: Pixels, size: tuple[int, int], down: bool, fill: Any) -> Pixels:
    out = np.zeros((*size, image.shape[2]), image.dtype)
    for i, j in np.ndindex(size):
        at = []
        for place, have, want in zip((i, j), image.shape, size, strict=False):
            if want > have:
                at.append(place - (want - have) // 2)
            else:
                half = (have - want) / 2
                nearest = math.floor(half + 0.5)
                if half % 1 == 0.5 and (down or nearest % 2):
                    nearest -= 1
                at.append(place + nearest)
        inside = all(0 <= a < n for a, n in zip(at, image.shape, strict=False))
        out[i, j] = image[at[0], at[1]] if inside else fill
    return out


@settings(deadline=None)
@given(
    have=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    want=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    offset=st.sampled_from(["even", "down"]),
    fill=st.sampled_from([(), (7,), (1, 2, 3)]),
)
def test_the_middle_is_kept_and_what_lacks_is_padded(
    have: tuple[int, int],
    want: tuple[int, int],
    offset: Literal["even", "down"],
    fill: tuple[int, ...],
) -> None:
    image = noise((*have, 3))
    out = transform_array(image, Geometry(crop=want, offset=offset, fill=fill))
    expected = literal_crop(image, want, offset == "down", fill or 0)
    np.testing.assert_array_equal(out, expected)


# --- colours ------------------------------------------------------------------------------------


def test_colours() -> None:
    image = noise((5, 6, 3))
    grey = transform_array(image, Geometry(colour="grey"))
    red, green, blue = np.moveaxis(image.astype(np.int64), 2, 0)
    # ITU-R 601, in 16-bit fixed point.
    expected = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    np.testing.assert_array_equal(grey[..., 0], expected)
    np.testing.assert_array_equal(transform_array(image, Geometry(colour="rgb")), image)
    np.testing.assert_array_equal(transform_array(image, Geometry(colour="bgr")), image[..., ::-1])
    for colour in ("rgb", "bgr"):
        out = transform_array(grey, Geometry(colour=colour))
        np.testing.assert_array_equal(out, np.repeat(grey, 3, axis=2))
        np.testing.assert_array_equal(transform_array(grey[..., 0], Geometry(colour=colour)), out)
    np.testing.assert_array_equal(transform_array(grey, Geometry(colour="grey")), grey)


def test_colours_are_turned_before_resizing() -> None:
    image = noise((30, 40, 3))
    grey = Image.fromarray(image).convert("L").resize((11, 12), Image.Resampling.BICUBIC)
    geometry = Geometry(resize=(12, 11), interpolation="bicubic", colour="grey")
    np.testing.assert_array_equal(transform_array(image, geometry)[..., 0], np.asarray(grey))
    # Turning the order of channels commutes with all that follows.
    bgr = transform_array(image, Geometry(resize=9, crop=(12, 8), colour="bgr"))
    rgb = transform_array(image, Geometry(resize=9, crop=(12, 8)))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


# --- shapes and records -------------------------------------------------------------------------

GEOMETRIES = st.builds(
    Geometry,
    resize=st.none() | SIDES | SIZES,
    interpolation=st.sampled_from(FILTERS),
    crop=st.none() | SIZES,
    colour=st.sampled_from(["as-is", "rgb", "bgr", "grey"]),
    fit=st.sampled_from([None, "cover", "contain"]),
    offset=st.sampled_from(["even", "down"]),
    fill=st.sampled_from([(), (255,)]),
)


@settings(deadline=None)
@given(geometry=GEOMETRIES, size=SIZES, channels=st.sampled_from([(), (1,), (3,)]))
def test_the_shape_is_known_before(
    geometry: Geometry, size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    image = noise((*size, *channels))
    before = image.copy()
    try:
        shape = geometry.shape(image.shape)
    except DataError:
        with pytest.raises(DataError):
            transform_array(image, geometry)
    else:
        out = transform_array(image, geometry)
        assert out.shape == shape
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
    np.testing.assert_array_equal(image, before)


@given(geometry=GEOMETRIES)
def test_a_record_survives_json(geometry: Geometry) -> None:
    assert msgspec.json.decode(msgspec.json.encode(geometry), type=Geometry) == geometry


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "geometry", "error", "text"),
    [
        ((5,), "u1", Geometry(resize=3), DataError, r"shape \(5,\) are not images"),
        ((0, 5), "u1", Geometry(resize=3), DataError, r"shape \(0, 5\) are not images"),
        (
            (5, 5, 2),
            "u1",
            Geometry(colour="rgb"),
            DataError,
            "has 2 channels, which cannot be",
        ),
        (
            (5, 5, 4),
            "u1",
            Geometry(colour="grey"),
            DataError,
            "converted to grey: keep the colours",
        ),
        ((5, 5), "f8", Geometry(resize=3), DataError, "float64 cannot be .*: store them as uint8,"),
        ((5, 5), "i4", Geometry(crop=(3, 3)), DataError, "images of int32 cannot be resized"),
        (
            (5, 5, 3),
            "f4",
            Geometry(colour="grey"),
            DataError,
            "colours of float32 cannot be converted",
        ),
        ((5, 5, 3), "u1", Geometry(crop=(9, 9), fill=(1, 2)), UsageError, "fill has 2 values, but"),
        ((5, 5, 3), "u1", Geometry(crop=(9, 9), fill=(256,)), UsageError, "fill 256: .* up to 255"),
        (
            (1, 40000),
            "u1",
            Geometry(resize=4096),
            DataError,
            "1×40000 would be resized to 4096×1638",
        ),
        (
            (1, 99),
            "u1",
            Geometry(resize=9, fit="contain"),
            DataError,
            "resized to 0×9 pixels: give",
        ),
    ],
)
def test_what_cannot_be_done(
    shape: tuple[int, ...], dtype: str, geometry: Geometry, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        transform_array(np.zeros(shape, dtype), geometry)


@pytest.mark.parametrize("size", [0, -3, 1 << 16, (0, 5), (5, -1), (1 << 15, 1 << 15)])
def test_sizes_that_cannot_be_meant(size: Any) -> None:
    with pytest.raises(UsageError, match="resize .*: give sides from 1 to 32768, and no more than"):
        Geometry(resize=size)
    if isinstance(size, tuple):
        with pytest.raises(UsageError, match="crop .*: give sides from 1 to 32768"):
            Geometry(crop=size)
    with pytest.raises(msgspec.ValidationError, match="give sides from 1"):
        msgspec.convert({"resize": size}, Geometry)


# --- options of the command line ----------------------------------------------------------------


def test_options() -> None:
    assert parse_resize("256") == 256
    assert parse_resize(" 224x192 ") == parse_resize("224×192") == (224, 192)
    assert parse_crop("224") == (224, 224)
    assert parse_crop("7X5") == (7, 5)
    assert parse_interpolation("Bicubic") == "bicubic"
    assert parse_colour("BGR") == "bgr"


@pytest.mark.parametrize(
    "text", ["", "x", "0", "3x0", "-3", "224,224", "1e2", "٣", "99999", "1x2x3"]
)
def test_options_that_are_not_understood(text: str) -> None:
    said = "is not a size: give 256, or 224x192 for height x width"
    with pytest.raises(UsageError, match=f"`resize` .*{said}"):
        parse_resize(text)
    with pytest.raises(UsageError, match=f"`crop` .*{said}"):
        parse_crop(text)


def test_names_that_are_not_understood() -> None:
    with pytest.raises(
        UsageError, match="`interpolation` 'cubic': choose from nearest, box, biline"
    ):
        parse_interpolation("cubic")
    with pytest.raises(UsageError, match="`colour` 'gray': choose from as-is, rgb, bgr, grey"):
        parse_colour("gray")


# --- peers --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(
    have=SIZES,
    resize=SIDES | SIZES,
    crop=SIZES,
    interpolation=st.sampled_from(FILTERS),
    grey=st.booleans(),
)
def test_torchvision_makes_the_same_bits(
    have: tuple[int, int],
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    interpolation: Interpolation,
    grey: bool,
) -> None:
    transforms = peer("torchvision.transforms")
    image = noise(have if grey else (*have, 3))
    mode = transforms.InterpolationMode(interpolation)
    both = transforms.Compose(
        [transforms.Resize(resize, mode), transforms.CenterCrop(crop)],
    )
    out = transform_array(image, Geometry(resize=resize, interpolation=interpolation, crop=crop))
    np.testing.assert_array_equal(out, np.asarray(both(Image.fromarray(image))).reshape(out.shape))


@settings(deadline=None, max_examples=100)
@given(have=SIZES, side=SIDES)
def test_torchvision_makes_the_same_longer_side(have: tuple[int, int], side: int) -> None:
    transforms = peer("torchvision.transforms.v2")
    assume(side * min(have) >= max(have))
    image = noise((*have, 3))
    resize = transforms.Resize(None, max_size=side)
    out = transform_array(image, Geometry(resize=side, fit="contain"))
    np.testing.assert_array_equal(out, np.asarray(resize(Image.fromarray(image))))
