"""A Parquet file in a bucket, read a group of rows at a time.

The columns that are wanted of a group are read into a temporary file, at the places that they have
in the object, and polars reads that: the same values as from a copy of the whole object, without
space for more than two groups.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import polars as pl

from cnatool._util.threads import fetch_beside
from cnatool.data.formats.parquet_footer import read_footer
from cnatool.data.scratch_files import SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from cnatool.data.formats.parquet_footer import Footer
    from cnatool.store.object_path import ObjectPath

# Rows of a frame in which different values are looked for.
_ROWS = 1 << 16


class BucketParquet:
    """One file of a table, in a bucket.

    Attributes
    ----------
    path : ObjectPath
    rows : int
    metadata : Path
        A local file with the metadata of this one, and without its rows.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._footer = read_footer(path)
        self._groups = self._footer.groups
        self.rows = sum(group.rows for group in self._groups)
        self._empty = self._make_file()
        self._schema = pl.scan_parquet(self.metadata, glob=False).collect_schema()
        # The group that was read last: the first one is read several times.
        self._last: tuple[int, frozenset[str], SparseFile] | None = None

    @property
    def metadata(self) -> Path:
        """A local file with the metadata of this one, and without its rows."""
        return self._empty.path

    @property
    def footer(self) -> Footer:
        """The metadata of the file."""
        return self._footer

    def schema(self) -> pl.Schema:
        """Return the names and types of the columns."""
        return self._schema

    def head(self, names: Sequence[str], count: int) -> pl.DataFrame:
        """Read the first rows of some columns."""
        return pl.concat(self.frames(names, count, 0, count))

    def frames(
        self, names: Sequence[str], rows: int, start: int, limit: int
    ) -> Iterator[pl.DataFrame]:
        """Yield frames of some columns from row ``start`` on, of about ``rows`` rows each."""
        edges = pairwise(accumulate((group.rows for group in self._groups), initial=0))
        wanted = [
            (number, max(first, start), min(stop, start + limit))
            for number, (first, stop) in enumerate(edges)
            if first < start + limit and stop > start and stop > first
        ]
        ahead: Future[SparseFile] | None = None
        try:
            for place, (number, begin, end) in enumerate(wanted):
                file = self._fetch(number, names) if ahead is None else ahead.result()
                following = wanted[place + 1 : place + 2]
                ahead = fetch_beside(self._fetch, following[0][0], names) if following else None
                scan = pl.scan_parquet(file.path, glob=False).select(names)
                batches = scan.slice(begin, end - begin)
                yield from batches.collect_batches(chunk_size=rows, maintain_order=True)
        finally:
            if ahead is not None:
                ahead.cancel()

    def distinct(self, name: str, most: int) -> set[str]:
        """Collect the distinct values of a column; if there are over ``most``, some of them."""
        values: set[str] = set()
        for frame in self.frames([name], _ROWS, 0, self.rows):
            values.update(frame[name].cast(pl.String).drop_nulls().unique())
            if len(values) > most:
                break
        return values

    def _fetch(self, number: int, names: Sequence[str]) -> SparseFile:
        """Read some columns of a group into a file."""
        last = self._last
        if last is not None and last[0] == number and last[1].issuperset(names):
            return last[2]
        file = self._make_file()
        file.fetch(self._groups[number].ranges(names))
        self._last = number, frozenset(names), file
        return file

    def _make_file(self) -> SparseFile:
        """Make a file with the metadata alone."""
        file = SparseFile(self.path)
        file.put(self._footer.start, self._footer.content)
        return file
