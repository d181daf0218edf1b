"""Decoded pictures on their way into a block: what of each is stored, and what the model is fed."""

from __future__ import annotations

import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.images.decode import decode, decoded_image, pixels
from cnatool.data.images.transform import transform_array, transform_image
from cnatool.data.source import InputSpec, SampleError
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from cnatool.data.images.decode import Opener
    from cnatool.data.source import ImageOptions
    from cnatool.records.image_transform import Geometry

    # Does something for each number below a count, in threads unless each is small; says which
    # could not be done, and why.
    Each = Callable[[int, Callable[[int], None], bool], dict[int, str]]
    # Gives the name of the picture of a number, for messages, and the picture: what opens it as a
    # file, or its pixels.
    Finder = Callable[[int], tuple[str, Opener | NDArray[Any]]]

# Fewer pictures than this are not worth a thread's start, nor are smaller ones: of these, most of
# the time goes into Python, which threads do not share out.
_PART = 8
_SMALL = 1 << 14
_LEVELS = 256
# Modes of 8 bits.
_RESIZED = ("L", "RGB")
# Where damaged ones are skipped, so many samples are tried for one that is not.
FIRST_READABLE = 256


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Pictures of a block.

    Attributes
    ----------
    stored, fed : ndarray
        (rows, …) as the input's spec says; the same array where nothing is made of pictures.
    faults : dict of int to str
        Why some could not be decoded, by row.
    """

    stored: NDArray[Any]
    fed: NDArray[Any]
    faults: dict[int, str]


def collect_model_arrays(inputs: Sequence[DecodedBatch]) -> tuple[NDArray[Any], ...]:
    """Give what a block says is made of its inputs: nothing where they are fed as they are."""
    if all(one.fed is one.stored for one in inputs):
        return ()
    return tuple(one.fed for one in inputs)


def read_first_image(found: Finder, rows: int, view: ImageOptions) -> tuple[str, NDArray[Any]]:
    """Give the first picture that can be read, after its name.

    Raises
    ------
    SampleError
        Naming the first one, if it cannot be decoded and such are not skipped, or none can.
    """
    refused: SampleError | None = None
    for row in range(min(rows, FIRST_READABLE) if view.skip_unreadable else 1):
        try:
            where, picture = found(row)
            return where, decode(where, picture) if callable(picture) else picture
        except SampleError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def describe_image(name: str, where: str, values: NDArray[Any], view: ImageOptions) -> InputSpec:
    """Describe an input by its first picture.

    Parameters
    ----------
    name, where : str
        The input, and the picture, for messages.
    values : ndarray
        (H, W) or (H, W, C).
    view : View

    Raises
    ------
    DataError
        If its levels cannot be counted.
    """
    plain = InputSpec(name, values.dtype, values.shape, "hwc" if values.ndim == 3 else None)
    if view.geometry is None and view.keep_inputs != "levels":
        return plain
    fed = plain
    if view.geometry is not None:
        made = transform_array(values, view.geometry)
        fed = InputSpec(name, made.dtype, made.shape, "hwc" if made.ndim == 3 else None)
    if view.keep_inputs == "values":
        return replace(plain, transformed=fed)
    if values.dtype != np.uint8:
        raise DataError(
            f"{where.rstrip(',')} has {values.dtype.itemsize * 8} bits a channel, and levels are "
            "counted of 8-bit pictures: save all with 8 bits, or, if they are of one size, store "
            "the pictures themselves with --keep-inputs values."
        )
    return InputSpec(name, np.dtype(np.uint32), (_LEVELS + 1,), levels=True, transformed=fed)


def decode_batch(
    spec: InputSpec, view: ImageOptions, rows: int, found: Finder, each: Each, first: str
) -> DecodedBatch:
    """Decode the pictures of a block and make of them what the spec says.

    Parameters
    ----------
    spec : InputSpec
        From `picture_spec`.
    view : View
        What that was made with.
    rows : int
        How many pictures.
    found : callable
        Gives one by its row.
    each : callable
        From `workers`.
    first : str
        The first picture of the source, for messages.

    Raises
    ------
    DataError
        If a picture differs in size or mode from the first and must not.
    SampleError
        If one cannot be decoded, unless such are skipped.
    """
    fed = spec.for_model
    stored = np.empty((rows, *spec.shape), spec.dtype)
    out = stored if fed is spec else np.empty((rows, *fed.shape), fed.dtype)
    geometry = view.geometry
    # A picture of another size is not even decoded where all must be of one.
    area = math.prod(fed.shape[:2]) if geometry is None else None

    def from_image(row: int, where: str, image: Image.Image, geometry: Geometry) -> None:
        # Without an array of the whole picture, which takes as long as resizing it.
        with _named(where):
            made = transform_image(image, geometry)
        _check_alike(first, fed, where, made, _remedy(fed, made))
        levels = np.array(image.histogram(), np.uint32).reshape(-1, _LEVELS)
        _count(stored[row], levels.sum(axis=0), made)
        out[row] = made

    def from_values(row: int, where: str, values: NDArray[Any]) -> None:
        made = values
        if geometry is not None:
            with _named(where):
                made = transform_array(values, geometry)
        if out is not stored and not spec.levels:
            _check_alike(first, spec, where, values, "Or use --keep-inputs levels")
            stored[row] = values
        _check_alike(first, fed, where, made, _remedy(fed, made))
        if spec.levels:
            _count(stored[row], np.bincount(values.ravel(), minlength=_LEVELS), made)
        out[row] = made

    def one(row: int) -> None:
        where, picture = found(row)
        if not callable(picture):
            from_values(row, where, picture)
        elif geometry is None:
            from_values(row, where, decode(where, picture, area))
        else:
            with decoded_image(where, picture) as image:
                if spec.levels and image.mode in _RESIZED:
                    from_image(row, where, image, geometry)
                else:
                    from_values(row, where, pixels(image))

    small = geometry is None and out.nbytes < _SMALL * rows
    return DecodedBatch(stored, out, each(rows, one, small))


@contextmanager
def decode_threads(*, skip: bool = False) -> Iterator[Each]:
    """Give what does something for each number on several threads.

    Unless ``skip``, the first number that cannot be done is the one whose error is raised.
    """
    count = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="cnatool-decode") as pool:

        def each(rows: int, one: Callable[[int], None], small: bool) -> dict[int, str]:
            def part(start: int) -> dict[int, str]:
                faults = {}
                for row in range(start, min(start + size, rows)):
                    try:
                        one(row)
                    except SampleError as error:
                        if not skip:
                            raise
                        faults[row] = error.reason
                return faults

            # Several parts a worker: pictures of one folder differ in the time that they take.
            size = max(_PART, math.ceil(rows / (4 * count)))
            starts = range(0, rows, size)
            found: dict[int, str] = {}
            for faults in map(part, starts) if small else pool.map(part, starts):
                found |= faults
            return found

        yield each


def _check_alike(first: str, spec: InputSpec, where: str, found: NDArray[Any], remedy: str) -> None:
    if found.dtype != spec.dtype:
        bits = [8 * one.itemsize for one in (found.dtype, spec.dtype)]
        raise SampleError(
            f"{where.rstrip(',')} has {bits[0]} bits a channel and the first picture {bits[1]} "
            f"({first.rstrip(',')}).",
            "Save all of them alike",
        )
    if found.shape == spec.shape:
        return
    raise DataError(
        f"{where} is {found.shape} and the first is {spec.shape} ({first.rstrip(',')}): "
        f"pictures must have the same size and mode. {remedy}."
    )


def _remedy(spec: InputSpec, made: NDArray[Any]) -> str:
    """Say which option makes a picture like the first."""
    ways = []
    if made.shape[:2] != spec.shape[:2]:
        ways.append("--resize HEIGHTxWIDTH, or --resize SIDE --crop HEIGHTxWIDTH")
    if made.shape[2:] != spec.shape[2:]:
        ways.append("--colour rgb or --colour grey")
    return f"Make them so with {', and '.join(ways)}"


def _count(row: NDArray[np.uint32], levels: NDArray[Any], made: NDArray[Any]) -> None:
    """Write what is stored instead of a picture.

    Many pictures have the same counts: turned around, one has. The checksum of what the model is
    fed tells them apart.
    """
    row[:_LEVELS] = levels
    row[_LEVELS] = zlib.crc32(np.ascontiguousarray(made).data)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say which picture it is that cannot be brought to a size."""
    try:
        yield
    except DataError as error:
        raise SampleError(f"{where.rstrip(',')}: {error}") from error
