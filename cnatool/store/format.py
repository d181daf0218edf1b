"""Interface of a file format: a tree of arrays chunked over rows, and one attribute.

Readers and writers of stores know this interface only; each format implements it and has a row in
the table in `cnatool.store.format_table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.store.chunk import Chunk


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
        """Element type; object for text, `cnatool._util.bfloat16.BFLOAT16` for bfloat16."""

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""

    @property
    def codec(self) -> Codec | None:
        """Compression of chunks; None if it is not one of the store's codecs."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` to ``stop``, the end excluded; bfloat16 as `BFLOAT16` or float32.

        Raises StoreDamagedError, which names array and rows, if a chunk is missing, cut short or
        does not match its checksum.
        """

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read rows from ``start`` on into a contiguous array of their type; errors as `read`."""


class WritableArray(Protocol):
    """One array that is being written: whole chunks go in."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""

    @property
    def chunk_rows(self) -> int:
        """Rows of one chunk."""

    @property
    def commit_rows(self) -> int:
        """Fewest rows that can be committed on their own."""

    @property
    def codec(self) -> Codec | None:
        """Compression of chunks; None if it is not one of the store's codecs."""

    def write(self, start: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks from row ``start`` on, all full except for the array's last.

        Rows count only after the next `Tree.commit`. Several threads may write different arrays,
        one thread each, its rows in order. Raises DataError if a text is longer than the array
        allows.
        """

    def copy(self, start: int, source: ReadableArray, count: int) -> bool:
        """Append the first chunks of another array as they are encoded there, from row ``start``.

        Returns False, and writes nothing, if this array encodes chunks in another way.
        """


class ReadableTree(Protocol):
    """An open store in a file format."""

    @property
    def path(self) -> Path:
        """Path of the store."""

    def attribute(self) -> bytes | None:
        """Return the attribute ``cnatool`` as JSON; None if there is none."""

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""

    def array(self, key: str) -> ReadableArray:
        """Open an array; raise StoreDamagedError if it is missing or unreadable."""


class Tree(ReadableTree, Protocol):
    """A store being written."""

    def commit(self, attribute: bytes, checksum: str, *, final: bool = False) -> None:
        """Replace the attribute, as JSON, and its checksum once everything before is safe.

        However the process or the machine ends, the tree is that of the last commit or of this one.
        No array is written meanwhile. ``final``: the store is complete, the time for anything that
        only speeds up reading.
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
        name: str | None = None,
        text_bytes: int,
        grows: bool = False,
        commit_rows: int | None = None,
        extends: bool = False,
    ) -> WritableArray:
        """Create an array chunked over rows only, every chunk with a checksum.

        ``axes`` names the axes for other programs, and ``name`` the array, as its attribute
        ``long_name``. ``text_bytes`` is the UTF-8 length of the longest text, for formats that must
        know it. If the array ``grows``, its number of rows is unknown and 0 in the shape;
        `set_rows` sets it in the end. Every `commit` but the last comes after a multiple of
        ``commit_rows``, itself a multiple of ``chunk_rows`` unless one chunk holds all rows.
        By default there is only one. If the array ``extends``, a `commit` may come after any
        number of rows: its last chunk, which is not full, is written again with more rows.
        """

    def reopen_array(
        self, key: str, committed: int, *, grows: bool = False, extends: bool = False
    ) -> WritableArray:
        """Open an array of a reopened tree to write the rows after the committed ones.

        The committed rows are whole chunks, or all, unless it ``extends``: then the last chunk, if
        it is not full, is written again. Raises StoreDamagedError if rows are missing or
        the array is not one that this format writes.
        """

    def set_rows(self, key: str, rows: int) -> None:
        """Set the final number of rows of an array that grew; counts with the next `commit`."""

    def discard(self, key: str) -> None:
        """Delete a group of arrays that the next `commit` no longer needs, once that is done."""

    def prune(self, key: str, kept: Collection[str]) -> None:
        """Delete the groups in a group, but for those that are ``kept``, of a reopened tree."""

    def close(self) -> None:
        """Close all files; changes that were not committed are lost."""


class ReadableFormat(Protocol):
    """Opens trees of one file format."""

    def open(self, path: Path) -> ReadableTree:
        """Open a tree for reading.

        Raises NotAStoreError if the path contains nothing of this format, StoreDamagedError if its
        metadata cannot be read.
        """


class Format(ReadableFormat, Protocol):
    """Creates, opens and replaces trees of one file format."""

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """The codecs that it writes, the default first."""

    def metadata_bytes(
        self, attribute: int, commits: int, chunks: Sequence[int], *, grows: bool
    ) -> int:
        """Estimate the bytes of a store beside its rows.

        ``attribute`` is the length of the attribute, ``commits`` how often it is written, and
        ``chunks`` has the number of chunks of each array.
        """

    def create(self, path: Path, *, temporary: bool = False) -> Tree:
        """Create an empty tree at a path that must not exist.

        If it is ``temporary``, whoever finds it incomplete and without a writer may delete it. A
        format whose files can be renamed has hidden paths for such trees.
        """

    def reopen(self, path: Path, splits: Collection[str]) -> Tree:
        """Open a store to continue it, as its last commit left it; nobody else is writing it.

        Anything written after that commit is deleted or overwritten. ``splits`` are those in the
        attribute.
        """

    def exists(self, path: Path) -> bool:
        """Whether there is anything at a path, where a new store could not be created then."""

    def is_replaceable(self, path: Path) -> bool:
        """Whether a path contains a store, possibly empty or broken, and nothing else."""

    def is_part(self, path: Path) -> bool:
        """Whether a path contains only a store or part of one."""

    def check_writable(self, path: Path) -> None:
        """Make sure that nothing in a store leads out of it, so that it can be resumed.

        Raises StoreWriteError, which names what does.
        """

    def remove(self, path: Path) -> None:
        """Delete a store or part of one, as far as the operating system allows."""

    def forget(self, path: Path) -> None:
        """Delete files that belong beside a store which no longer exists at a path."""

    def foreign(self, path: Path) -> Path | None:
        """Return a file of another program in the way beside a store; None if there is none."""


class LocalFormat(Format, Protocol):
    """A format whose stores are files, which can be renamed."""

    def move(self, path: Path, target: Path) -> None:
        """Rename a store, as its last commit left it."""
