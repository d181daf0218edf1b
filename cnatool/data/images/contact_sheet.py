"""The inputs of a model, drawn as images on a contact sheet.

Wrong colours, a wrong crop or an image on its side show at a glance, and in no number.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.choices import Colour
    from cnatool.records.run import Preprocessing

Order = Literal["chw", "hwc"]

_WHITE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
# Small images are magnified to about this size; all are separated by grey stripes.
_SIDE, _GAP, _GREY = 96, 2, 128
_NOT_FINITE = (255, 0, 255)
_MAX_PIXELS = 1 << 26


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """How the values that a model receives encode an image."""

    height: int  # of one image; 1 or 3 channels
    width: int
    channels: int
    order: Order = "chw"  # order of the elements, whatever the shape
    colour: Colour = "as-is"  # meaning of the channels
    scale: float = 1.0  # factor that was applied first
    mean: tuple[float, ...] = ()  # applied after it: empty, one value, or one per channel
    std: tuple[float, ...] = ()
    white: float = 1.0  # the raw value, before ``scale``, that is white; 0 is black


def describe_encoding(
    preprocessing: Preprocessing,
    colour: Colour = "as-is",
    size: tuple[int, int] | None = None,
    order: Order | None = None,
) -> ImageEncoding:
    """Describe the values that a preprocessing produces.

    Parameters
    ----------
    preprocessing : Preprocessing
        ``source_shape`` is that of the image that is arranged, after any resizing.
    colour : {"as-is", "rgb", "bgr", "grey"}
        What its channels were converted to.
    size : (int, int), optional
        Height and width, for flat samples.
    order : {"chw", "hwc"}, optional
        Order of the elements, for flat samples of 3 channels.
    """
    source, _, target = preprocessing.layout.rpartition("->")
    if len(preprocessing.source_shape) == 3:
        c, h, w = find_axes(preprocessing.source_shape, source)
    elif len(preprocessing.source_shape) == 2:
        c, h, w = (1, *preprocessing.source_shape)
    elif len(preprocessing.shape) == 3:
        c, h, w = find_axes(preprocessing.shape, target)
    elif len(preprocessing.source_shape) != 1:
        raise DataError(f"samples of shape {preprocessing.source_shape} are not images.")
    elif size is None:
        raise UsageError(
            f"samples of shape {preprocessing.source_shape} are flat: give their height and width "
            "with `size=(HEIGHT, WIDTH)`."
        )
    else:
        h, w = size
        c, rest = divmod(math.prod(preprocessing.source_shape), h * w)
        if rest or not c:
            raise UsageError(
                f"samples of shape {preprocessing.source_shape} are not images of {h}x{w}."
            )
    if c not in (1, 3):
        raise DataError(
            f"samples of shape {preprocessing.source_shape} have {c} channels: only images "
            "of 1 or 3 can be shown."
        )
    return ImageEncoding(
        h,
        w,
        c,
        order=_find_order(preprocessing, target, order if c > 1 else "chw"),
        colour=colour,
        scale=preprocessing.scale,
        mean=preprocessing.mean,
        std=preprocessing.std,
        white=_WHITE.get(preprocessing.source_dtype, 1.0),
    )


def draw_contact_sheet(batch: NDArray[Any], encoding: ImageEncoding) -> bytes:
    """Draw the inputs of a model as images side by side, as a PNG in RGB.

    Normalisation is undone, channels are put last and red first, and values are rounded to 8 bits;
    what is darker than black or lighter than white is clipped, and values that are not finite are
    drawn in magenta. Small images are magnified by a whole number.

    Parameters
    ----------
    batch : ndarray
        Shape (n, …), n at least 1; each row is one sample.
    encoding : ImageEncoding
        From `describe_encoding`.
    """
    if not len(batch):
        raise UsageError("there are no samples to show.")
    columns = math.ceil(math.sqrt(len(batch)))
    rows = math.ceil(len(batch) / columns)
    times = max(1, round(_SIDE / max(encoding.height, encoding.width)))
    step = (encoding.height * times + _GAP, encoding.width * times + _GAP)
    size = (rows * step[0] + _GAP, columns * step[1] + _GAP)
    if math.prod(size) > _MAX_PIXELS:
        raise UsageError(
            f"{len(batch)} images of {encoding.height}×{encoding.width} are too many to show "
            "at once: ask for fewer."
        )
    canvas = np.full((*size, 3), _GREY, np.uint8)
    for number, sample in enumerate(batch):
        top, left = (
            place * side + _GAP for place, side in zip(divmod(number, columns), step, strict=True)
        )
        image = draw_image(sample, encoding).repeat(times, axis=0).repeat(times, axis=1)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG")
    return file.getvalue()


def draw_image(sample: NDArray[Any], encoding: ImageEncoding) -> NDArray[np.uint8]:
    """Draw one sample as (h, w, 3)."""
    c, h, w = encoding.channels, encoding.height, encoding.width
    if sample.size != c * h * w or any(
        len(v) not in (0, 1, c) for v in (encoding.mean, encoding.std)
    ):
        raise DataError(
            f"a sample has shape {sample.shape}, which is not {h}×{w} pixels of {c} channels."
        )
    values = sample.astype(np.float64)
    values = values.reshape(c, h, w).transpose(1, 2, 0) if encoding.order == "chw" else values
    values = values.reshape(h, w, c)
    with np.errstate(over="ignore", invalid="ignore"):
        if encoding.std:
            values = values * encoding.std
        if encoding.mean:
            values = values + encoding.mean
        values = values / (encoding.scale * encoding.white) * 255
    if encoding.colour == "bgr":
        values = values[..., ::-1]
    values = np.broadcast_to(values, (h, w, 3))
    finite = np.isfinite(values)
    drawn = np.where(finite, values, 0).round().clip(0, 255).astype(np.uint8)
    drawn[~finite.all(axis=2)] = _NOT_FINITE
    return drawn


def find_axes(shape: tuple[int, ...], named: str) -> tuple[int, int, int]:
    """Return channels, height and width of a shape, whose order may be named."""
    a, b, c = shape
    return (c, a, b) if named == "hwc" or (named != "chw" and c in (1, 3)) else (a, b, c)


def _find_order(preprocessing: Preprocessing, target: str, otherwise: Order | None) -> Order:
    """Find the order of the model's elements."""
    if "->" in preprocessing.layout:
        return "chw" if target.endswith("chw") else "hwc"
    # Without a named layout, elements keep their order.
    for shape in (preprocessing.source_shape, preprocessing.shape):
        if len(shape) == 3:
            return "hwc" if shape[2] in (1, 3) else "chw"
    if otherwise is None:
        raise UsageError(
            f"samples of shape {preprocessing.source_shape} are flat: choose whether their "
            "channels come first or last."
        )
    return otherwise
