"""Pictures in the size and the colours that a model takes, as the usual training code makes them.

With 8-bit pictures the result is, bit for bit, what torchvision's ``Resize`` and ``CenterCrop``
make of a Pillow image.
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
# What Pillow resamples, or its floats hold: others would be rounded or cut off on the way.
_DTYPES = ("uint8", "uint16", "float32")


def transform_array(picture: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Bring one picture to its size and colours.

    Parameters
    ----------
    picture : ndarray
        (h, w) or (h, w, c) of uint8, uint16 or float32; three channels are red, green and blue.
    geometry : Geometry
        What to do.

    Returns
    -------
    ndarray
        C-contiguous, of shape ``geometry.shape(picture.shape)`` and of the picture's dtype.

    Raises
    ------
    DataError
        If the picture is of another dtype, or its shape cannot be brought there.
    UsageError
        If ``geometry.fill`` does not fit the picture.
    """
    height, width, channels = geometry.shape(picture.shape)
    if picture.dtype.name not in _DTYPES:
        raise DataError(
            f"pictures of {picture.dtype.name} cannot be resized or cropped: store them as "
            f"{', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}."
        )
    if picture.dtype == np.uint8 and max(geometry.fill, default=0) > 255:
        raise UsageError(f"fill {max(geometry.fill)}: pictures of uint8 have values up to 255.")
    made = _coloured(picture if picture.ndim == 3 else picture[..., None], geometry.colour)
    made = _resized(made, geometry.resized(*picture.shape[:2]), _FILTERS[geometry.interpolation])
    if geometry.crop is not None:
        made = _cropped(made, (height, width), geometry)
    return np.ascontiguousarray(made.reshape(height, width, channels))


def transform_image(picture: Image.Image, geometry: Geometry) -> NDArray[Any]:
    """Do what `transformed` does, to an image of mode L or RGB: an array is made of less."""
    colours = {"grey": "L", "rgb": "RGB", "bgr": "RGB"}
    mode = colours.get(geometry.colour, picture.mode)
    made = picture if picture.mode == mode else picture.convert(mode)
    height, width = geometry.resized(picture.height, picture.width)
    made = made.resize((width, height), _FILTERS[geometry.interpolation])
    values = np.asarray(made).reshape(height, width, -1)
    rest = msgspec.structs.replace(geometry, resize=None, fit=None)
    if geometry.colour != "bgr":
        rest = msgspec.structs.replace(rest, colour="as-is")
    return transform_array(values, rest)


def parse_resize(text: str) -> tuple[int, int] | int:
    """Read ``256``, the shorter side, or ``224x224``, height and width."""
    sides = _sides("--resize", text)
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def parse_crop(text: str) -> tuple[int, int]:
    """Read ``224``, a square, or ``224x192``, height and width."""
    sides = _sides("--crop", text)
    return sides[0], sides[-1]


def parse_interpolation(text: str) -> Interpolation:
    """Read the name of a filter, in any case."""
    _check_name("--interpolation", text, get_args(Interpolation))
    return cast("Interpolation", text.strip().lower())


def parse_colour(text: str) -> Colour:
    """Read what the channels are turned into, in any case."""
    _check_name("--colour", text, get_args(Colour))
    return cast("Colour", text.strip().lower())


def _coloured(picture: NDArray[Any], colour: Colour) -> NDArray[Any]:
    channels = picture.shape[2]
    if colour == "grey" and channels == 3:
        if picture.dtype != np.uint8:
            raise DataError(
                f"colours of {picture.dtype.name} cannot be turned into grey, for which Pillow "
                "has no rule: store the pictures as uint8, or grey."
            )
        return np.asarray(Image.fromarray(picture).convert("L"))[..., None]
    if colour in ("rgb", "bgr") and channels == 1:
        return np.repeat(picture, 3, axis=2)
    return picture[..., ::-1] if colour == "bgr" else picture


def _resized(
    picture: NDArray[Any], size: tuple[int, int], filter_: Image.Resampling
) -> NDArray[Any]:
    if picture.shape[:2] == size:
        return picture
    # Pillow takes width before height.
    target = (size[1], size[0])
    if picture.dtype == np.uint8 and picture.shape[2] == 3:
        image = Image.fromarray(np.ascontiguousarray(picture))
        return np.asarray(image.resize(target, filter_))
    out = np.empty((*size, picture.shape[2]), picture.dtype)
    for channel in range(picture.shape[2]):
        values = np.ascontiguousarray(picture[..., channel])
        if picture.dtype == np.uint16:
            # As floats, which hold them all: Pillow before 13 goes wrong where its filters
            # overshoot 65535.
            values = values.astype(np.float32)
        made = np.asarray(Image.fromarray(values).resize(target, filter_))
        out[..., channel] = made.round().clip(0, 65535) if picture.dtype == np.uint16 else made
    return out


def _cropped(picture: NDArray[Any], size: tuple[int, int], geometry: Geometry) -> NDArray[Any]:
    sides = picture.shape[:2]
    if any(want > have for want, have in zip(size, sides, strict=True)):
        shape = (*map(max, size, sides), picture.shape[2])
        padded = np.empty(shape, picture.dtype)
        padded[:] = np.array(geometry.fill or 0).astype(picture.dtype)
        top, left = (max(0, want - have) // 2 for want, have in zip(size, sides, strict=True))
        padded[top : top + sides[0], left : left + sides[1]] = picture
        picture, sides = padded, padded.shape[:2]
    spare = [have - want for want, have in zip(size, sides, strict=True)]
    # Python rounds half to even, and so torchvision does; transformers rounds down.
    down = geometry.offset == "down"
    top, left = (margin // 2 if down else round(margin / 2) for margin in spare)
    return picture[top : top + size[0], left : left + size[1]]


def _sides(option: str, text: str) -> list[int]:
    match = re.fullmatch(r"([0-9]{1,5})(?:[x×X]([0-9]{1,5}))?", text.strip())
    sides = [int(side) for side in match.groups() if side] if match else [0]
    if not all(1 <= side <= 1 << 15 for side in sides):
        raise UsageError(
            f"{option} {text!r} is not understood: give 256, or 224x192 for height x width."
        )
    return sides


def _check_name(option: str, text: str, names: Sequence[str]) -> None:
    if text.strip().lower() not in names:
        raise UsageError(f"{option} {text!r}: there are {', '.join(names)}.")
