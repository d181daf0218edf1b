"""A folder of pictures, one sub-folder a class, decoded to 8-bit arrays with Pillow."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from cnatool.data.source import PICTURE_EXTENSIONS, Block, InputSpec, is_picture, spans
from cnatool.errors import DataError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["PictureSource", "open_pictures"]

# Only these decoders are tried, whatever a file's name says.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_CONVERT = {"L": "L", "RGB": "RGB", "1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
# Names become ids: undecodable bytes (lone surrogates) cannot be written, and control characters
# should not reach a terminal.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ORIENTATION = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Pictures in order of class and name; ids are paths relative to the folder."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    shape: tuple[int, ...]
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def rows(self) -> int:
        """Number of pictures."""
        return len(self.files)

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest path."""
        return max(len(name.encode()) for name, _ in self.files)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """One input of uint8, (H, W) for grey and (H, W, 3) for colour."""
        layout: Literal["hwc"] | None = "hwc" if len(self.shape) == 3 else None
        return (InputSpec("pictures", np.dtype(np.uint8), self.shape, layout),)

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels: always."""
        return True

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Decode blocks of ``rows`` pictures in order, ``limit`` in all.

        Raises
        ------
        DataError
            Naming the picture that is damaged, or differs from the first in size or mode.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        for start, stop in spans(self.rows, rows, limit):
            part = self.files[start:stop]
            pixels = np.empty((len(part), *self.shape), np.uint8)
            for row, (name, _) in enumerate(part):
                pixels[row] = _decode_like(self.folder, name, self.files[0][0], self.shape)
            labels = np.array([label for _, label in part], np.int64)
            yield Block([name for name, _ in part], (pixels,), labels)


def open_pictures(folder: Path) -> PictureSource:
    """Open a folder whose sub-folders, sorted by name, are the classes 0, 1, ….

    Hidden files and files that are no pictures by their extension are ignored. The first picture
    of each class is decoded here, the others as they are read.

    Parameters
    ----------
    folder : Path
        Pictures all of one size and mode, each directly in the folder of its class.

    Raises
    ------
    DataError
        If there is no picture, one lies where its class is in doubt, one leads out of the folder
        by a symbolic link, or the first pictures are damaged or differ.
    """
    files: list[tuple[str, int]] = []
    firsts: list[str] = []
    try:
        classes = _class_folders(folder)
        for label, name in enumerate(classes):
            names = _pictures_in(folder, name)
            files += [(f"{name}/{picture}", label) for picture in names]
            firsts += [f"{name}/{picture}" for picture in names[:1]]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    if not files:
        raise DataError(
            f"{folder} holds no pictures in class folders: put each picture "
            f"({' '.join(sorted(PICTURE_EXTENSIONS))}) into a sub-folder named after its class."
        )
    shape = _decode(folder, firsts[0], None).shape
    for name in firsts[1:]:
        _decode_like(folder, name, firsts[0], shape)
    return PictureSource(folder, tuple(files), shape, tuple(classes))


def _entries(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """List what a folder holds and is not hidden, by name; refuse links that leave the root."""
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in found:
        if _UNFIT.search(entry.name):
            raise DataError(f"{folder} holds a file with the name {entry.name!r}: rename it.")
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
            raise DataError(
                f"{entry.path} is a symbolic link that leaves {root}: copy the file there instead."
            )
    return found


def _class_folders(folder: Path) -> list[str]:
    entries = _entries(folder, folder.resolve())
    for entry in entries:
        if not entry.is_dir() and is_picture(entry.name):
            raise DataError(
                f"{entry.path} lies outside the class folders: put it into a sub-folder named "
                "after its class."
            )
    return [entry.name for entry in entries if entry.is_dir()]


def _pictures_in(folder: Path, name: str) -> list[str]:
    pictures = []
    for entry in _entries(folder / name, folder.resolve()):
        if entry.is_dir():
            raise DataError(
                f"{entry.path} is a folder inside the class folder '{name}': put the pictures "
                "directly into the folder of their class."
            )
        if is_picture(entry.name):
            # Opening a pipe would wait for ever.
            if not entry.is_file():
                raise DataError(f"{entry.path} is named like a picture and is not a file.")
            pictures.append(entry.name)
    return pictures


def _decode_like(folder: Path, name: str, first: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode a picture that must look like the first one; a larger one is not even decoded."""
    pixels = _decode(folder, name, shape[0] * shape[1])
    if pixels.shape != shape:
        raise DataError(
            f"{folder}: {first} is {shape} and {name} is {pixels.shape}; all pictures must have "
            "the same size and mode. Resize or convert them first."
        )
    return pixels


def _decode(folder: Path, name: str, area: int | None) -> NDArray[np.uint8]:
    """Decode to (H, W) or (H, W, 3); one of another area than asked gives an array of no memory."""
    path = folder / name
    try:
        # Pillow warns of a picture of over 89 million pixels and refuses at twice that. Either is
        # an error here.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then
            # mixes up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
            with path.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
                mode = _target_mode(path, picture)
                if area is not None and picture.width * picture.height != area:
                    shape = (picture.height, picture.width, *((3,) if mode == "RGB" else ()))
                    return np.broadcast_to(np.uint8(0), shape)
                picture.load()
                # After loading: Pillow turns TIFFs by itself and then drops the mark.
                turn = _TURN.get(picture.getexif().get(_ORIENTATION, 1))
                pixels = picture if picture.mode == mode else picture.convert(mode)
                if turn is not None:
                    pixels = pixels.transpose(turn)
                return np.asarray(pixels, dtype=np.uint8)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path} is too large to be decoded safely: {error} Scale the picture down."
        ) from error
    # Pillow's decoders raise whatever a damaged file makes them trip over: OSError, SyntaxError,
    # ValueError, struct.error, EOFError, and others.
    except Exception as error:
        raise DataError(
            f"{path} is damaged or no picture that is understood ({printable(error)[:200]}). "
            "Replace it or take it away."
        ) from error


def _target_mode(path: Path, picture: Image.Image) -> str:
    if picture.has_transparency_data:
        raise DataError(
            f"{path} has an alpha channel or transparent colours, and what lies behind is not "
            "known: save the pictures without transparency."
        )
    if picture.mode[0] in "IF" or (picture.format in ("PNG", "TIFF") and _is_wide(picture)):
        raise DataError(
            f"{path} has more than 8 bits a channel, which is not read yet: save the pictures with "
            "8 bits, or all of them as one .npz."
        )
    if picture.mode not in _CONVERT:
        raise DataError(
            f"{path} is in the mode {picture.mode}, which is not understood: save the pictures as "
            "8-bit grey or RGB."
        )
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise DataError(
            f"{path} holds several pictures: save each as a file of its own, or only the first."
        )
    return _CONVERT[picture.mode]


def _is_wide(picture: Image.Image) -> bool:
    """Whether Pillow would silently halve 16-bit colour: only its raw mode tells (``RGB;16B``)."""
    tiles: list[Any] = getattr(picture, "tile", [])
    return any(re.search(r";16", str(tile)) for tile in tiles)
