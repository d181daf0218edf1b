"""Resizing, cropping and colour conversion of images, as the usual training code does them.

For 8-bit images the result is, bit for bit, that of torchvision's ``Resize`` and ``CenterCrop`` on
a Pillow image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
import numpy as np
from PIL import Image

from cnatool.errors import DataError, UsageError
from cnatool.records.choices import Colour, Interpolation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.image_transform import Geometry

_FILTERS = {name: Image.Resampling[name.upper()] for name in get_args(Interpolation)}
# What Pillow resamples, or its floats hold exactly.
_DTYPES = ("uint8", "uint16", "float32")


def transform_array(image: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Resize, crop and convert one image.

    Parameters
    ----------
    image : ndarray
        Shape (h, w) or (h, w, c), of uint8, uint16 or float32; three channels are red, green, blue.
    geometry : Geometry

    Returns
    -------
    ndarray
        C-contiguous, of shape ``geometry.shape(image.shape)`` and the dtype of the image.
    """
    height, width, channels = geometry.shape(image.shape)
    if image.dtype.name not in _DTYPES:
        raise DataError(
            f"images of {image.dtype.name} cannot be resized or cropped: store them as "
            f"{', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}."
        )
    if image.dtype == np.uint8 and max(geometry.fill, default=0) > 255:
        raise UsageError(f"fill {max(geometry.fill)}: images of uint8 have values up to 255.")
    values = _convert_colour(image if image.ndim == 3 else image[..., None], geometry.colour)
    values = _resize(values, geometry.resized(*image.shape[:2]), _FILTERS[geometry.interpolation])
    if geometry.crop is not None:
        values = _crop(values, (height, width), geometry)
    return np.ascontiguousarray(values.reshape(height, width, channels))


def transform_image(image: Image.Image, geometry: Geometry) -> NDArray[Any]:
    """Resize, crop and convert a Pillow image of mode L or RGB; takes less memory than an array."""
    colours = {"grey": "L", "rgb": "RGB", "bgr": "RGB"}
    mode = colours.get(geometry.colour, image.mode)
    image = image if image.mode == mode else image.convert(mode)
    height, width = geometry.resized(image.height, image.width)
    resized = image.resize((width, height), _FILTERS[geometry.interpolation])
    values = np.asarray(resized).reshape(height, width, -1)
    rest = msgspec.structs.replace(geometry, resize=None, fit=None)
    if geometry.colour != "bgr":
        rest = msgspec.structs.replace(rest, colour="as-is")
    return transform_array(values, rest)


def parse_resize(text: str) -> tuple[int, int] | int:
    """Parse ``256``, the shorter side, or ``224x224``, height and width."""
    sides = _parse_sides("`resize`", text)
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def parse_crop(text: str) -> tuple[int, int]:
    """Parse ``224``, a square, or ``224x192``, height and width."""
    sides = _parse_sides("`crop`", text)
    return sides[0], sides[-1]


def parse_interpolation(text: str) -> Interpolation:
    """Parse the name of a filter, in any case."""
    _check_name("`interpolation`", text, get_args(Interpolation))
    return cast("Interpolation", text.strip().lower())


def parse_colour(text: str) -> Colour:
    """Parse what the channels are converted to, in any case."""
    _check_name("`colour`", text, get_args(Colour))
    return cast("Colour", text.strip().lower())


def _convert_colour(image: NDArray[Any], colour: Colour) -> NDArray[Any]:
    channels = image.shape[2]
    if colour == "grey" and channels == 3:
        if image.dtype != np.uint8:
            raise DataError(
                f"colours of {image.dtype.name} cannot be converted to grey, for which Pillow has "
                "no rule: store the images as uint8, or grey."
            )
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    if colour in ("rgb", "bgr") and channels == 1:
        return np.repeat(image, 3, axis=2)
    return image[..., ::-1] if colour == "bgr" else image


def _resize(image: NDArray[Any], size: tuple[int, int], filter_: Image.Resampling) -> NDArray[Any]:
    if image.shape[:2] == size:
        return image
    # Pillow takes width before height.
    target = (size[1], size[0])
    if image.dtype == np.uint8 and image.shape[2] == 3:
        colour = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(colour.resize(target, filter_))
    out = np.empty((*size, image.shape[2]), image.dtype)
    for channel in range(image.shape[2]):
        values = np.ascontiguousarray(image[..., channel])
        if image.dtype == np.uint16:
            # As floats, which hold them all: Pillow before 13 goes wrong where its filters
            # overshoot 65535.
            values = values.astype(np.float32)
        grey = np.asarray(Image.fromarray(values).resize(target, filter_))
        out[..., channel] = grey.round().clip(0, 65535) if image.dtype == np.uint16 else grey
    return out


def _crop(image: NDArray[Any], size: tuple[int, int], geometry: Geometry) -> NDArray[Any]:
    sides = image.shape[:2]
    if any(want > have for want, have in zip(size, sides, strict=True)):
        shape = (*map(max, size, sides), image.shape[2])
        padded = np.empty(shape, image.dtype)
        padded[:] = np.array(geometry.fill or 0).astype(image.dtype)
        top, left = (max(0, want - have) // 2 for want, have in zip(size, sides, strict=True))
        padded[top : top + sides[0], left : left + sides[1]] = image
        image, sides = padded, padded.shape[:2]
    spare = [have - want for want, have in zip(size, sides, strict=True)]
    # Python rounds half to even, and so torchvision does; transformers rounds down.
    down = geometry.offset == "down"
    top, left = (margin // 2 if down else round(margin / 2) for margin in spare)
    return image[top : top + size[0], left : left + size[1]]


def _parse_sides(option: str, text: str) -> list[int]:
    match = re.fullmatch(r"([0-9]{1,5})(?:[x×X]([0-9]{1,5}))?", text.strip())
    sides = [int(side) for side in match.groups() if side] if match else [0]
    if not all(1 <= side <= 1 << 15 for side in sides):
        raise UsageError(
            f"{option} {text!r} is not a size: give 256, or 224x192 for height x width."
        )
    return sides


def _check_name(option: str, text: str, names: Sequence[str]) -> None:
    if text.strip().lower() not in names:
        raise UsageError(f"{option} {text!r}: choose from {', '.join(names)}.")
