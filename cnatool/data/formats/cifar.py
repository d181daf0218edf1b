"""CIFAR-10 and CIFAR-100 in their binary version: labels and 32×32 images, plane after plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnatool.data.blocks import regroup_blocks
from cnatool.data.file_names import describe_files, row_id
from cnatool.data.formats.streamed_rows import StreamedRows
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Block, InputSpec, SourceDefaults, row_ranges
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

    from cnatool.data.selection import ArraySelection

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
# Bytes of a file of names, which has a line for each class.
_MAX_NAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Kind:
    """The labels before each image: their names, numbers of classes, and files of class names."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    class_files: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        return len(self.labels) + _PIXELS


_CIFAR10 = _Kind("CIFAR-10", ("label",), (10,), ("batches.meta.txt",))
_CIFAR100 = _Kind(
    "CIFAR-100",
    ("coarse", "fine"),
    (20, 100),
    ("coarse_label_names.txt", "fine_label_names.txt"),
)


@dataclass(frozen=True, slots=True)
class CifarSource(SourceDefaults):
    """Images (32, 32, 3).

    ``label`` is the position of the label in a row, of ``count`` classes.
    """

    paths: tuple[Path, ...]
    files: tuple[StreamedRows, ...]
    label: int
    count: int
    classes: tuple[str, ...] | None
    labelled: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name of the file, or of the first of several."""
        return describe_files(self.paths)

    @property
    def rows(self) -> int:
        """Number of images in all files."""
        return sum(file.rows for file in self.files)

    @property
    def id_bytes(self) -> int:
        """Length of the longest id."""
        return max(
            len(row_id(self.paths, path, file.rows - 1).encode())
            for path, file in zip(self.paths, self.files, strict=True)
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """One input of 8-bit RGB."""
        return (InputSpec("images", np.dtype(np.uint8), (_SIDE, _SIDE, 3), "hwc"),)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` images from ``start`` on, ``limit`` in all."""
        ranges = list(row_ranges(self.rows, rows, limit, start))
        if ranges:
            yield from regroup_blocks(self._pieces(rows, start, ranges[-1][1]), ranges)

    def _pieces(self, rows: int, start: int, end: int) -> Iterator[Block]:
        """Yield rows ``start`` to ``end`` of one file after the other."""
        for path, file in zip(self.paths, self.files, strict=True):
            first, last = max(0, start), min(end, file.rows)
            start, end = start - file.rows, end - file.rows
            ranges = list(row_ranges(file.rows, rows, max(0, last - first), first))
            for (row, stop), content in zip(ranges, file.read(ranges), strict=True):
                labels = content[:, self.label].astype(np.int64)
                wrong = np.flatnonzero(labels >= self.count)
                if len(wrong):
                    raise DataError(
                        f"{file.where}, row {row + int(wrong[0])}, has the label "
                        f"{labels[wrong[0]]}, and there are {self.count} classes: the file is "
                        "damaged or not of that kind. See `format=cifar10` and `format=cifar100`."
                    )
                planes = content[:, -_PIXELS:].reshape(-1, 3, _SIDE, _SIDE)
                images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
                ids = [row_id(self.paths, path, number) for number in range(row, stop)]
                yield Block(ids, (images,), labels)


def open_cifar10(paths: Sequence[Path], selection: ArraySelection = SINGLE_INPUT) -> CifarSource:
    """Open CIFAR-10's ``data_batch_1.bin`` and others, as one split.

    Names of classes are read from ``batches.meta.txt`` beside the first file.
    """
    return _open(paths, _CIFAR10, selection.labels or "label")


def open_cifar100(paths: Sequence[Path], selection: ArraySelection = SINGLE_INPUT) -> CifarSource:
    """Open CIFAR-100's ``train.bin`` or ``test.bin``."""
    return _open(paths, _CIFAR100, selection.labels or "fine")


def cifar_kind(paths: Sequence[Path]) -> str | None:
    """Return ``cifar10`` or ``cifar100``, by size and first labels; None if a file is neither.

    If a file could be both, its name decides.
    """
    kinds = [kind for kind in (_CIFAR10, _CIFAR100) if all(_fits(path, kind) for path in paths)]
    if len(kinds) == 2:
        kinds = [_CIFAR100 if paths[0].name in ("train.bin", "test.bin") else _CIFAR10]
    return kinds[0].name.replace("-", "").lower() if kinds else None


def _fits(path: Path, kind: _Kind) -> bool:
    rows, rest = divmod(path.stat().st_size, kind.row_bytes)
    if rest or not rows:
        return False
    with path.open("rb") as file:
        for _ in range(min(rows, 20)):
            row = file.read(kind.row_bytes)
            if any(label >= count for label, count in zip(row, kind.counts, strict=False)):
                return False
    return True


def _open(paths: Sequence[Path], kind: _Kind, label: str) -> CifarSource:
    if label not in kind.labels:
        raise UsageError(f"`labels={label}`: {kind.name} has {' and '.join(kind.labels)}.")
    files = []
    for path in paths:
        rows, rest = divmod(path.stat().st_size, kind.row_bytes)
        if rest or not rows:
            raise DataError(
                f"{path} has {path.stat().st_size} bytes, which is not a multiple of the "
                f"{kind.row_bytes} bytes of an image of {kind.name}. Get a complete copy of the "
                "file, or the binary version of the data."
            )
        shape = (kind.row_bytes,)
        opener = partial(_open_binary, path)
        files.append(StreamedRows(str(path), np.dtype(np.uint8), rows, shape, 0, opener))
    number = kind.labels.index(label)
    count = kind.counts[number]
    classes = _read_names(paths[0].with_name(kind.class_files[number]), count)
    return CifarSource(tuple(paths), tuple(files), number, count, classes)


def _open_binary(path: Path) -> BufferedReader:
    return path.open("rb")


def _read_names(path: Path, count: int) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(_MAX_NAMES).decode("utf-8", "replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    # Names are for people to read; a file that does not fit is ignored.
    return names if len(names) == count and all(map(str.isprintable, names)) else None
