"""An array of texts as labels: class numbers, or names of classes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.labels import LABELS_ADVICE, MAX_CLASSES, number_labels
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import NDArray

    from cnatool.data.formats.rows import Rows
    from cnatool.data.labels import Numbering

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

    texts: Rows
    numbering: Numbering

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


def number_texts(texts: Rows) -> TextLabels:
    """Decide what an array of texts means as labels, by one pass over it.

    Raises
    ------
    DataError
        If the texts are real numbers, or too many to be classes.
    """
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
    return TextLabels(texts, number_labels(found, texts.where, LABELS_ADVICE))


def _texts(block: NDArray[Any]) -> list[str]:
    if block.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in block.tolist()]
    return list(map(str, block.tolist()))
