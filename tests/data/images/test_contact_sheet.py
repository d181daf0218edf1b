from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnatool.backend.inputs import ModelInput
from cnatool.data.images.contact_sheet import (
    ImageEncoding,
    Order,
    describe_encoding,
    draw_contact_sheet,
)
from cnatool.data.images.transform import transform_array
from cnatool.data.preprocess.apply import (
    PreprocessOptions,
    apply_preprocessing,
    plan_preprocessing,
)
from cnatool.data.source import InputSpec
from cnatool.errors import DataError, UsageError
from cnatool.records.image_transform import Geometry
from cnatool.records.run import Preprocessing

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
COLOURED = RNG.integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
GREY = COLOURED[..., 0]


def drawn(batch: Array, facts: ImageEncoding) -> Array:
    image = Image.open(io.BytesIO(draw_contact_sheet(batch, facts)))
    assert image.format == "PNG"
    assert image.mode == "RGB"
    return np.asarray(image)


def tiles(canvas: Array, height: int, width: int, times: int, count: int) -> list[Array]:
    """Take the grid apart, seen from its description."""
    columns = -(-canvas.shape[1] // (width * times + 2)) - 1 or 1
    found = []
    for number in range(count):
        top = 2 + number // columns * (height * times + 2)
        left = 2 + number % columns * (width * times + 2)
        tile = canvas[top : top + height * times, left : left + width * times]
        small = tile[::times, ::times]
        np.testing.assert_array_equal(small.repeat(times, 0).repeat(times, 1), tile)
        found.append(small)
    return found


def through(
    block: Array, target: tuple[int, ...], layout: str | None, **options: Any
) -> tuple[Array, Preprocessing]:
    spec = InputSpec("images", block.dtype, block.shape[1:])
    wanted = ModelInput("x", np.dtype(options.pop("dtype", "f4")), ("n", *target))
    made, _ = plan_preprocessing(spec, wanted, PreprocessOptions(layout=layout, **options))
    return apply_preprocessing(block, made), made


NORM = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FIRST = np.ascontiguousarray(COLOURED.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("block", "target", "layout"),
    [
        (COLOURED, (3, 20, 30), None),
        (COLOURED, (20, 30, 3), None),
        (COLOURED, (1800,), "hwc->flat-chw"),
        (COLOURED, (1800,), "hwc->flat-hwc"),
        (FIRST, (3, 20, 30), None),
        (FIRST, (20, 30, 3), None),
        (FIRST, (1800,), "chw->flat-hwc"),
        (COLOURED.reshape(4, -1), (3, 20, 30), "flat-hwc->chw"),
        (FIRST.reshape(4, -1), (3, 20, 30), "flat-chw->chw"),
        (FIRST.reshape(4, -1), (20, 30, 3), "flat-chw->hwc"),
        (COLOURED.reshape(4, -1), (1800,), "flat-hwc->flat-hwc"),
        (FIRST.reshape(4, -1), (1800,), "flat-chw->flat-chw"),
    ],
)
@pytest.mark.parametrize("options", [{}, NORM, {"scale": -1 / 127.5, "mean": (-1.0,)}])
def test_images_come_back_from_every_layout(
    block: Array, target: tuple[int, ...], layout: str | None, options: dict[str, Any]
) -> None:
    batch, made = through(block, target, layout, **options)
    size = (20, 30) if made.source_shape == made.shape == (1800,) else None
    order: Order | None = None
    if size is not None:
        order = "chw" if layout == "flat-chw->flat-chw" else "hwc"
    canvas = drawn(batch, describe_encoding(made, size=size, order=order))
    for tile, image in zip(tiles(canvas, 20, 30, 3, 4), COLOURED, strict=True):
        np.testing.assert_array_equal(tile, image)


@pytest.mark.parametrize(
    ("block", "target", "size"),
    [
        (GREY, (600,), None),
        (GREY, (1, 20, 30), None),
        (GREY, (20, 30), None),
        (GREY, (20, 30, 1), None),
        (GREY[..., None], (1, 20, 30), None),
        (GREY.reshape(4, -1), (1, 20, 30), None),
        (GREY.reshape(4, -1), (600,), (20, 30)),
    ],
)
def test_grey_images_come_back(
    block: Array, target: tuple[int, ...], size: tuple[int, int] | None
) -> None:
    batch, made = through(block, target, None, mean=(0.1307,), std=(0.3081,))
    canvas = drawn(batch, describe_encoding(made, size=size))
    for tile, image in zip(tiles(canvas, 20, 30, 3, 4), GREY, strict=True):
        np.testing.assert_array_equal(tile, np.repeat(image[..., None], 3, 2))


def test_blue_first_is_turned_back() -> None:
    geometry = Geometry(resize=(10, 15), colour="bgr")
    block = np.stack([transform_array(image, geometry) for image in COLOURED])
    batch, made = through(block, (3, 10, 15), None, **NORM)
    for tile, image in zip(
        tiles(drawn(batch, describe_encoding(made, "bgr")), 10, 15, 6, 4), COLOURED, strict=True
    ):
        np.testing.assert_array_equal(tile, transform_array(image, Geometry(resize=(10, 15))))


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8", "?"])
def test_white_depends_on_the_source(dtype: str) -> None:
    steps = {"u2": 257, "f4": 1 / 255, "f8": 1 / 255}
    block = GREY > 99 if dtype == "?" else (GREY * np.float64(steps[dtype])).astype(dtype)
    batch, made = through(block, (1, 20, 30), None)
    expected = block * 255 if dtype == "?" else GREY
    for tile, image in zip(
        tiles(drawn(batch, describe_encoding(made)), 20, 30, 3, 4), expected, strict=True
    ):
        np.testing.assert_array_equal(tile[..., 1], image)


def test_what_lies_beyond_is_cut_off_and_what_is_not_finite_is_seen() -> None:
    batch = np.array([[[[-5.0, 0.0, 0.5, 1.0, 300.0, np.nan, np.inf, -np.inf]]]])
    [tile] = tiles(drawn(batch, ImageEncoding(1, 8, 1)), 1, 8, 12, 1)
    assert tile[0, :5, 0].tolist() == [0, 0, 128, 255, 255]
    assert (tile[0, 5:] == (255, 0, 255)).all()
    huge = np.array([np.finfo(np.float64).max, 1.0]).reshape(1, 1, 1, 2)
    [tile] = tiles(drawn(huge, ImageEncoding(1, 2, 1, std=(10.0,))), 1, 2, 48, 1)
    assert tile[0].tolist() == [[255, 0, 255], [255, 255, 255]]


@settings(deadline=None)
@given(count=st.integers(1, 12), size=st.tuples(st.integers(1, 130), st.integers(1, 130)))
def test_any_number_of_any_size(count: int, size: tuple[int, int]) -> None:
    batch = np.random.default_rng(count).integers(0, 256, (count, 3, *size)) / 255
    canvas = drawn(batch, ImageEncoding(*size, 3))
    times = max(1, round(96 / max(size)))
    for tile, image in zip(tiles(canvas, *size, times, count), batch, strict=True):
        np.testing.assert_array_equal(tile, np.round(image * 255).transpose(1, 2, 0))


def test_what_cannot_be_shown() -> None:
    _, flat = through(GREY.reshape(4, -1), (600,), None)
    with pytest.raises(UsageError, match=r"shape \(600,\) are flat: give their height and width"):
        describe_encoding(flat)
    with pytest.raises(UsageError, match="are not images of 7x11"):
        describe_encoding(flat, size=(7, 11))
    with pytest.raises(DataError, match="have 2 channels: only images of 1 or 3 can be shown"):
        describe_encoding(flat, size=(10, 30))
    _, coloured = through(COLOURED.reshape(4, -1), (1800,), None)
    with pytest.raises(
        UsageError, match="are flat: choose whether their channels come first or last"
    ):
        describe_encoding(coloured, size=(20, 30))
    _, two = through(COLOURED[..., :2], (20, 30, 2), "hwc")
    with pytest.raises(DataError, match=r"shape \(20, 30, 2\) have 2 channels"):
        describe_encoding(two)
    _, deep = through(np.zeros((1, 2, 3, 4, 5), np.uint8), (2, 3, 4, 5), None)
    with pytest.raises(DataError, match="are not images"):
        describe_encoding(deep)
    with pytest.raises(UsageError, match="there are no samples to show"):
        draw_contact_sheet(np.zeros((0, 3, 4, 5)), ImageEncoding(4, 5, 3))
    many = np.broadcast_to(np.float32(0), (10_000, 3, 100, 100))
    with pytest.raises(UsageError, match="10000 images of 100×100 are too many to show at once"):
        draw_contact_sheet(many, ImageEncoding(100, 100, 3))
    with pytest.raises(
        DataError, match=r"shape \(3, 4, 4\), which is not 4×5 pixels of 3 channels"
    ):
        draw_contact_sheet(np.zeros((1, 3, 4, 4)), ImageEncoding(4, 5, 3))
    with pytest.raises(DataError, match="which is not"):
        draw_contact_sheet(np.zeros((1, 3, 4, 5)), ImageEncoding(4, 5, 3, mean=(1.0, 2.0)))
