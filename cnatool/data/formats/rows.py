"""Samples and labels as arrays that are read in step, whatever file they lie in."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool.data.labels import LABELS_ADVICE, MAX_CLASSES, encode_labels
from cnatool.data.source import Block, InputSpec, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding


class RowReader(Protocol):
    """An array that is read a range of rows at a time."""

    @property
    def where(self) -> str:
        """File, and array in it, for messages."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type as stored, in any byte order."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges, the first of which starts at row 0.

        Yields
        ------
        ndarray
            A fresh C-contiguous array (stop - start, *shape) in native byte order.

        Raises
        ------
        DataError
            Naming what is not there, or not as its checksum says.
        """


@dataclass(frozen=True, slots=True)
class RowSource:
    """A source whose inputs, and labels where there are any, are arrays read in step."""

    name: str
    inputs: tuple[InputSpec, ...]
    samples: tuple[RowReader, ...]
    targets: RowReader | None = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.samples[0].rows

    @property
    def id_bytes(self) -> int:
        """Bytes of the largest row number."""
        return len(str(self.rows - 1))

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.targets is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, where labels are texts that name them."""
        return self.targets.classes if isinstance(self.targets, TextLabels) else None

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order, ``limit`` samples in all; ids are row numbers.

        Raises
        ------
        DataError
            Where the file turns out to be damaged, naming the row.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(row_ranges(self.rows, rows, limit))
        with ExitStack() as files:
            inputs = [files.enter_context(closing(array.read(ranges))) for array in self.samples]
            labels = files.enter_context(closing(_labels(self.targets, ranges)))
            for (start, stop), *parts, targets in zip(ranges, *inputs, labels, strict=True):
                yield Block([str(row) for row in range(start, stop)], tuple(parts), targets)


@dataclass(frozen=True, slots=True)
class FirstColumn:
    """The first value of each row of an array."""

    whole: RowReader

    @property
    def where(self) -> str:
        """As of the whole array."""
        return self.whole.where

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the whole array."""
        return self.whole.dtype

    @property
    def rows(self) -> int:
        """As of the whole array."""
        return self.whole.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """None but the axis of rows."""
        return ()

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges."""
        with closing(self.whole.read(ranges)) as blocks:
            for block in blocks:
                yield np.ascontiguousarray(block[:, 0])


def check_labels(labels: RowReader, inputs: RowReader) -> None:
    """Refuse an array that cannot be the labels of some samples.

    Raises
    ------
    DataError
        Naming what is wrong and how to save it.
    """
    if not labels.shape and labels.dtype.kind not in "iu":
        raise DataError(
            f"{labels.where} has dtype {labels.dtype}; labels are integers. Save them as class "
            "numbers, for example with y.astype('int64')."
        )
    if labels.shape:
        way = "y[:, 0]" if labels.shape == (1,) else "y.argmax(1) if its rows are one-hot"
        way += ".astype('int64')" if labels.dtype.kind == "f" and labels.shape == (1,) else ""
        raise DataError(
            f"{labels.where} has shape {(labels.rows, *labels.shape)}; labels have one axis. Save "
            f"class numbers, {way}."
        )
    if labels.rows != inputs.rows:
        raise DataError(
            f"{labels.where} has {labels.rows} labels and {inputs.where} has {inputs.rows} "
            "samples: they must be equally many."
        )


def _labels(
    targets: RowReader | None, ranges: Iterable[tuple[int, int]]
) -> Generator[NDArray[np.int64] | None]:
    if targets is None:
        yield from (None for _ in ranges)
        return
    start = 0
    with closing(targets.read(ranges)) as blocks:
        for block in blocks:
            if block.dtype == np.uint64 and block.max() > np.uint64(np.iinfo(np.int64).max):
                row = start + int(block.argmax())
                raise DataError(
                    f"{targets.where} has the label {block.max()} at row {row}, which does not fit "
                    "64-bit signed integers: renumber the classes."
                )
            yield block.astype(np.int64, copy=False)
            start += len(block)


_BYTES = 1 << 24  # read at a time to find the different values


@dataclass(frozen=True, slots=True)
class TextLabels:
    """The class numbers that an array of texts stands for.

    Attributes
    ----------
    texts : Rows
        One text a row.
    numbering : Numbering
        The class number of each different text.
    """

    texts: RowReader
    numbering: LabelEncoding

    @property
    def where(self) -> str:
        """As of the texts."""
        return self.texts.where

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the class numbers."""
        return np.dtype(np.int64)

    @property
    def rows(self) -> int:
        """As of the texts."""
        return self.texts.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the texts."""
        return self.texts.shape

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None where the texts are class numbers."""
        return self.numbering.classes

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[NDArray[np.int64]]:
        """Read consecutive row ranges as class numbers.

        Raises
        ------
        DataError
            For a text that is no label, naming the row.
        """
        start = 0
        with closing(self.texts.read(ranges)) as blocks:
            for block in blocks:
                numbers = [self.numbering.numbers.get(text) for text in _texts(block)]
                if None in numbers:
                    raise DataError(
                        f"{self.where} row {start + numbers.index(None)}, has no label: correct "
                        f"the row, or {LABELS_ADVICE}"
                    )
                yield np.array(numbers, np.int64)
                start += len(block)


def encode_texts(texts: RowReader) -> TextLabels:
    """Decide what an array of texts means as labels, by one pass over it."""
    found: set[str] = set()
    step = max(1, _BYTES // texts.dtype.itemsize)
    ranges = [(row, min(row + step, texts.rows)) for row in range(0, texts.rows, step)]
    with closing(texts.read(ranges)) as blocks:
        for block in blocks:
            found.update(_texts(np.unique(block)))
            if len(found) > MAX_CLASSES:
                raise DataError(
                    f"{texts.where} holds more than {MAX_CLASSES:,} different texts, which are no "
                    f"classes: {LABELS_ADVICE}"
                )
    return TextLabels(texts, encode_labels(found, texts.where, LABELS_ADVICE))


def _texts(block: NDArray[Any]) -> list[str]:
    if block.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in block.tolist()]
    return list(map(str, block.tolist()))
