"""safetensors files: a header of JSON, and arrays of plain numbers behind it.

The header is parsed here and not by the ``safetensors`` package, which loads whole tensors, or
slices of them through a memory map: rows are streamed as from every other file, a file that is cut
while it is read is an error and no crash, and a dependency is saved.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import one_line, printable
from cnatool.data.formats.bfloat16_rows import BFloat16Rows
from cnatool.data.formats.ragged_rows import list_arrays, open_array
from cnatool.data.formats.row_source import make_row_source
from cnatool.data.formats.sliced_rows import check_sample_axis
from cnatool.data.formats.streamed_rows import StreamedRows
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import COPY_ADVICE, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from pathlib import Path

    from cnatool.data.formats.row_source import RowSource
    from cnatool.data.selection import ArraySelection

_BFLOAT16 = "BF16"
_DTYPES = {
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    _BFLOAT16: "<u2",  # its bits
}
# A header of samples names a few arrays. The format itself allows 100 MB.
_MAX_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An array that lies between two offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def open_safetensors(path: Path, selection: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open named arrays."""
    tensors = _read_header(path)
    arrays = list_arrays(tensors)
    names, label = selection.select(str(path), arrays)

    def open_rows(name: str) -> StreamedRows | BFloat16Rows:
        return _open_rows(path, name, tensors[name])

    samples = {name: open_array(arrays[name], open_rows) for name in names}
    labels = None if label is None else _open_rows(path, label, tensors[label])
    return make_row_source(path.name, samples, labels)


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Read the header, and check that the arrays follow each other without gaps."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged_error(path, f"its header claims {length} bytes")
        text = file.read(length)
    offset = 8 + length
    try:
        header: dict[str, Any] = json.loads(text.decode())
        tensors = {
            name: _parse_tensor(entry, offset)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged_error(path, f"its header cannot be read: {one_line(error)}") from error
    end = offset
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end or tensor.stop < end:
            raise _damaged_error(
                path, f"array {printable(name)!r} overlaps another or leaves a gap"
            )
        end = tensor.stop
    if end != size:
        raise _damaged_error(path, f"its header declares {end} bytes and it has {size}")
    return tensors


def _damaged_error(path: Path, text: str) -> DataError:
    return DataError(f"{path} is not a complete safetensors file ({text}). {COPY_ADVICE}")


def _parse_tensor(entry: Any, offset: int) -> _Tensor:
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    for number in (start, stop, *shape):
        if type(number) is not int or not 0 <= number < 1 << 62:
            raise ValueError(f"{number!r} is not a size")
    return _Tensor(str(entry["dtype"])[:20], shape, start + offset, stop + offset)


def _open_rows(path: Path, name: str, tensor: _Tensor) -> StreamedRows | BFloat16Rows:
    where = f"{path}, array {printable(name)!r},"
    if tensor.dtype not in _DTYPES:
        raise DataError(
            f"{where} has dtype {printable(tensor.dtype)}, which is not supported: save it as "
            "bool, integers, bfloat16, or floats of 16, 32 or 64 bits."
        )
    dtype = np.dtype(_DTYPES[tensor.dtype])
    check_sample_axis(where, tensor.shape)
    check_sample(where, dtype, tensor.shape[1:])
    opener = partial(_open_window, path, tensor)
    rows = StreamedRows(where, dtype, tensor.shape[0], tensor.shape[1:], 0, opener)
    if rows.end != tensor.stop - tensor.start:
        raise _damaged_error(path, f"array {printable(name)!r} has another size than its shape")
    return BFloat16Rows(rows) if tensor.dtype == _BFLOAT16 else rows


@contextmanager
def _open_window(path: Path, tensor: _Tensor) -> Iterator[BufferedIOBase]:
    with path.open("rb") as file:
        file.seek(tensor.start)
        with io.BufferedReader(_Window(file, tensor.stop - tensor.start)) as window:
            yield window


class _Window(io.RawIOBase):
    """The bytes of one array in an open file."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._left]
        got = self._file.readinto(view)
        self._left -= got
        return got
