"""Writing statistics of units: each time as new arrays, which a commit exchanges for the old ones.

So however a writer ends, the statistics are those of some commit, and cover committed rows only:
whole blocks of a dump. One that is resumed runs the blocks behind them again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cnatool.records.units import UnitsArray, UnitsState, units_folder
from cnatool.store.chunk import Chunk
from cnatool.store.unit_state import checksum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.records.store import SplitRecord
    from cnatool.store.format import Tree
    from cnatool.store.unit_state import PackedUnits

_CHUNK_BYTES = 1 << 20
# Most of these counts are 0, so that they are compressed also where rows are not.
_SPARSE = ("histogram_counts", "class_counts")
_AXES = {
    "counts": ("unit", "count"),
    "moments": ("unit", "moment"),
    "histogram_bins": ("bin",),
    "histogram_counts": ("count",),
    "top_values": ("unit", "place"),
    "top_rows": ("unit", "place"),
    "top_positions": ("unit", "place"),
    "class_labels": ("class",),
    "class_sums": ("class", "unit"),
    "class_counts": ("class", "unit"),
}
# The time between two times that they are written, in units of what that takes: where rows are
# committed often, it costs no more than this share.
_PAUSE = 25


class UnitSource(Protocol):
    """Statistics of units that grow with the rows."""

    @property
    def rows(self) -> int:
        """Rows that they cover."""

    def pack(self) -> PackedUnits:
        """Return the statistics of these rows as arrays."""


class UnitsWriter:
    """Writes the statistics of units of a split."""

    def __init__(self, tree: Tree, split: str, codec: Codec, source: UnitSource) -> None:
        self._tree = tree
        self._split = split
        self._codec = codec
        self._source = source
        self._next = 0.0  # when they are next worth their time

    def write(self, record: SplitRecord) -> SplitRecord:
        """Return the record of a split that is about to be committed, with its statistics.

        They are written unless that took place a moment ago, but for those of all rows.
        """
        known = record.units or None
        written = 0 if known is None else known.rows
        start = time.monotonic()
        rows = self._source.rows
        if rows == written or (not record.complete and start < self._next):
            return record
        if known is not None:
            self._tree.discard(units_folder(self._split, known.rows))
        folder = units_folder(self._split, rows)
        bins, packed = self._source.pack()
        arrays = {
            name: self._write_array(f"{folder}/{name}", name, array)
            for name, array in packed.items()
        }
        self._next = time.monotonic() + _PAUSE * (time.monotonic() - start)
        state = UnitsState(rows, bins, arrays)
        return msgspec.structs.replace(record, units=state)

    def _write_array(self, key: str, name: str, values: NDArray[Any]) -> UnitsArray:
        size = max(1, _CHUNK_BYTES // max(1, values[0].nbytes))
        size = min(size, len(values))
        sparse = self._codec == "none" and name in _SPARSE
        array = self._tree.create_array(
            key,
            values.shape,
            values.dtype,
            size,
            "gzip" if sparse else self._codec,
            axes=_AXES[name],
            text_bytes=0,
        )
        for first in range(0, len(values), size):
            array.write(first, [Chunk.of([values[first : first + size]])])
        return UnitsArray(values.shape, values.dtype.name, checksum(values))


def adopt_units(tree: Tree, split: str, record: SplitRecord) -> None:
    """Keep the statistics of a reopened split that were committed, and delete any others."""
    state = record.units or None
    tree.prune(units_folder(split), () if state is None else (str(state.rows),))
    if state is None:
        return
    for name, array in state.arrays.items():
        key = f"{units_folder(split, state.rows)}/{name}"
        tree.reopen_array(key, array.shape[0])
