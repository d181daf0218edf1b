"""Samples and labels as arrays that are read in step, in any file."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool._util.text import count_text
from cnatool.data.labels import LABELS_ADVICE, check_class_count, encode_labels
from cnatool.data.source import Block, InputSpec, SourceDefaults, row_ranges
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.data.labels import LabelEncoding
    from cnatool.records.ragged import Rows

# Bytes of labels that are read at a time to find the different values.
_LABEL_BYTES = 1 << 24
# Up to which floating-point numbers tell each whole number from the next.
_LARGEST_FLOAT = 2**53


class RowReader(Protocol):
    """An array that is read a range of rows at a time."""

    @property
    def where(self) -> str:
        """File, and array in it, for messages."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored, in any byte order."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    @property
    def outline(self) -> str:
        """A checksum that comes with the file; empty if there is none."""

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[Any]:
        """Read consecutive row ranges.

        Yields
        ------
        ndarray
            A new C-contiguous array (stop - start, *shape) in native byte order; samples that
            differ in length as `Ragged`.
        """


@dataclass(frozen=True, slots=True)
class RowSource(SourceDefaults):
    """A source whose inputs and labels are arrays that are read in step."""

    name: str
    inputs: tuple[InputSpec, ...]
    samples: tuple[RowReader, ...]
    labels: RowReader | None = None

    @property
    def label_lists(self) -> bool:
        """Whether a sample has a label for each of its tokens."""
        return self.labels is not None and bool(self.labels.shape)

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.samples[0].rows

    @property
    def id_bytes(self) -> int:
        """Length of the largest row number."""
        return len(str(self.rows - 1))

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.labels is not None

    @property
    def outline(self) -> str:
        """Checksums of the arrays that have one, if those of all samples do."""
        lines = [array.outline for array in self.samples]
        if not all(lines):
            return ""
        return "\n".join((*lines, "" if self.labels is None else self.labels.outline))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if labels are texts that name them."""
        return self.labels.classes if isinstance(self.labels, TextLabels) else None

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples from ``start`` on, ``limit`` samples in all.

        The ids are row numbers.
        """
        ranges = list(row_ranges(self.rows, rows, limit, start))
        with ExitStack() as files:
            inputs = [files.enter_context(closing(array.read(ranges))) for array in self.samples]
            labels = files.enter_context(closing(_read_labels(self.labels, ranges)))
            for (first, stop), *parts, targets in zip(ranges, *inputs, labels, strict=True):
                yield Block([str(row) for row in range(first, stop)], tuple(parts), targets)


def make_row_source(
    name: str, samples: Mapping[str, RowReader], labels: RowReader | None
) -> RowSource:
    """Make a source of arrays by input name; check that all have equally many rows."""
    first, *others = samples.values()
    for array in others:
        if array.rows != first.rows:
            raise DataError(
                f"{array.where} has {count_text(array.rows, 'sample')} and {first.where} has "
                f"{first.rows:,}: the numbers must be equal."
            )
    if labels is not None:
        if labels.dtype.kind in "US" and not labels.shape:
            labels = encode_texts(labels)
        check_labels(
            labels, first, [array.shape for array in samples.values() if array.dtype.kind in "iu"]
        )
    specs = tuple(
        InputSpec(
            name,
            array.dtype.newbyteorder("="),
            array.shape,
            ragged_axis=getattr(array, "ragged_axis", None),
            bfloat16=getattr(array, "bfloat16", False),
        )
        for name, array in samples.items()
    )
    return RowSource(name, specs, tuple(samples.values()), labels)


def check_labels(
    labels: RowReader, samples: RowReader, shapes: Sequence[tuple[int, ...]] = ()
) -> None:
    """Refuse an array that cannot be the labels of some samples.

    They may have one for each token of an input of ids, which have one of the ``shapes``.
    """
    of_tokens = labels.dtype.kind in "iu" and len(labels.shape) == 1 and labels.shape in shapes
    if not labels.shape and labels.dtype.kind not in "iuf":
        raise DataError(
            f"{labels.where} has dtype {labels.dtype}; labels are integers. Save them as class "
            "numbers, for example with y.astype('int64')."
        )
    if labels.shape and not of_tokens:
        way = "y[:, 0]" if labels.shape == (1,) else "y.argmax(1) if its rows are one-hot"
        way += ".astype('int64')" if labels.dtype.kind == "f" and labels.shape == (1,) else ""
        raise DataError(
            f"{labels.where} has shape {(labels.rows, *labels.shape)}; labels have one axis. Save "
            f"class numbers, {way}."
        )
    if labels.rows != samples.rows:
        raise DataError(
            f"{labels.where} has {count_text(labels.rows, 'label')} and {samples.where} has "
            f"{count_text(samples.rows, 'sample')}: the numbers must be equal."
        )
    if labels.dtype.kind == "f":
        _check_whole(labels)


