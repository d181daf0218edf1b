"""Arrays of bfloat16 in files, which are read as float32."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.bfloat16 import widen

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from cnatool.data.formats.row_source import RowReader


@dataclass(frozen=True, slots=True)
class BFloat16Rows:
    """An array of bfloat16: its bits, as 16-bit integers, or values that a library widened."""

    array: RowReader
    bfloat16: bool = True

    @property
    def where(self) -> str:
        """As in the array in the file."""
        return self.array.where

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that is read."""
        return np.dtype(np.float32)

    @property
    def rows(self) -> int:
        """As in the array in the file."""
        return self.array.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As in the array in the file."""
        return self.array.shape

    @property
    def outline(self) -> str:
        """As in the array in the file."""
        return self.array.outline

    def read(self, ranges: Sequence[tuple[int, int]]) -> Generator[NDArray[np.float32]]:
        """Read consecutive row ranges."""
        with closing(self.array.read(ranges)) as blocks:
            for block in blocks:
                yield widen(block) if block.dtype == np.uint16 else block
