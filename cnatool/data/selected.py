"""Some of the rows of a source, in their order, as a source of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.blocks import regrouped, taken
from cnatool.data.forwarded import Forwarded
from cnatool.data.source import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.data.source import Block

__all__ = ["Selected"]


@dataclass(frozen=True, slots=True)
class Selected(Forwarded):
    """A source that reads another and passes on some rows of it, under the ids that they have.

    Attributes
    ----------
    source : Source
    name : str
        What was selected, for messages and provenance.
    chosen : ndarray of int64
        Numbers of the rows, ascending.
    """

    name: str = field()
    chosen: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows that were chosen."""
        return len(self.chosen)

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` chosen samples in order, ``limit`` in all."""
        ranges = list(spans(self.rows, rows, limit))
        if not ranges:
            return
        yield from regrouped(self._pieces(rows, int(self.chosen[ranges[-1][1] - 1]) + 1), ranges)

    def _pieces(self, rows: int, limit: int) -> Iterator[Block]:
        """Give what is chosen of each block among the first rows of the source."""
        start = 0
        for block in self.source.blocks(rows, limit):
            stop = start + len(block.ids)
            first, end = np.searchsorted(self.chosen, (start, stop))
            if first < end:
                yield taken(block, self.chosen[first:end] - start)
            start = stop