def _check_whole(labels: RowReader) -> None:
    """Refuse floating-point labels that are no class numbers, before samples are run."""
    ranges = list(row_ranges(labels.rows, _LABEL_BYTES // labels.dtype.itemsize, None))
    with closing(labels.read(ranges)) as blocks:
        for (start, _), block in zip(ranges, blocks, strict=True):
            values = block.astype(np.float64)
            whole = (np.rint(values) == values) & (np.abs(values) <= _LARGEST_FLOAT)
            if not whole.all():
                row = int(whole.argmin())
                raise DataError(
                    f"{labels.where} holds {values[row]:g} at row {start + row}: real numbers are "
                    f"targets of a regression and not classes: {LABELS_ADVICE}"
                )


def as_lists(labels: NDArray[np.int64]) -> Ragged:
    """Return a list of labels for each sample, of (n, T)."""
    return Ragged.from_lengths(labels.reshape(-1), np.full(len(labels), labels.shape[1]))


def _read_labels(
    labels: RowReader | None, ranges: Sequence[tuple[int, int]]
) -> Generator[Rows | None]:
    if labels is None:
        yield from (None for _ in ranges)
        return
    with closing(labels.read(ranges)) as blocks:
        for (start, _), block in zip(ranges, blocks, strict=True):
            if block.dtype == np.uint64 and block.max() > np.uint64(np.iinfo(np.int64).max):
                row = start + int(block.argmax()) // max(1, block[0].size)
                raise DataError(
                    f"{labels.where} has the label {block.max()} at row {row}, which does not fit "
                    "64-bit signed integers: renumber the classes."
                )
            numbers = block.astype(np.int64, copy=False)
            yield numbers if block.ndim == 1 else as_lists(numbers)


@dataclass(frozen=True, slots=True)
class _DerivedColumn:
    """One value for each row of an array."""

    array: RowReader

    @property
    def where(self) -> str:
        """As in the array."""
        return self.array.where

    @property
    def dtype(self) -> np.dtype[Any]:
        """As in the array."""
        return self.array.dtype

    @property
    def rows(self) -> int:
        """As in the array."""
        return self.array.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """One value."""
        return ()

    @property
    def outline(self) -> str:
        """As in the array."""
        return self.array.outline


@dataclass(frozen=True, slots=True)
class FirstColumn(_DerivedColumn):
    """The first value of each row of an array."""

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[NDArray[Any]]:
        """Read consecutive row ranges."""
        with closing(self.array.read(ranges)) as blocks:
            for block in blocks:
                yield np.ascontiguousarray(block[:, 0])


@dataclass(frozen=True, slots=True)
class TextLabels(_DerivedColumn):
    """The class numbers of an array of one text per row."""

    encoding: LabelEncoding

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of class numbers."""
        return np.dtype(np.int64)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if the texts are class numbers."""
        return self.encoding.classes

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[NDArray[np.int64]]:
        """Read consecutive row ranges as class numbers."""
        with closing(self.array.read(ranges)) as blocks:
            for (start, _), block in zip(ranges, blocks, strict=True):
                numbers = [self.encoding.numbers.get(text) for text in _decode(block)]
                if None in numbers:
                    raise DataError(
                        f"{self.where} row {start + numbers.index(None)}, has no label: correct "
                        f"the row, or {LABELS_ADVICE}"
                    )
                yield np.array(numbers, np.int64)


def encode_texts(texts: RowReader) -> TextLabels:
    """Decide which class each text of an array stands for, in one pass."""
    values: set[str] = set()
    step = max(1, _LABEL_BYTES // texts.dtype.itemsize)
    with closing(texts.read(list(row_ranges(texts.rows, step, None)))) as blocks:
        for block in blocks:
            values.update(_decode(np.unique(block)))
            check_class_count(texts.where, values)
    return TextLabels(texts, encode_labels(values, texts.where))


def _decode(block: NDArray[Any]) -> list[str]:
    if block.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in block.tolist()]
    return list(map(str, block.tolist()))
