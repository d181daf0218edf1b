"""Images of a block, decoded in threads: what is stored, and what the model receives."""

from __future__ import annotations

import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.images.decode import decode, decode_image, to_array
from cnatool.data.images.transform import transform_array, transform_image
from cnatool.data.source import InputSpec, SampleError
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from cnatool.data.images.decode import Opener
    from cnatool.data.selection import ImageOptions
    from cnatool.records.image_transform import Geometry
    from cnatool.records.ragged import Rows

    # Calls a function with each number below a count, in threads unless each call is short;
    # returns why some could not be done.
    Each = Callable[[int, Callable[[int], None], bool], dict[int, str]]
    # Finds an image by its number: its name for messages, and what opens its file, or its pixels.
    Finder = Callable[[int], tuple[str, Opener | NDArray[Any]]]

# Fewer images than this are not worth starting a thread, nor are smaller ones: these spend most of
# their time in Python, which threads do not share.
_PART = 8
_SMALL = 1 << 14
_LEVELS = 256
_8_BIT_MODES = ("L", "RGB")
# If unreadable images are skipped, the number of images that are tried to find a readable one.
FIRST_READABLE = 256


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Arrays of the samples of a block."""

    stored: Rows  # shape (rows, …); the same array if the model receives what is stored
    for_model: Rows
    faults: dict[int, str]  # why samples could not be decoded, by row


def collect_model_arrays(inputs: Sequence[DecodedBatch]) -> tuple[Rows, ...]:
    """Collect what the model receives; nothing if that is what is stored."""
    if all(batch.for_model is batch.stored for batch in inputs):
        return ()
    return tuple(batch.for_model for batch in inputs)


def read_first_image(find: Finder, rows: int, options: ImageOptions) -> tuple[str, NDArray[Any]]:
    """Return the name and the pixels of the first image that can be read.

    Raises the SampleError of the first image if it cannot be decoded and images are not skipped, or
    if none can be decoded.
    """
    first_error: SampleError | None = None
    for row in range(min(rows, FIRST_READABLE) if options.skip_unreadable else 1):
        try:
            where, image = find(row)
            return where, decode(where, image) if callable(image) else image
        except SampleError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def describe_image(name: str, where: str, values: NDArray[Any], options: ImageOptions) -> InputSpec:
    """Describe an input by its first image, (H, W) or (H, W, C)."""
    plain = InputSpec(name, values.dtype, values.shape, "hwc" if values.ndim == 3 else None)
    if options.geometry is None and options.keep_inputs != "levels":
        return plain
    for_model = plain
    if options.geometry is not None:
        image = transform_array(values, options.geometry)
        for_model = InputSpec(name, image.dtype, image.shape, "hwc" if image.ndim == 3 else None)
    if options.keep_inputs == "values":
        return replace(plain, transformed=for_model)
    if values.dtype != np.uint8:
        raise DataError(
            f"{where.rstrip(',')} has {values.dtype.itemsize * 8} bits per channel, and levels are "
            "counted of 8-bit images: save all with 8 bits, or, if they have one size, store the "
            "images themselves with `keep_inputs=values`."
        )
    return InputSpec(name, np.dtype(np.uint32), (_LEVELS + 1,), levels=True, transformed=for_model)


def decode_batch(
    spec: InputSpec, options: ImageOptions, rows: int, find: Finder, each: Each, first: str
) -> DecodedBatch:
    """Decode the images of a block.

    Parameters
    ----------
    spec : InputSpec
        From `describe_image` with the same ``options``.
    options : ImageOptions
    rows : int
        Number of images.
    find : callable
        Finds an image by its row.
    each : callable
        From `decode_threads`.
    first : str
        The first image of the source, for messages.

    Raises
    ------
    DataError
        If an image differs from the first in size or mode and must not.
    SampleError
        If one cannot be decoded, unless such images are skipped.
    """
    target = spec.for_model
    stored = np.empty((rows, *spec.shape), spec.dtype)
    for_model = stored if target is spec else np.empty((rows, *target.shape), target.dtype)
    geometry = options.geometry
    # An image of another size is not even decoded if all must have one size.
    area = math.prod(target.shape[:2]) if geometry is None else None

    def count_levels(row: int, where: str, image: Image.Image, geometry: Geometry) -> None:
        # Without an array of the whole image, which takes as long as resizing it.
        with _naming(where):
            values = transform_image(image, geometry)
        _check_alike(first, target, where, values, _resize_advice(target, values))
        levels = np.array(image.histogram(), np.uint32).reshape(-1, _LEVELS)
        _store_levels(stored[row], levels.sum(axis=0), values)
        for_model[row] = values

    def copy_values(row: int, where: str, raw: NDArray[Any]) -> None:
        values = raw
        if geometry is not None:
            with _naming(where):
                values = transform_array(raw, geometry)
        if for_model is not stored and not spec.levels:
            _check_alike(first, spec, where, raw, "Or use `keep_inputs=levels`")
            stored[row] = raw
        _check_alike(first, target, where, values, _resize_advice(target, values))
        if spec.levels:
            _store_levels(stored[row], np.bincount(raw.ravel(), minlength=_LEVELS), values)
        for_model[row] = values

    def decode_row(row: int) -> None:
        where, image = find(row)
        if not callable(image):
            copy_values(row, where, image)
        elif geometry is None:
            copy_values(row, where, decode(where, image, area))
        else:
            with decode_image(where, image) as decoded:
                if spec.levels and decoded.mode in _8_BIT_MODES:
                    count_levels(row, where, decoded, geometry)
                else:
                    copy_values(row, where, to_array(decoded))

    small = geometry is None and for_model.nbytes < _SMALL * rows
    return DecodedBatch(stored, for_model, each(rows, decode_row, small))


@contextmanager
def decode_threads(*, skip: bool = False) -> Iterator[Each]:
    """Start threads, and yield a function that calls another with each of some numbers.

    Unless ``skip``, the error of the first number that cannot be done is raised.
    """
    count = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="cnatool-decode") as pool:

        def each(rows: int, function: Callable[[int], None], small: bool) -> dict[int, str]:
            # Several parts for each thread: images of one folder differ in the time that they take.
            size = max(_PART, math.ceil(rows / (4 * count)))

            def run_part(start: int) -> dict[int, str]:
                faults = {}
                for row in range(start, min(start + size, rows)):
                    try:
                        function(row)
                    except SampleError as error:
                        if not skip:
                            raise
                        faults[row] = error.reason
                return faults

            starts = range(0, rows, size)
            parts = map(run_part, starts) if small else pool.map(run_part, starts)
            return {row: text for faults in parts for row, text in faults.items()}

        yield each


def _check_alike(
    first: str, spec: InputSpec, where: str, values: NDArray[Any], advice: str
) -> None:
    if values.dtype != spec.dtype:
        bits, first_bits = (8 * dtype.itemsize for dtype in (values.dtype, spec.dtype))
        raise SampleError(
            f"{where.rstrip(',')} has {bits} bits per channel and the first image {first_bits} "
            f"({first.rstrip(',')}).",
            "Save all of them alike",
        )
    if values.shape != spec.shape:
        raise DataError(
            f"{where} is {values.shape} and the first is {spec.shape} ({first.rstrip(',')}): "
            f"images must have the same size and mode. {advice}."
        )


def _resize_advice(spec: InputSpec, values: NDArray[Any]) -> str:
    """Return which options make an image like the first."""
    ways = []
    if values.shape[:2] != spec.shape[:2]:
        ways.append("`resize=(HEIGHT, WIDTH)`, or `resize=SIDE` and `crop=(HEIGHT, WIDTH)`")
    if values.shape[2:] != spec.shape[2:]:
        ways.append("`colour=rgb` or `colour=grey`")
    return f"Make them so with {', and '.join(ways)}"


def _store_levels(row: NDArray[np.uint32], levels: NDArray[Any], values: NDArray[Any]) -> None:
    """Write what is stored instead of an image.

    Different images may have the same counts, such as an image and itself turned around. The
    checksum of what the model receives tells them apart.
    """
    row[:_LEVELS] = levels
    row[_LEVELS] = zlib.crc32(np.ascontiguousarray(values).data)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Name the image in errors about its transformation."""
    try:
        yield
    except DataError as error:
        raise SampleError(f"{where.rstrip(',')}: {error}") from error
