"""CIFAR-10 and CIFAR-100 in their binary version: labels and 32×32 pictures, plane after plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cnatool.data.blocks import regroup_blocks
from cnatool.data.formats.streams import StreamedRows
from cnatool.data.source import Block, InputSpec, row_ranges
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from pathlib import Path

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
# A file of names has a line for each class.
_MAX_NAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between the two: the labels before each picture, and their names' files."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    names: tuple[str, ...]

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
class CifarSource:
    """Pictures (32, 32, 3); ids are row numbers, after the file's name if there are several."""

    name: str
    files: tuple[StreamedRows, ...]
    titles: tuple[str, ...]
    label: int
    count: int
    classes: tuple[str, ...] | None
    labelled: ClassVar[bool] = True

    @property
    def rows(self) -> int:
        """Number of pictures in all files."""
        return sum(file.rows for file in self.files)

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest id."""
        return max(
            len(self._id(title, file.rows - 1).encode())
            for title, file in zip(self.titles, self.files, strict=True)
        )

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """One input of 8-bit RGB."""
        return (InputSpec("images", np.dtype(np.uint8), (_SIDE, _SIDE, 3), "hwc"),)

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` pictures in order, ``limit`` in all.

        Raises
        ------
        DataError
            Naming the row whose label is none.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(row_ranges(self.rows, rows, limit))
        yield from regroup_blocks(self._pieces(rows, ranges[-1][1] if ranges else 0), ranges)

    def _pieces(self, rows: int, limit: int) -> Iterator[Block]:
        """Give what the files hold, a file after the other."""
        for title, file in zip(self.titles, self.files, strict=True):
            ranges = list(row_ranges(file.rows, rows, max(limit, 0)))
            limit -= file.rows
            for (start, stop), content in zip(ranges, file.read(ranges), strict=True):
                labels = content[:, self.label].astype(np.int64)
                wrong = np.flatnonzero(labels >= self.count)
                if len(wrong):
                    raise DataError(
                        f"{file.where}, row {start + int(wrong[0])}, has the label "
                        f"{labels[wrong[0]]}, and there are {self.count} classes: this is no file "
                        "of that kind, or a damaged one. See --format cifar10 and cifar100."
                    )
                planes = content[:, -_PIXELS:].reshape(-1, 3, _SIDE, _SIDE)
                pictures = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
                ids = [self._id(title, row) for row in range(start, stop)]
                yield Block(ids, (pictures,), labels)

    def _id(self, title: str, row: int) -> str:
        return str(row) if len(self.files) == 1 else f"{title}:{row}"


def open_cifar10(paths: Sequence[Path], labels: str | None = None) -> CifarSource:
    """Open CIFAR-10's ``data_batch_1.bin`` and others, as one split.

    Names of classes are taken from ``batches.meta.txt`` beside the first file.
    """
    return _open(paths, _CIFAR10, labels or "label")


def open_cifar100(paths: Sequence[Path], labels: str | None = None) -> CifarSource:
    """Open CIFAR-100's ``train.bin`` or ``test.bin``."""
    return _open(paths, _CIFAR100, labels or "fine")


def cifar_kind(paths: Sequence[Path]) -> str | None:
    """Tell ``cifar10`` from ``cifar100`` by size and first labels; None where it is neither.

    Of a file that could be both, its name decides.
    """
    fitting = [kind for kind in (_CIFAR10, _CIFAR100) if all(_fits(path, kind) for path in paths)]
    if len(fitting) == 2:
        named = paths[0].name in ("train.bin", "test.bin")
        fitting = [_CIFAR100 if named else _CIFAR10]
    return fitting[0].name.replace("-", "").lower() if fitting else None


def _fits(path: Path, kind: _Kind) -> bool:
    rows, rest = divmod(path.stat().st_size, kind.row_bytes)
    if rest or not rows:
        return False
    with path.open("rb") as file:
        for _ in range(min(rows, 20)):
            row = file.read(kind.row_bytes)
            if any(given >= count for given, count in zip(row, kind.counts, strict=False)):
                return False
    return True


def _open(paths: Sequence[Path], kind: _Kind, label: str) -> CifarSource:
    if label not in kind.labels:
        raise UsageError(f"--labels {label}: {kind.name} has {' and '.join(kind.labels)}.")
    files = []
    for path in paths:
        rows, rest = divmod(path.stat().st_size, kind.row_bytes)
        if rest or not rows:
            raise DataError(
                f"{path} has {path.stat().st_size} bytes, which is no whole number of "
                f"{kind.name}'s pictures of {kind.row_bytes}: get a whole copy of the file, or the "
                "binary version of the data."
            )
        shape = (kind.row_bytes,)
        opener = partial(_opened, path)
        files.append(StreamedRows(str(path), np.dtype(np.uint8), rows, shape, 0, opener))
    number = kind.labels.index(label)
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    return CifarSource(
        name,
        tuple(files),
        tuple(path.name for path in paths),
        number,
        kind.counts[number],
        _names(paths[0].with_name(kind.names[number]), kind.counts[number]),
    )


def _opened(path: Path) -> BufferedReader:
    return path.open("rb")


def _names(path: Path, count: int) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(_MAX_NAMES).decode("utf-8", "replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    # They are for people to read; a file that does not fit costs no more than the names.
    return names if len(names) == count and all(map(str.isprintable, names)) else None
