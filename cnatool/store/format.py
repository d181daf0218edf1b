"""What a file format must offer to hold a store: a tree of arrays chunked over rows, one attribute.

`cnatool.store.reader` and `cnatool.store.writer` know this interface only; each format implements
it, and is a row of the table in `cnatool.store.format_table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnatool.records.choices import Codec


class ReadableArray(Protocol):
    """One array of an open store: row ranges come out."""

    @property
    def key(self) -> str:
        """Path of the array inside the store."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type; object for text."""

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""

    @property
    def codec(self) -> Codec | None:
        """How chunks are compressed; None where that says nothing of the store."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` up to ``stop``.

        Raises
        ------
        StoreDamagedError
            If a chunk is missing, cut short, or does not match its checksum; the message names
            array and rows.
        """


class WritableArray(Protocol):
    """One array that is being written: whole chunks go in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Append rows from ``start`` on, whole chunks but for the array's last.

        Rows count only after the next `Tree.commit`. Different arrays are written from several
        threads at a time; one array by one thread only, its rows in order.

        Raises
        ------
        DataError
            If a text is longer than the array was made for.
        """


class ReadableTree(Protocol):
    """An open store as its format holds it."""

    @property
    def path(self) -> Path:
        """Where it is."""

    def attribute(self) -> bytes | None:
        """Give the attribute ``cnatool`` as JSON, or None where there is none."""

    def checksum(self) -> str | None:
        """Give the attribute's checksum as it was committed, or None where there is none."""

    def array(self, key: str) -> ReadableArray:
        """Open an array.

        Raises
        ------
        StoreDamagedError
            If it is not there or its metadata cannot be read.
        """


class Tree(ReadableTree, Protocol):
    """A store being written."""

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute and its checksum, after all that was written before is safe.

        However the process or the machine ends, what is found afterwards is the tree of the last
        commit or of this one. No array is being written to meanwhile.

        Parameters
        ----------
        attribute : bytes
            The attribute, as JSON.
        checksum : str
            What `cnatool.store.integrity.attribute_checksum` gives for it.
        final : bool
            The store is complete: now is the time for what only eases reading.
        """

    def create_array(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type[str],
        chunk_rows: int,
        codec: Codec,
        *,
        axes: tuple[str, ...],
        text_bytes: int,
        grows: bool = False,
    ) -> WritableArray:
        """Make an array chunked over rows only, every chunk with a checksum.

        Parameters
        ----------
        key : str
            Path of the array inside the store.
        shape : tuple of int
            Shape, rows first.
        dtype : numpy.dtype or type of str
            Element type; ``str`` for text.
        chunk_rows : int
            Rows of a chunk.
        codec : Codec
            How chunks are compressed, one of the format's `Format.codecs`.
        axes : tuple of str
            A name for each axis.
        text_bytes : int
            Bytes of UTF-8 that the longest text takes, where the format must know.
        grows : bool
            How many rows there will be is not known yet, and the shape says 0. It has at least
            those that were written, and just those of `set_rows` in the end.
        """

    def reopen_array(self, key: str, committed: int, *, grows: bool = False) -> WritableArray:
        """Open an array of a reopened tree to write the rows that follow the committed ones.

        Parameters
        ----------
        key : str
            Path of the array inside the store.
        committed : int
            Rows that are committed, from the first on: whole chunks, or all.
        grows : bool
            Whether `set_rows` will say how many there are.

        Raises
        ------
        StoreDamagedError
            If it is not as this format makes arrays, or lacks committed rows.
        """

    def set_rows(self, key: str, rows: int) -> None:
        """Say how many rows an array has that grew; counts with the next `commit`."""

    def close(self) -> None:
        """Let go of all files; what was not committed is lost."""


class ReadableFormat(Protocol):
    """Opens trees of one file format."""

    def open(self, path: Path) -> ReadableTree:
        """Open a tree for reading.

        Raises
        ------
        NotAStoreError
            If there is nothing of this format at the path.
        StoreDamagedError
            If its metadata cannot be read.
        """


class Format(ReadableFormat, Protocol):
    """Makes, opens and replaces trees of one file format."""

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The codecs that it writes, the default first."""

    def create(self, path: Path) -> Tree:
        """Make an empty tree at a path that must not exist yet."""

    def reopen(self, path: Path, splits: Collection[str]) -> Tree:
        """Open a store to go on with it, as its last commit left it.

        What was written after that commit counts for nothing, and goes now or is overwritten.

        Parameters
        ----------
        path : Path
            A store that nobody else is writing.
        splits : collection of str
            The splits that its attribute knows.

        Raises
        ------
        StoreDamagedError
            If its metadata cannot be read.
        """

    def is_replaceable(self, path: Path) -> bool:
        """Say whether a path holds a store, be it empty or broken, and nothing else."""

    def is_part(self, path: Path) -> bool:
        """Say whether a path holds nothing but a store, or part of one."""

    def check_writable(self, path: Path) -> None:
        """Make sure that nothing in a store leads out of it, so that it can be resumed.

        Raises
        ------
        StoreWriteError
            If something does; the message names it.
        StoreDamagedError
            If its metadata cannot be read.
        """

    def move(self, path: Path, target: Path) -> None:
        """Rename a store, as its last commit left it."""

    def remove(self, path: Path) -> None:
        """Delete a store, or part of one; what the operating system refuses to delete stays."""

    def forget(self, path: Path) -> None:
        """Delete files that belong beside a store which is no longer at a path."""

    def foreign(self, path: Path) -> Path | None:
        """Give a file of another program that is in the way beside a store; None if none is."""
