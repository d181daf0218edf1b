"""safetensors files: a header of JSON, and arrays of plain numbers behind it.

The header is read here and not by the ``safetensors`` package, which loads whole tensors or slices
of them through a memory map: rows are streamed as they are from every other file, a file that is
cut while it is read is an error and no crash, and no dependency is added for eight bytes and a JSON
object.
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
from cnatool.data.formats.rows import RowSource, check_labels
from cnatool.data.formats.streams import StreamedRows
from cnatool.data.source import SINGLE_INPUT, ArraySelection, InputSpec, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from pathlib import Path

_DTYPES = {
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
# A header of samples names a few arrays. The format itself allows 100 MB.
_MAX_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def open_safetensors(path: Path, wanted: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open named arrays."""
    tensors = _tensors(path)
    names, label = wanted.chosen(str(path), tensors)
    samples = [_rows(path, name, tensors[name]) for name in names]
    for name, rows in zip(names, samples, strict=True):
        if rows.rows != samples[0].rows:
            raise DataError(
                f"{path} holds {samples[0].rows} samples in {names[0]} and {rows.rows} in {name}: "
                "they must be equally many."
            )
    labels = None if label is None else _rows(path, label, tensors[label])
    if labels is not None:
        check_labels(labels, samples[0])
    specs = [
        InputSpec(name, rows.dtype.newbyteorder("="), rows.shape)
        for name, rows in zip(names, samples, strict=True)
    ]
    return RowSource(path.name, tuple(specs), tuple(samples), labels)


def _tensors(path: Path) -> dict[str, _Tensor]:
    """Read the header, and check that the arrays lie in the file one after the other."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise _damaged(path, f"its header claims {length} bytes")
        text = file.read(length)
    try:
        header: dict[str, Any] = json.loads(text.decode())
        tensors = {name: _tensor(entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read: {one_line(error)}") from error
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end or tensor.stop < end:
            raise _damaged(path, f"array {printable(name)!r} overlaps another or leaves a gap")
        end = tensor.stop
    if 8 + length + end != size:
        raise _damaged(path, f"its header promises {8 + length + end} bytes and it has {size}")
    offset = 8 + length
    return {
        name: _Tensor(t.dtype, t.shape, t.start + offset, t.stop + offset)
        for name, t in tensors.items()
    }


def _damaged(path: Path, text: str) -> DataError:
    return DataError(f"{path} is no whole safetensors file ({text}). Get a whole copy of the file.")


def _tensor(entry: Any) -> _Tensor:
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    for number in (start, stop, *shape):
        if type(number) is not int or not 0 <= number < 1 << 62:
            raise ValueError(f"{number!r} is no size")
    return _Tensor(str(entry["dtype"])[:20], shape, start, stop)


def _rows(path: Path, name: str, tensor: _Tensor) -> StreamedRows:
    where = f"{path}, array {printable(name)!r},"
    if tensor.dtype not in _DTYPES:
        raise DataError(
            f"{where} has dtype {printable(tensor.dtype)}, which is not understood: save it as "
            "bool, integers, or floats of 16, 32 or 64 bits."
        )
    dtype = np.dtype(_DTYPES[tensor.dtype])
    if not tensor.shape or not tensor.shape[0]:
        raise DataError(
            f"{where} has shape {tensor.shape}: the first axis must count the samples, and there "
            "must be one."
        )
    check_sample(where, dtype, tensor.shape[1:])
    opener = partial(_opened, path, tensor)
    rows = StreamedRows(where, dtype, tensor.shape[0], tensor.shape[1:], 0, opener)
    if rows.end != tensor.stop - tensor.start:
        raise _damaged(path, f"array {printable(name)!r} has another size than its shape")
    return rows


@contextmanager
def _opened(path: Path, tensor: _Tensor) -> Iterator[BufferedIOBase]:
    with path.open("rb") as file:
        file.seek(tensor.start)
        with io.BufferedReader(_Window(file, tensor.stop - tensor.start)) as window:
            yield window


class _Window(io.RawIOBase):
    """As many bytes of an open file as belong to one array."""

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
