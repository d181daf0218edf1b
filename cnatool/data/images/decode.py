"""Decoding of one image, from a file or from bytes, to an array."""

from __future__ import annotations

import errno
import io
import os
import re
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnatool._util.local_paths import LFS_ADVICE, LFS_SIGNATURE
from cnatool._util.observer import working_on
from cnatool._util.text import one_line, printable
from cnatool.data.budget import Budget
from cnatool.data.source import SampleError
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    Opener = Callable[[], AbstractContextManager[BinaryIO]]
    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# Bytes of a read that is never limited.
_AT_ONCE = 1 << 16
# Only these decoders are tried, whatever a file's name says.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_CONVERT = {
    **dict.fromkeys(("1", "L", "LA"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"), "RGB"),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "I;16"),
}
_ORIENTATION = 0x0112
# Pillow warns of an image of over 89 million pixels and refuses twice that. Either is an error
# here, the first by a check of the size: filters of warnings are not per thread.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What a viewer must do with stored rows and columns, by the EXIF standard.
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(where: str, opener: Opener, area: int | None = None) -> Pixels:
    """Decode to (H, W) or (H, W, 3) of uint8, or (H, W) of uint16.

    An alpha channel that is opaque everywhere is dropped, since nothing is lost with it.

    Parameters
    ----------
    where : str
        The image, for messages.
    opener : callable
        Opens its bytes as a file.
    area : int, optional
        Required number of pixels; an image with more or fewer is not decoded: the result is an
        array of its shape that takes no memory.

    Raises
    ------
    SampleError
        If the image is damaged, too large, or would lose information as such an array.
    """
    with ExitStack() as stack:
        decoded = _decode(where, opener, area, stack)
        return to_array(decoded) if isinstance(decoded, Image.Image) else decoded


@contextmanager
def decode_image(where: str, opener: Opener) -> Iterator[Image.Image]:
    """Decode as `decode` does, to an image of mode L, RGB or I;16.

    It counts towards the limit of pixels in memory until the context ends.
    """
    with ExitStack() as stack:
        decoded = _decode(where, opener, None, stack)
        assert isinstance(decoded, Image.Image)
        yield decoded


def to_array(image: Image.Image) -> Pixels:
    """Convert an image of mode L, RGB or I;16."""
    values = np.asarray(image)
    return cast("Pixels", values.astype(_dtype(image.mode), copy=False))


class _File(io.BufferedReader):
    """A file whose reads allocate no more than it holds, whatever size an image declares."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        if size is not None and size > _AT_ONCE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


# An image of ten kilobytes can decode to a gigabyte, and there is a thread for each processor.
_BUDGET = Budget(1 << 26)


def _decode(where: str, opener: Opener, area: int | None, stack: ExitStack) -> Image.Image | Pixels:
    try:
        with (
            working_on(where.rstrip(",")),
            opener() as file,
            Image.open(file, formats=_FORMATS) as image,
        ):
            _check_size(where, image)
            mode = _target_mode(where, image)
            if area is not None and image.width * image.height != area:
                shape = (image.height, image.width, *((3,) if mode == "RGB" else ()))
                return np.broadcast_to(np.zeros((), _dtype(mode)), shape)
            stack.enter_context(_BUDGET.reserve(image.width * image.height))
            image.load()
            # After loading: Pillow turns TIFFs by itself and then drops the mark.
            turn = _TURN.get(image.getexif().get(_ORIENTATION, 1))
            converted = _convert(where, image, mode)
            return converted if turn is None else converted.transpose(turn)
    except (SampleError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise _too_large(where, f"it has more pixels than the limit, {limit}.") from error
    except UnidentifiedImageError as error:
        with opener() as file:
            if file.read(len(LFS_SIGNATURE)) == LFS_SIGNATURE:
                raise SampleError(
                    f"{where} is a Git LFS pointer, not an image.", LFS_ADVICE
                ) from error
        raise SampleError(
            f"{where} is damaged, or not an image in a known format ({', '.join(_FORMATS)}).",
            "Replace it or remove it",
        ) from error
    # Pillow's decoders raise anything on a damaged file: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, and others.
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in (None, errno.ENOENT):
            # The image is not at fault: too many open files, or a disk fails.
            raise DataError(f"{where} cannot be read ({os.strerror(number)}).") from error
        raise SampleError(
            f"{where} is damaged, or not an image in a known format "
            f"({printable(one_line(error))}).",
            "Replace it or remove it",
        ) from error


def bytes_opener(content: bytes) -> Opener:
    """Return a function that opens an image in memory."""
    return lambda: io.BytesIO(content)


def file_opener(path: Path) -> Opener:
    """Return a function that opens an image file."""
    return lambda: cast("BinaryIO", _File(path.open("rb", buffering=0)))


def _check_size(where: str, image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise _too_large(
            where, f"it has {image.width}×{image.height} pixels, and the limit is {limit}."
        )


def _too_large(where: str, text: str) -> SampleError:
    return SampleError(f"{where} is too large to be decoded safely: {text} Scale the image down.")


def _target_mode(where: str, image: Image.Image) -> str:
    if image.mode in ("I", "F"):
        raise SampleError(
            f"{where} holds numbers of 32 bits, which are no image: save the samples as arrays, "
            "for example all of them as one .npz."
        )
    if not image.mode.startswith("I;16") and _is_wide(image):
        raise SampleError(
            f"{where} has several channels of 16 bits, of which Pillow would drop half: save the "
            "images with 8 bits, or all of them as one .npz."
        )
    if image.mode not in _CONVERT:
        raise SampleError(
            f"{where} has the mode {image.mode}, which is not supported: save the images as grey "
            "or RGB."
        )
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise SampleError(
            f"{where} holds several images: save each as a file of its own, or only the first."
        )
    return _CONVERT[image.mode]


def _is_wide(image: Image.Image) -> bool:
    """Whether Pillow would silently halve 16-bit colour: only its raw mode tells (``RGB;16B``)."""
    if image.format not in ("PNG", "TIFF"):
        return False
    tiles: list[Any] = getattr(image, "tile", [])
    return any(re.search(r";16", str(tile)) for tile in tiles)


def _convert(where: str, image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        with_alpha = None if mode == "I;16" else image.convert("RGBA" if mode == "RGB" else "LA")
        # The least value of the last channel, without an array of all.
        least = None if with_alpha is None else with_alpha.getchannel("A").getextrema()[0]
        if with_alpha is None or cast("int", least) < 255:
            raise SampleError(
                f"{where} has transparent parts, behind which there is no colour: save the images "
                "without transparency."
            )
        image = with_alpha
    return image.convert(mode) if image.mode != mode and mode != "I;16" else image


def _dtype(mode: str) -> np.dtype[Any]:
    return np.dtype(np.uint16 if mode.startswith("I;16") else np.uint8)
