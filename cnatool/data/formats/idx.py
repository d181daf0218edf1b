"""IDX, the format of MNIST: a big-endian header and then the rows, plain or gzipped.

The header is two zero bytes, a byte for the dtype, a byte for the number of axes, and each axis'
length as a 32-bit number. Pictures and labels are two files, found by MNIST's naming.
"""

from __future__ import annotations

import gzip
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.formats.rows import FirstColumn, RowSource
from cnatool.data.formats.streams import READ_ERRORS, StreamedRows, count_bytes
from cnatool.data.source import InputSpec, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool.data.formats.rows import RowReader
    from cnatool.data.formats.streams import Opener

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP = b"\x1f\x8b"
_LABELS = re.compile(r"(?P<stem>.*)labels[-.]idx[1-9][0-9]?-[a-z0-9]+(?P<gz>\.gz)?")
# QMNIST's labels say in seven more columns whose hand wrote a digit.
_QMNIST_COLUMNS = 8
_IMAGES = re.compile(r"(?P<stem>.*)images[-.]idx[1-9][0-9]?-[a-z0-9]+(?P<gz>\.gz)?")


def open_idx(path: Path) -> RowSource:
    """Open the pictures file of an IDX pair, with the labels file beside it if there is one."""
    head = _read_header(path)
    if len(head.dims) < 2:
        raise DataError(
            f"{path} is an IDX file with one axis, which is how labels are stored: give the images "
            "file; its labels are found beside it."
        )
    images = _rows(path, head)
    check_sample(str(path), images.dtype, images.shape)
    if not head.compressed:
        images.check_size(path.stat().st_size)
    spec = InputSpec("images", images.dtype.newbyteorder("="), images.shape)
    beside = _labels_beside(path)
    labels = None if beside is None else _open_labels(beside, path, images.rows)
    return RowSource(path.name, (spec,), (images,), labels)


def looks_like_idx(path: Path) -> bool:
    """Tell whether a file is named like an IDX images file, or starts as one."""
    if images_stem(path.name) is not None:
        return True
    try:
        _, opener = _opener(path)
        with opener() as file:
            start = file.read(4)
    except READ_ERRORS:
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _DTYPES and start[3] > 0


def images_stem(name: str) -> str | None:
    """Give what stands before ``images`` in the name of an IDX images file; None for other names.

    ``train-images-idx3-ubyte.gz`` gives ``train-``.
    """
    match = _IMAGES.fullmatch(name)
    return None if match is None else match["stem"]


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: np.dtype[Any]
    dims: tuple[int, ...]
    compressed: bool
    open: Opener


def _opener(path: Path) -> tuple[bool, Opener]:
    """Whether the content, not the name, says gzip; and what opens the file accordingly."""
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return compressed, lambda: gzip.open(path, "rb") if compressed else path.open("rb")


def _read_header(path: Path) -> _Header:
    try:
        compressed, opener = _opener(path)
        with opener() as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES or not start[3]:
                raise DataError(
                    f"{path} is not an IDX file: it starts with the bytes {start.hex(' ') or '–'}, "
                    "not with 00 00, a dtype and a number of axes."
                )
            axes = start[3]
            sizes = file.read(4 * axes)
    except READ_ERRORS as error:
        raise DataError(
            f"{path} cannot be read ({str(error) or type(error).__name__}). Get a whole copy of "
            "the file."
        ) from error
    if len(sizes) < 4 * axes:
        raise DataError(
            f"{path} is cut short: its header promises {axes} axes and holds {len(sizes) // 4}. "
            "Get a whole copy of the file."
        )
    dims: tuple[int, ...] = struct.unpack(f">{axes}I", sizes)
    if dims[0] == 0:
        raise DataError(f"{path} holds no samples: its header says 0 rows.")
    return _Header(_DTYPES[start[2]], dims, compressed, opener)


def _rows(path: Path, head: _Header) -> StreamedRows:
    offset = 4 + 4 * len(head.dims)
    return StreamedRows(str(path), head.dtype, head.dims[0], head.dims[1:], offset, head.open)


def _labels_beside(path: Path) -> Path | None:
    match = _IMAGES.fullmatch(path.name)
    if match is None:
        return None
    folder = path.parent
    if folder.name == path.name:
        folder = folder.parent
    found: dict[str | None, Path] = {}
    for file in sorted(folder.iterdir()):
        labels = _LABELS.fullmatch(file.name)
        if labels is None or labels["stem"] != match["stem"]:
            continue
        inner = file / file.name
        place = file if file.is_file() else inner if inner.is_file() else None
        if place is not None:
            found.setdefault(labels["gz"], place)
    # The same compression first: of two copies, the one that was most likely unpacked together.
    return found.get(match["gz"]) or next(iter(found.values()), None)


def _open_labels(path: Path, images: Path, rows: int) -> RowReader:
    head = _read_header(path)
    wide = len(head.dims) == 2 and head.dims[1] == _QMNIST_COLUMNS
    if (len(head.dims) != 1 and not wide) or head.dtype.kind not in "iu":
        raise DataError(
            f"{path} has {len(head.dims)} axes of {head.dtype.name}; labels are one axis of "
            "integers. Move the file away to go without labels."
        )
    labels = _rows(path, head)
    if labels.rows != rows:
        raise DataError(
            f"{path} has {labels.rows} labels and {images} has {rows} samples: they are not a pair."
        )
    if head.compressed:
        try:
            with labels.open() as file:
                size = count_bytes(file)
        except READ_ERRORS as error:
            raise DataError(
                f"{path} is cut short or damaged ({str(error) or type(error).__name__}): it "
                f"promises {rows} labels. Get a whole copy of the file."
            ) from error
    else:
        size = path.stat().st_size
    labels.check_size(size)
    return FirstColumn(labels) if wide else labels
