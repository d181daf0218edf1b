"""Typed record of how images are resized, cropped and changed in colour.

It computes sizes only; `cnatool.data.images.transform` applies it to images.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from cnatool.errors import DataError, UsageError
from cnatool.records.choices import Colour, Interpolation

Fit = Literal["cover", "contain"]
Offset = Literal["even", "down"]
_Value = Annotated[int, msgspec.Meta(ge=0, le=65535)]

# A small file must not claim any amount of memory: 64 million pixels are 200 MB of 8-bit RGB.
_MOST_PIXELS = 1 << 26


class Geometry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Transform of an image: colours are changed, then it is resized, then cropped.

    Attributes
    ----------
    resize : (int, int) or int or None
        Height and width, or one number for the shorter side; null without resizing.
    interpolation : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
        Pillow's filter of that name, which smooths when shrinking.
    crop : (int, int) or None
        Height and width of the centre crop after resizing; smaller images are padded.
    colour : {"as-is", "rgb", "bgr", "grey"}
        Colours of the result.
    fit : {"cover", "contain"} or None
        Null: the image is resized to a pair exactly. Cover and contain keep the aspect ratio: the
        image just covers the pair, or just fits within it. One number is the length of the shorter
        side, or with contain of the longer one.
    offset : {"even", "down"}
        Rounding of the crop's offset if the centre lies between two pixels: half to even, or down.
    fill : tuple of int
        Padding: empty for black, one value, or one value per channel of the result.
    """

    resize: tuple[int, int] | int | None = None
    interpolation: Interpolation = "bilinear"
    crop: tuple[int, int] | None = None
    colour: Colour = "as-is"
    fit: Fit | None = None
    offset: Offset = "even"
    fill: tuple[_Value, ...] = ()

    def __post_init__(self) -> None:
        # Not as constraints of the types: msgspec (0.22) corrupts memory where a constrained
        # number stands beside a pair.
        for word, size in (("resize", self.resize), ("crop", self.crop)):
            sides = (size,) if isinstance(size, int) else size or (1,)
            if min(sides) < 1 or max(sides) > 1 << 15 or math.prod(sides) > _MOST_PIXELS:
                raise UsageError(
                    f"{word} {'x'.join(map(str, sides))}: give sides from 1 to {1 << 15}, and no "
                    f"more than {_MOST_PIXELS} pixels."
                )

    @property
    def is_fixed(self) -> bool:
        """Whether images of any size and colours get the same shape."""
        sized = self.crop is not None or (isinstance(self.resize, tuple) and self.fit is None)
        return sized and self.colour != "as-is"

    def __str__(self) -> str:
        """Describe the transform."""
        done = [] if self.colour == "as-is" else [f"converted to {self.colour.upper()}"]
        if self.resize is not None:
            if isinstance(self.resize, tuple):
                how = {"cover": "to cover ", "contain": "to lie within "}.get(self.fit or "", "to ")
                size = f"{how}{self.resize[0]}×{self.resize[1]}"
            else:
                side = "longer" if self.fit == "contain" else "shorter"
                size = f"to a {side} side of {self.resize}"
            done.append(f"resized {size} ({self.interpolation})")
        if self.crop is not None:
            done.append(f"cropped to the centre {self.crop[0]}×{self.crop[1]}")
        return "images " + ", ".join(done or ["as they are"])

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Compute height and width after resizing and before cropping.

        One number follows torchvision's ``Resize``: the other side is rounded down. A pair with
        ``fit`` follows timm's ``ResizeKeepRatio``: both sides are rounded to the nearest.
        """
        size = (height, width)
        if isinstance(self.resize, tuple):
            size = self._pair(self.resize, height, width)
        elif self.resize is not None:
            short, long = sorted(size)
            if self.fit == "contain":
                other, side = int(self.resize * short / long), self.resize
            else:
                other, side = self.resize, int(self.resize * long / short)
            size = (side, other) if width <= height else (other, side)
        if min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
            raise DataError(
                f"an image of {height}×{width} would be resized to {size[0]}×{size[1]} pixels: "
                "give both sides in `resize`, or omit such images."
            )
        return size

    def _pair(self, pair: tuple[int, int], height: int, width: int) -> tuple[int, int]:
        if self.fit is None:
            return pair
        ratios = (height / pair[0], width / pair[1])
        ratio = min(ratios) if self.fit == "cover" else max(ratios)
        return round(height / ratio), round(width / ratio)

    def shape(self, source: tuple[int, ...]) -> tuple[int, int, int]:
        """Compute height, width and channels of the result of an image, (h, w, c) or (h, w)."""
        if len(source) not in (2, 3) or min(source) < 1:
            raise DataError(f"samples of shape {source} are not images and cannot be resized.")
        height, width = self.resized(*source[:2])
        channels = source[2] if len(source) == 3 else 1
        if self.colour != "as-is":
            if channels not in (1, 3):
                raise DataError(
                    f"an image of shape {source} has {channels} channels, which cannot be "
                    f"converted to {self.colour}: keep the colours with `colour='as-is'`."
                )
            channels = 1 if self.colour == "grey" else 3
        if len(self.fill) > 1 and len(self.fill) != channels:
            raise UsageError(
                f"fill has {len(self.fill)} values, but the image {channels} channels: give one "
                "value, or one per channel."
            )
        return (*(self.crop or (height, width)), channels)
