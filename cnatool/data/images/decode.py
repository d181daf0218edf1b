"""One encoded picture to an array, whatever it lies in: a folder, a Parquet column, an archive."""

from __future__ import annotations

import errno
import io
import os
import re
import warnings
from contextlib import ExitStack, contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnatool._util.local_paths import LFS_ADVICE, LFS_SIGNATURE
from cnatool._util.observer import working_on
from cnatool._util.text import one_line, printable
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

# Reads of up to so many bytes are not limited.
_AT_ONCE = 1 << 16
# Only these decoders are tried, whatever a file's name says.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_CONVERT = {
    **dict.fromkeys(("1", "L", "LA"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"), "RGB"),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "I;16"),
}
_ORIENTATION = 0x0112
# Pillow warns of a picture of over 89 million pixels and refuses at twice that. Either is an error
# here, the first by a look at the size: filters of warnings are not of a thread.
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
        The picture, for messages.
    opener : callable
        Gives its bytes as a file.
    area : int, optional
        Pixels that it must have; one with more or fewer is not decoded and gives an array of its
        shape that takes no memory.

    Raises
    ------
    SampleError
        If the picture is damaged, too large, or would lose something as such an array.
    """
    with ExitStack() as held:
        found = _decoded(where, opener, area, held)
        return pixels(found) if isinstance(found, Image.Image) else found


@contextmanager
def decoded_image(where: str, opener: Opener) -> Iterator[Image.Image]:
    """Decode as `decode` does, to an image of mode L, RGB or I;16; it counts until it is left."""
    with ExitStack() as held:
        found = _decoded(where, opener, None, held)
        assert isinstance(found, Image.Image)
        yield found


def pixels(picture: Image.Image) -> Pixels:
    """Give the array of an image of mode L, RGB or I;16."""
    values = np.asarray(picture)
    return cast("Pixels", values.astype(_dtype(picture.mode), copy=False))


class _File(io.BufferedReader):
    """A file whose reads allocate no more than it holds, whatever size an image declares."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        if size is not None and size > _AT_ONCE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


class _Room:
    """Lets threads decode until together they hold too many pixels; one of any size may."""

    def __init__(self, pixels: int) -> None:
        self._free = self._all = pixels
        self._changed = Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for some pixels, and hold it."""
        size = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


# A picture of ten kilobytes can unpack to a gigabyte, and there is a thread for each processor.
_ROOM = _Room(1 << 26)


def _decoded(where: str, opener: Opener, area: int | None, held: ExitStack) -> Image.Image | Pixels:
    try:
        with (
            working_on(where.rstrip(",")),
            opener() as file,
            Image.open(file, formats=_FORMATS) as picture,
        ):
            _check_size(where, picture)
            mode = _target_mode(where, picture)
            if area is not None and picture.width * picture.height != area:
                shape = (picture.height, picture.width, *((3,) if mode == "RGB" else ()))
                return np.broadcast_to(np.zeros((), _dtype(mode)), shape)
            held.enter_context(_ROOM.taken(picture.width * picture.height))
            picture.load()
            # After loading: Pillow turns TIFFs by itself and then drops the mark.
            turn = _TURN.get(picture.getexif().get(_ORIENTATION, 1))
            found = _converted(where, picture, mode)
            return found if turn is None else found.transpose(turn)
    except (SampleError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise _too_large(where, f"it has more pixels than the limit, {limit}.") from error
    except UnidentifiedImageError as error:
        with opener() as file:
            if file.read(len(LFS_SIGNATURE)) == LFS_SIGNATURE:
                raise SampleError(
                    f"{where} is a Git LFS pointer, not a picture.", LFS_ADVICE
                ) from error
        raise SampleError(
            f"{where} is damaged or no picture that is understood (none of {', '.join(_FORMATS)}).",
            "Replace it or take it away",
        ) from error
    # Pillow's decoders raise whatever a damaged file makes them trip over: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, and others.
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number not in (None, errno.ENOENT):
            # Not the picture is at fault: too many open files, a disk that fails.
            raise DataError(f"{where} cannot be read ({os.strerror(number)}).") from error
        raise SampleError(
            f"{where} is damaged or no picture that is understood ({printable(one_line(error))}).",
            "Replace it or take it away",
        ) from error


def bytes_opener(content: bytes) -> Opener:
    """Give what opens a picture that is in memory."""
    return lambda: io.BytesIO(content)


def file_opener(path: Path) -> Opener:
    """Return a function that opens an image file."""
    return lambda: cast("BinaryIO", _File(path.open("rb", buffering=0)))


def _check_size(where: str, picture: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise _too_large(
            where, f"it has {picture.width}×{picture.height} pixels, and the limit is {limit}."
        )


def _too_large(where: str, text: str) -> SampleError:
    return SampleError(f"{where} is too large to be decoded safely: {text} Scale the picture down.")


def _target_mode(where: str, picture: Image.Image) -> str:
    if picture.mode in ("I", "F"):
        raise SampleError(
            f"{where} holds numbers of 32 bits, which are no picture: save the samples as arrays, "
            "for example all of them as one .npz."
        )
    if not picture.mode.startswith("I;16") and _is_wide(picture):
        raise SampleError(
            f"{where} has 16 bits a channel and several channels, of which Pillow would drop half: "
            "save the pictures with 8 bits, or all of them as one .npz."
        )
    if picture.mode not in _CONVERT:
        raise SampleError(
            f"{where} is in the mode {picture.mode}, which is not understood: save the pictures as "
            "grey or RGB."
        )
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise SampleError(
            f"{where} holds several pictures: save each as a file of its own, or only the first."
        )
    return _CONVERT[picture.mode]


def _is_wide(picture: Image.Image) -> bool:
    """Whether Pillow would silently halve 16-bit colour: only its raw mode tells (``RGB;16B``)."""
    if picture.format not in ("PNG", "TIFF"):
        return False
    tiles: list[Any] = getattr(picture, "tile", [])
    return any(re.search(r";16", str(tile)) for tile in tiles)


def _converted(where: str, picture: Image.Image, mode: str) -> Image.Image:
    if picture.has_transparency_data:
        with_alpha = None if mode == "I;16" else picture.convert("RGBA" if mode == "RGB" else "LA")
        # The least value of the last channel, without an array of all.
        least = None if with_alpha is None else with_alpha.getchannel("A").getextrema()[0]
        if with_alpha is None or cast("int", least) < 255:
            raise SampleError(
                f"{where} has transparent parts, and what lies behind is not known: save the "
                "pictures without transparency."
            )
        picture = with_alpha
    return picture.convert(mode) if picture.mode != mode and mode != "I;16" else picture


def _dtype(mode: str) -> np.dtype[Any]:
    return np.dtype(np.uint16 if mode.startswith("I;16") else np.uint8)
