"""What a file format must offer to hold a store: a tree of arrays chunked over rows, one attribute.

`cnatool.store.reader` and `cnatool.store.writer` know this interface only; each format is a module
that implements it, and a row in a table here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from cnatool.errors import NotAStoreError
from cnatool.store.zarr import ZarrTree

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Codec", "Format", "Tree", "TreeArray", "WritableArray", "format_at", "format_of"]

Codec = Literal["lz4", "zstd", "gzip", "none"]


class TreeArray(Protocol):
    """One array: row ranges come out."""

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
        """


class Tree(Protocol):
    """An open store as its format holds it."""

    @property
    def path(self) -> Path:
        """Where it is."""

    def attribute(self) -> bytes | None:
        """Give the attribute ``cnatool`` as JSON, or None where there is none."""

    def checksum(self) -> str | None:
        """Give the attribute's checksum as it was committed, or None where there is none."""

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
        axes: tuple[str, ...],
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
            How chunks are compressed.
        axes : tuple of str
            A name for each axis.
        """

    def array(self, key: str) -> TreeArray:
        """Open an array.

        Raises
        ------
        StoreDamagedError
            If it is not there or its metadata cannot be read.
        """

    def close(self) -> None:
        """Let go of all files; what was not committed is lost."""


class Format(Protocol):
    """Makes and opens trees of one file format."""

    def create(self, path: Path) -> Tree:
        """Make an empty tree at a path that must not exist yet."""

    def open(self, path: Path) -> Tree:
        """Open a tree for reading.

        Raises
        ------
        NotAStoreError
            If there is nothing of this format at the path.
        StoreDamagedError
            If its metadata cannot be read.
        """

    def is_replaceable(self, path: Path) -> bool:
        """Say whether a path holds a store, be it empty or broken, and nothing else."""


# By the ending of a store's name.
_FORMATS: dict[str, Format] = {".zarr": ZarrTree}


def format_of(path: Path) -> Format:
    """Give the format that a store's name asks for.

    Raises
    ------
    NotAStoreError
        If the name has none of the known endings.
    """
    try:
        return _FORMATS[path.suffix]
    except KeyError:
        raise NotAStoreError(f"{path}: a store's name ends in {' or '.join(_FORMATS)}.") from None


def format_at(path: Path) -> Format:
    """Give the format of what is at a path.

    Raises
    ------
    NotAStoreError
        If nothing is there, or nothing of a known format.
    """
    if not path.exists():
        raise NotAStoreError(f"{path}: no such file or folder.")
    return ZarrTree if path.is_dir() else format_of(path)
