"""Small pictures of samples, made from the raw inputs that a store holds."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from PIL import Image, features

from cnatool.data.images.contact_sheet import ImageEncoding, Order, draw_image, find_axes
from cnatool.page.packed import Packed, pack
from cnatool.store.ragged import as_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.records.choices import InputKind
    from cnatool.records.run import Preprocessing
    from cnatool.records.store import ArrayRecord, StoreRecord
    from cnatool.store.store import Split

# Longest side of a picture in pixels, and pictures of a sheet, which a browser decodes at once.
_SIDE = 64
_SHEET, _COLUMNS = 400, 20
# Bytes of all pictures on a page; a part is kept in hand, as sizes are estimated.
_BUDGET = 4_800_000
_IN_HAND = 0.9
_PROBED = 64  # pictures that the estimate is made from
_ROWS_BYTES = 64 << 20  # of raw inputs that are read at a time
_KINDS: Mapping[InputKind, str] = {
    "text": "texts",
    "tokens": "token ids",
    "sound": "sound",
}
_WHITE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}


class Pictures(msgspec.Struct, frozen=True):
    """Pictures of samples on sheets, row by row.

    Attributes
    ----------
    count : int
        Number of pictures.
    width, height : int
        Of one picture in pixels.
    columns, sheet : int
        Pictures in a row of a sheet, and on a whole sheet.
    samples : Packed
        The sample that each picture is of, by its place on the page.
    sheets : tuple of str
        The sheets as ``data:`` URLs.
    contrast : (float, float) or None
        The values that are black and white, where the store does not say which are.
    """

    count: int
    width: int
    height: int
    columns: int
    sheet: int
    samples: Packed
    sheets: tuple[str, ...]
    contrast: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class _Source:
    """Raw inputs that are pictures."""

    number: int  # of the raw input
    encoding: ImageEncoding
    known: bool  # whether black and white are known from the element type


def draw_pictures(
    splits: Mapping[str, Split], rows: Mapping[str, NDArray[np.intp]], sets: int
) -> Pictures | str:
    """Draw as many of the chosen samples as one of several sets may have.

    Which ones is random, and the same each time. Without pictures, return the reason.
    """
    total = sum(map(len, rows.values()))
    if not total:
        return "there are no samples"
    source = _find_source(next(iter(splits.values())).store.record)
    if isinstance(source, str):
        return source
    order = np.random.default_rng(0).permutation(total)
    probe = np.sort(order[:_PROBED])
    raw = np.concatenate(list(_read(splits, rows, source.number, probe)))
    encoding, contrast = _set_contrast(source, raw)
    width, height = _fit(encoding)
    bytes_each = len(_encode_sheet([_draw(x, encoding) for x in raw])) / len(probe)
    count = min(total, int(_IN_HAND * _BUDGET / sets / max(1.0, bytes_each)))
    if not count:
        return "no picture fits the page beside those of the other stores"
    chosen = np.sort(order[:count])
    sheets = []
    images: list[NDArray[np.uint8]] = []
    for block in _read(splits, rows, source.number, chosen):
        for sample in block:
            images.append(_draw(sample, encoding))
            if len(images) == _SHEET:
                sheets.append(_encode_sheet(images))
                images = []
    if images:
        sheets.append(_encode_sheet(images))
    return Pictures(
        count,
        width,
        height,
        _COLUMNS,
        _SHEET,
        pack(chosen, "u4"),
        tuple(map(_data_url, sheets)),
        contrast,
    )


def _find_source(record: StoreRecord) -> _Source | str:
    """Find the first raw input that is a picture, or return why there is none."""
    reasons: list[str] = []
    for array, recipe in zip(record.inputs, record.steps, strict=True):
        source = read_as_picture(array, recipe)
        if isinstance(source, ImageEncoding):
            return _Source(len(reasons), source, array.dtype in _WHITE)
        reasons.append(source)
    return reasons[0] if reasons else "the store holds no raw inputs"


def read_as_picture(array: ArrayRecord, recipe: Preprocessing | None) -> ImageEncoding | str:
    """Return how a raw input encodes pictures, or why it does not."""
    shape, named = _find_shape(array.shape, recipe)
    if array.kind is not msgspec.UNSET:
        return f"the raw inputs are {_KINDS[array.kind]}"
    if array.levels is not None:
        return (
            "the store holds only how often each level occurs in an image; a dump with "
            "`keep_inputs=values` has the images"
        )
    if len(shape) not in (2, 3) or 0 in shape:
        return f"the raw inputs are of shape {list(array.shape)} a sample, which is no picture"
    if array.dtype not in _WHITE and not array.dtype.startswith("float"):
        return f"the raw inputs hold {array.dtype}, which is not a type of pictures"
    c, h, w = (1, *shape) if len(shape) == 2 else find_axes(shape, named)
    if c not in (1, 3):
        return f"the raw inputs have {c} channels, and only 1 or 3 can be drawn"
    order: Order = "hwc" if shape == (h, w, c) else "chw"
    return ImageEncoding(h, w, c, order=order, white=_WHITE.get(array.dtype, 1.0))


def _find_shape(
    shape: tuple[int, ...], recipe: Preprocessing | None
) -> tuple[tuple[int, ...], str]:
    """Return the shape of a raw input, and its order of axes where that is recorded.

    A flat sample that the model receives as an image has the shape of that image.
    """
    if recipe is None:
        return shape, ""
    source, _, target = recipe.layout.partition("->")
    if len(shape) != 1 or len(recipe.shape) != 3:
        return shape, source
    c, h, w = find_axes(recipe.shape, target)
    if source == "flat-hwc":
        return (h, w, c), "hwc"
    return ((c, h, w), "chw") if source == "flat-chw" else (recipe.shape, target)


def _read(
    splits: Mapping[str, Split],
    rows: Mapping[str, NDArray[np.intp]],
    number: int,
    places: NDArray[np.intp],
) -> Iterator[NDArray[Any]]:
    """Yield the raw inputs of samples by their rising places on the page, some at a time."""
    first = 0
    for name, chosen in rows.items():
        here = places[(places >= first) & (places < first + len(chosen))] - first
        first += len(chosen)
        inputs = as_plain(splits[name].inputs(number))
        step = max(1, _ROWS_BYTES // inputs.row_bytes)
        for start in range(0, len(here), step):
            yield inputs[chosen[here[start : start + step]]]


def _set_contrast(
    source: _Source, raw: NDArray[Any]
) -> tuple[ImageEncoding, tuple[float, float] | None]:
    """Decide which values are black and white, from some of the samples if need be."""
    if source.known:
        return source.encoding, None
    finite = raw[np.isfinite(raw)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return source.encoding, None
    if low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    width = high - low if 0 < high - low < math.inf else 1.0
    contrast = (low, low + width)
    return replace(source.encoding, mean=(-low / width,), std=(1 / width,)), contrast


def _fit(encoding: ImageEncoding) -> tuple[int, int]:
    """Return width and height of a picture, small enough and in the right proportions."""
    factor = min(1.0, _SIDE / max(encoding.width, encoding.height))
    return max(1, round(encoding.width * factor)), max(1, round(encoding.height * factor))


def _draw(sample: NDArray[Any], encoding: ImageEncoding) -> NDArray[np.uint8]:
    """Draw one sample as a small picture, (h, w, 3)."""
    pixels = draw_image(sample, encoding)
    size = _fit(encoding)
    if size == (encoding.width, encoding.height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _encode_sheet(images: list[NDArray[np.uint8]]) -> bytes:
    """Put pictures on a sheet, and compress it: grey ones as PNG, coloured ones as WebP."""
    height, width = images[0].shape[:2]
    lines = -(-len(images) // _COLUMNS)
    sheet = np.zeros((lines * height, _COLUMNS * width, 3), np.uint8)
    for place, image in enumerate(images):
        line, column = divmod(place, _COLUMNS)
        sheet[line * height : (line + 1) * height, column * width : (column + 1) * width] = image
    grey = (sheet == sheet[..., :1]).all()
    file = io.BytesIO()
    if grey:
        Image.fromarray(sheet[..., 0]).save(file, "PNG", optimize=True)
    elif features.check("webp"):
        Image.fromarray(sheet).save(file, "WEBP", quality=80, method=4)
    else:
        Image.fromarray(sheet).save(file, "JPEG", quality=85)
    return file.getvalue()


def _data_url(sheet: bytes) -> str:
    kinds = {b"\x89PNG": "png", b"RIFF": "webp", b"\xff\xd8\xff\xe0": "jpeg"}
    return f"data:image/{kinds[sheet[:4]]};base64,{base64.b64encode(sheet).decode('ascii')}"
