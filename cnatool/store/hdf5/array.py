"""An array of an HDF5 store: whole chunks go in, row ranges come out.

Chunks are encoded here, byte for byte as HDF5 would do it, because HDF5 lets one thread in at a
time; it decodes them itself.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cnatool._util.text import one_line
from cnatool.errors import DataError, StoreDamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.choices import Codec
    from cnatool.store.hdf5.tree import HDF5Tree

# Of zlib, for numbers and for text.
LEVEL = 1


class HDF5Array:
    """One array of the tree: whole chunks go in, row ranges come out.

    Parameters
    ----------
    tree : HDF5Tree
        The open file.
    key : str
        Path of the array inside the store.

    Raises
    ------
    StoreDamagedError
        If the dataset is missing, cannot be read, or is none that a store may have.
    """

    def __init__(self, tree: HDF5Tree, key: str) -> None:
        self._tree = tree
        self.key = key
        self._generation = -1
        dataset = self._open()
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = np.dtype(object) if is_text(dataset) else dataset.dtype.newbyteorder("=")
        self.chunk_rows = int(dataset.chunks[0]) if dataset.chunks else 1

    @property
    def codec(self) -> Codec | None:
        """How chunks are compressed; None of text, which always is, and where there are none."""
        dataset = self._open()
        if dataset.chunks is None or is_text(dataset):
            return None
        return "gzip" if dataset.compression else "none"

    def _open(self) -> h5py.Dataset:
        """Give the dataset; anew where the file was opened anew."""
        if self._generation != self._tree.generation:
            self._dataset = self._tree.dataset(self.key)
            self._chunks: dict[int, int] | None = None
            self._generation = self._tree.generation
        return self._dataset

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write rows from ``start`` on; ``start`` is a multiple of ``chunk_rows``.

        One thread at a time is inside HDF5. (h5py before 3.16 does not see to that where a chunk is
        written directly and the driver is Python, which others may interrupt; so its lock is taken
        here.)

        Raises
        ------
        DataError
            If a text is longer than the array was made for.
        """
        dataset = self._open()
        if is_text(dataset):
            rows = _encode_text(rows, dataset.dtype, self.key)
        rows = np.ascontiguousarray(rows, dataset.dtype)
        if rows.size == 0:
            return
        if start + len(rows) > self.shape[0]:
            self.resize(start + len(rows))
        rest = (0,) * (len(self.shape) - 1)
        for first in range(0, len(rows), self.chunk_rows):
            chunk = rows[first : first + self.chunk_rows]
            missing = self.chunk_rows - len(chunk)
            if missing:
                chunk = np.concatenate([chunk, np.zeros((missing, *chunk.shape[1:]), chunk.dtype)])
            octets = chunk.reshape(-1).view(np.uint8).data
            data = zlib.compress(octets, LEVEL) if dataset.compression else octets
            sealed = b"".join((data, fletcher32(data).to_bytes(4, "little")))
            with h5py._objects.phil:
                dataset.id.write_direct_chunk((start + first, *rest), sealed)
                self._tree.check()

    def resize(self, rows: int) -> None:
        """Give a dataset that grows another number of rows."""
        self.shape = (rows, *self.shape[1:])
        with h5py._objects.phil:
            self._open().id.set_extent(self.shape)
            self._tree.check()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows ``start`` up to ``stop``.

        Raises
        ------
        StoreDamagedError
            If a chunk is missing (HDF5 would give zeros for it), cut short, or does not match its
            checksum.
        """
        try:
            return self._tree.retry_read(lambda: self._read(start, stop))
        except StoreDamagedError:
            raise
        except Exception as error:
            raise StoreDamagedError(
                f"{self._tree.path}: rows {start} to {stop - 1} of array {self.key} cannot be read "
                f"({one_line(error)}). Dump again, or restore the store from a copy."
            ) from error

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        dataset = self._open()
        if start >= stop or 0 in self.shape:
            return np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._check_written(dataset, start, stop)
        if is_text(dataset):
            return _decode_text(dataset[start:stop])
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        dataset.read_direct(rows, np.s_[start:stop])
        return rows

    def _check_written(self, dataset: h5py.Dataset, start: int, stop: int) -> None:
        if dataset.chunks is None:
            if not dataset.id.get_storage_size():
                raise StoreDamagedError(
                    f"{self._tree.path}: array {self.key} was never written. Dump again, or "
                    "restore the store from a copy."
                )
            return
        if self._chunks is None:
            found: dict[int, int] = {}

            def count(chunk: h5py.h5d.StoreInfo) -> None:
                row = chunk.chunk_offset[0] // self.chunk_rows
                found[row] = found.get(row, 0) + 1

            dataset.id.chunk_iter(count)
            self._chunks = found
        sizes = zip(self.shape[1:], dataset.chunks[1:], strict=True)
        whole = math.prod(-(-size // chunk) for size, chunk in sizes)
        rows = self.chunk_rows
        for chunk in range(start // rows, -(-stop // rows)):
            if self._chunks.get(chunk, 0) != whole:
                # Whether a commit came between is known only by opening the file anew.
                self._chunks = None
                raise StoreDamagedError(
                    f"{self._tree.path}: chunk {chunk} of array {self.key} (rows {chunk * rows} to "
                    f"{min((chunk + 1) * rows, self.shape[0]) - 1}) is missing. "
                    "Dump again, or restore the store from a copy."
                )


def is_text(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset holds text."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def _encode_text(rows: NDArray[Any], dtype: np.dtype[Any], key: str) -> NDArray[np.bytes_]:
    texts = [str(row).encode() for row in rows]
    most = dtype.itemsize - 1
    for text in texts:
        # Text of a fixed length ends at its first zero byte.
        if len(text) > most or b"\0" in text:
            raise DataError(
                f"{text.decode()!r} cannot be stored in {key}, which was made for text of up to "
                f"{most} bytes without zero bytes. Give the sample another name."
            )
    return np.array(texts, dtype)


def _decode_text(rows: NDArray[Any]) -> NDArray[Any]:
    return np.array([row.decode() for row in rows], object)


_COLUMNS = 4096
# The sums of so many rows of 16-bit words fit 32 bits.
_ROWS = 65536
_MODULUS = 65535


def fletcher32(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> int:
    """Give the checksum of bytes.

    With big-endian 16-bit words w₁ … wₙ, an odd byte at the end being the high one of a last word,
    it is (Σ (n − i + 1) wᵢ) · 2¹⁶ + Σ wᵢ, both sums reduced modulo 65535 to 1 … 65535, and 0 only
    where every word is 0.
    """
    octets = np.frombuffer(data, np.uint8)
    count = -(-len(octets) // 2)
    whole = len(octets) // (2 * _COLUMNS)
    matrix = octets[: 2 * whole * _COLUMNS].view("<u2").reshape(whole, _COLUMNS)
    tail = np.zeros((1, 2 * _COLUMNS), np.uint8)
    tail[0, : len(octets) - 2 * whole * _COLUMNS] = octets[2 * whole * _COLUMNS :]
    parts = [matrix[i : i + _ROWS] for i in range(0, whole, _ROWS)] + [tail.view("<u2")]
    words, weighted, row = 0, 0, 0
    for part in parts:
        # Word (r, c) of a matrix of C columns has n − r·C − c words left, itself among them: sums
        # along rows and along columns are enough, and need no product a word.
        along = part.sum(axis=1, dtype=np.uint32).astype(np.int64)
        across = part.sum(axis=0, dtype=np.uint32).astype(np.int64)
        left = count - _COLUMNS * np.arange(row, row + len(part))
        words += int(along.sum())
        weighted += int((left % _MODULUS * along).sum()) - int((np.arange(_COLUMNS) * across).sum())
        row += len(part)
    # Swapping the bytes of every word multiplies it by 256, modulo 65535.
    return _reduced(weighted * 256, words) << 16 | _reduced(words * 256, words)


def _reduced(value: int, words: int) -> int:
    return (value - 1) % _MODULUS + 1 if words else 0
