"""Weights of a layer as a block-diagonal matrix with scaled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Elements converted to float64 at a time, which stay in the cache.
PART = 1 << 16


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """A block-diagonal matrix with scaled rows: a grouped convolution has a block per group."""

    blocks: NDArray[Any]  # blocks on the diagonal, of any real type
    scale: NDArray[np.float64]  # factor of each row

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole matrix."""
        count, rows, columns = self.blocks.shape
        return count * rows, count * columns

    def parts(self) -> Iterator[NDArray[np.float64]]:
        """Yield the scaled blocks in order, in parts, (blocks, rows, in) each."""
        count, rows, columns = self.blocks.shape
        scale = np.broadcast_to(self.scale, (count, rows))
        blocks_at_once = max(1, PART // max(1, rows * columns))
        height = max(1, PART // max(1, columns))
        for start in range(0, count, blocks_at_once):
            for top in range(0, rows, height):
                part = slice(start, start + blocks_at_once), slice(top, top + height)
                values = self.blocks[part].astype(np.float64)
                values *= scale[part][:, :, None]
                yield values

    def block(self, number: int) -> BlockMatrix:
        """Return one block as a matrix."""
        scale = self.scale[min(number, len(self.scale) - 1)]
        return BlockMatrix(self.blocks[number : number + 1], scale[None])
