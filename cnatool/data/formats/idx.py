"""IDX, the format of MNIST: a big-endian header and then the rows, plain or gzipped.

The header is two zero bytes, a byte for the dtype, a byte for the number of axes, and each axis'
length as a 32-bit number. Images and labels are two files, found by MNIST's naming.
"""

from __future__ import annotations

import re
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import printable
from cnatool.data.formats.row_source import FirstColumn, make_row_source
from cnatool.data.formats.streamed_rows import (
    READ_ERRORS,
    StreamedRows,
    count_bytes,
    is_gzip,
    open_maybe_gzip,
    read_gzip_checksum,
)
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import COPY_ADVICE, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool.data.formats.row_source import RowReader, RowSource
    from cnatool.data.selection import ArraySelection

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_LABELS = re.compile(r"(?P<stem>.*)labels[-.]idx[1-9][0-9]?-[a-z0-9]+(?P<gz>\.gz)?")
_IMAGES = re.compile(r"(?P<stem>.*)images[-.]idx[1-9][0-9]?-[a-z0-9]+(?P<gz>\.gz)?")
# QMNIST's labels have seven more columns, about the writer of the digit.
_QMNIST_COLUMNS = 8


def open_idx(path: Path, selection: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open a file of images, or the only one in a folder, with the labels beside it."""
    if path.is_dir():
        files = find_idx_files(path)
        if len(files) != 1:
            names = ", ".join(printable(file.name) for file in files.values()) or "none"
            raise DataError(
                f"{path} holds several IDX images files ({names}): give one of them, or each split "
                "with `splits={'NAME': PATH}`."
            )
        [path] = files.values()
    images = _open_rows(path)
    if not images.shape:
        raise DataError(
            f"{path} is an IDX file with one axis, which is how labels are stored: give the images "
            "file; its labels are found beside it."
        )
    check_sample(str(path), images.dtype, images.shape)
    if not is_gzip(path):
        images.check_size(path.stat().st_size)
    beside = _find_labels(path)
    labels = None if beside is None else _open_labels(beside)
    return make_row_source(path.name, {"images": images}, labels)


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Find a folder's IDX images files, by what precedes ``images`` in their names.

    Of a file and its compressed copy, the first is taken.
    """
    files: dict[str, Path] = {}
    # Sorted, "X" comes before "X.gz": torchvision leaves both.
    for file in sorted(folder.iterdir()):
        stem = images_stem(file.name)
        if stem is None:
            continue
        # Kaggle's MNIST has each file in a folder of the same name.
        inner = file / file.name
        if file.is_file():
            files[stem] = files[stem] if stem in files and files[stem].parent == folder else file
        elif inner.is_file():
            files.setdefault(stem, inner)
    return files


def looks_like_idx(path: Path) -> bool:
    """Whether a file is named like an IDX images file, or starts like one."""
    if images_stem(path.name) is not None:
        return True
    try:
        with open_maybe_gzip(path) as file:
            return _is_start(file.read(4))
    except READ_ERRORS:
        return False


def images_stem(name: str) -> str | None:
    """Return what precedes ``images`` in the name of an IDX images file; None for other names.

    ``train-images-idx3-ubyte.gz`` gives ``train-``.
    """
    match = _IMAGES.fullmatch(name)
    return None if match is None else match["stem"]


def _is_start(start: bytes) -> bool:
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in _DTYPES and start[3] > 0


def _open_rows(path: Path) -> StreamedRows:
    """Read the header of a file."""
    try:
        with open_maybe_gzip(path) as file:
            start = file.read(4)
            if not _is_start(start):
                raise DataError(
                    f"{path} is not an IDX file: it starts with the bytes {start.hex(' ') or '–'}, "
                    "not with 00 00, a dtype and a number of axes."
                )
            axes = start[3]
            sizes = file.read(4 * axes)
    except READ_ERRORS as error:
        raise read_error(path, error) from error
    if len(sizes) < 4 * axes:
        raise DataError(
            f"{path} is cut short: its header declares {axes} axes and holds {len(sizes) // 4}. "
            f"{COPY_ADVICE}"
        )
    dims: tuple[int, ...] = struct.unpack(f">{axes}I", sizes)
    if dims[0] == 0:
        raise DataError(f"{path} holds no samples: its header declares 0 rows.")
    opener = partial(open_maybe_gzip, path)
    return StreamedRows(
        str(path),
        _DTYPES[start[2]],
        dims[0],
        dims[1:],
        4 + 4 * axes,
        opener,
        read_gzip_checksum(path) if is_gzip(path) else "",
    )


def _find_labels(images: Path) -> Path | None:
    match = _IMAGES.fullmatch(images.name)
    if match is None:
        return None
    folder = images.parent
    if folder.name == images.name:
        folder = folder.parent
    files: dict[str | None, Path] = {}
    for file in sorted(folder.iterdir()):
        labels = _LABELS.fullmatch(file.name)
        if labels is None or labels["stem"] != match["stem"]:
            continue
        inner = file / file.name
        place = file if file.is_file() else inner if inner.is_file() else None
        if place is not None:
            files.setdefault(labels["gz"], place)
    # The same compression first: of two copies, the one that was most likely unpacked together.
    return files.get(match["gz"]) or next(iter(files.values()), None)


def _open_labels(path: Path) -> RowReader:
    labels = _open_rows(path)
    wide = labels.shape == (_QMNIST_COLUMNS,)
    if (labels.shape and not wide) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path} has {1 + len(labels.shape)} axes of {labels.dtype.name}; labels are one axis "
            "of integers. Move the file elsewhere to dump without labels."
        )
    size = path.stat().st_size
    if is_gzip(path):
        try:
            with labels.open() as file:
                size = count_bytes(file)
        except READ_ERRORS as error:
            problem = f"is cut short or damaged: it declares {labels.rows} labels"
            raise read_error(path, error, problem=problem) from error
    labels.check_size(size)
    return FirstColumn(labels) if wide else labels
