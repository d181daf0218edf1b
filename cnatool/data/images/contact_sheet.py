"""What a model is fed, turned back into pictures that a person can look at.

Wrong colours, a wrong crop or a picture on its side show at a glance, and in no number.
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
# Small pictures are magnified to about this, and all lie apart by a stripe of grey.
_SIDE, _GAP, _GREY = 96, 2, 128
_NOT_FINITE = (255, 0, 255)
_MOST_PIXELS = 1 << 26


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """What the numbers that a model is fed mean.

    Attributes
    ----------
    height, width, channels : int
        Of one picture; 1 or 3 channels.
    order : {"chw", "hwc"}
        In which its elements lie, whatever the shape.
    colour : {"as-is", "rgb", "bgr", "grey"}
        What the channels are.
    scale : float
        The factor that was applied first.
    mean, std : tuple of float
        Applied after it: empty, one value, or one a channel.
    white : float
        The raw value, before ``scale``, that is shown as white; 0 is black.
    """

    height: int
    width: int
    channels: int
    order: Order = "chw"
    colour: Colour = "as-is"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    white: float = 1.0


def describe_encoding(
    made: Preprocessing,
    colour: Colour = "as-is",
    size: tuple[int, int] | None = None,
    order: Order | None = None,
) -> ImageEncoding:
    """Say what the numbers mean that a decided preprocessing makes.

    Parameters
    ----------
    made : Preprocessing
        ``made.source_shape`` is that of the picture that is arranged, after any resizing.
    colour : {"as-is", "rgb", "bgr", "grey"}
        What its channels were turned into.
    size : (int, int), optional
        Height and width, where samples are flat and do not tell.
    order : {"chw", "hwc"}, optional
        In which their elements lie, where flat samples of 3 channels do not tell.

    Raises
    ------
    DataError
        If the samples are no pictures of 1 or 3 channels.
    UsageError
        If ``size`` or ``order`` is needed, or ``size`` does not fit.
    """
    source, _, target = made.layout.rpartition("->")
    if len(made.source_shape) == 3:
        c, h, w = _axes(made.source_shape, source)
    elif len(made.source_shape) == 2:
        c, h, w = (1, *made.source_shape)
    elif len(made.shape) == 3:
        c, h, w = _axes(made.shape, target)
    elif len(made.source_shape) != 1:
        raise DataError(f"samples of shape {made.source_shape} are no pictures.")
    elif size is None:
        raise UsageError(
            f"samples of shape {made.source_shape} are flat: say their height and width with "
            "--size HEIGHTxWIDTH."
        )
    else:
        h, w = size
        c, rest = divmod(math.prod(made.source_shape), h * w)
        if rest or not c:
            raise UsageError(f"samples of shape {made.source_shape} are no pictures of {h}x{w}.")
    if c not in (1, 3):
        raise DataError(
            f"samples of shape {made.source_shape} have {c} channels: only pictures of 1 or 3 can "
            "be shown."
        )
    return ImageEncoding(
        h,
        w,
        c,
        order=_order(made, target, order if c > 1 else "chw"),
        colour=colour,
        scale=made.scale,
        mean=made.mean,
        std=made.std,
        white=_WHITE.get(made.source_dtype, 1.0),
    )


def draw_contact_sheet(batch: NDArray[Any], facts: ImageEncoding) -> bytes:
    """Draw what a model is fed as pictures side by side, as a PNG.

    Normalising is undone, channels are put last and red first, and values are rounded to 8 bits;
    what lies beyond black or white is cut off, and what is not finite is drawn in magenta.

    Parameters
    ----------
    batch : ndarray
        (n, …) of numbers, n at least 1, each row one sample with the elements of ``facts``.
    facts : Fed
        What they mean; from `fed`.

    Returns
    -------
    bytes
        A PNG of RGB. Small pictures are magnified by a whole number.

    Raises
    ------
    UsageError
        If there are no pictures, or too many to draw.
    DataError
        If the samples are not what ``facts`` says.
    """
    if not len(batch):
        raise UsageError("there are no samples to show.")
    columns = math.ceil(math.sqrt(len(batch)))
    rows = math.ceil(len(batch) / columns)
    times = max(1, round(_SIDE / max(facts.height, facts.width)))
    step = (facts.height * times + _GAP, facts.width * times + _GAP)
    size = (rows * step[0] + _GAP, columns * step[1] + _GAP)
    if math.prod(size) > _MOST_PIXELS:
        raise UsageError(
            f"{len(batch)} pictures of {facts.height}×{facts.width} are too many to show at once: "
            "ask for fewer."
        )
    canvas = np.full((*size, 3), _GREY, np.uint8)
    for number, sample in enumerate(batch):
        top, left = (
            at * side + _GAP for at, side in zip(divmod(number, columns), step, strict=True)
        )
        picture = _picture(sample, facts).repeat(times, axis=0).repeat(times, axis=1)
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG")
    return file.getvalue()


def _picture(sample: NDArray[Any], facts: ImageEncoding) -> NDArray[np.uint8]:
    """Make (h, w, 3) of one sample."""
    c, h, w = facts.channels, facts.height, facts.width
    if sample.size != c * h * w or any(len(v) not in (0, 1, c) for v in (facts.mean, facts.std)):
        raise DataError(
            f"a sample of shape {sample.shape} came where {h}×{w} pixels of {c} channels were "
            "planned."
        )
    values = sample.astype(np.float64)
    values = values.reshape(c, h, w).transpose(1, 2, 0) if facts.order == "chw" else values
    values = values.reshape(h, w, c)
    with np.errstate(over="ignore", invalid="ignore"):
        if facts.std:
            values = values * facts.std
        if facts.mean:
            values = values + facts.mean
        values = values / (facts.scale * facts.white) * 255
    if facts.colour == "bgr":
        values = values[..., ::-1]
    values = np.broadcast_to(values, (h, w, 3))
    finite = np.isfinite(values)
    drawn = np.where(finite, values, 0).round().clip(0, 255).astype(np.uint8)
    drawn[~finite.all(axis=2)] = _NOT_FINITE
    return drawn


def _axes(shape: tuple[int, ...], named: str) -> tuple[int, int, int]:
    """Give channels, height and width of a shape, whose order may have a name."""
    a, b, c = shape
    return (c, a, b) if named == "hwc" or (named != "chw" and c in (1, 3)) else (a, b, c)


def _order(made: Preprocessing, target: str, otherwise: Order | None) -> Order:
    """In which order the model's elements lie."""
    if "->" in made.layout:
        return "chw" if target.endswith("chw") else "hwc"
    # Elements that keep their order lie as they came.
    for shape in (made.source_shape, made.shape):
        if len(shape) == 3:
            return "hwc" if shape[2] in (1, 3) else "chw"
    if otherwise is None:
        raise UsageError(
            f"samples of shape {made.source_shape} are flat: say whether their channels come first "
            "or last."
        )
    return otherwise
