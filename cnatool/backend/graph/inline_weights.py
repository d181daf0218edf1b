"""Large weights inside a model file, taken out of it before protobuf parses the rest.

Protobuf copies the weights when it parses a model, again each time that a model is copied or
written out, and the runtime once more. Apart from the graph they are held once, and every session
reads them where they are.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Smaller constants stay in the graph: their values say how it works, as those of shapes do.
_LARGE = 1 << 14
# What is said of a weight beside its values takes less, unless they are there a second time.
_DESCRIPTION = 1 << 12
# Where a weight that was taken out says it is; no file has that name.
_LOCATION = "*weights in memory*"

# How a field of a protobuf message is encoded.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
_EXTERNAL = (
    onnx.TensorProto.EXTERNAL_DATA_FIELD_NUMBER,
    onnx.TensorProto.DATA_LOCATION_FIELD_NUMBER,
)


class _UnusualError(Exception):
    """A message is encoded in a way that only protobuf reads."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of an encoded message, from ``start``, and its value, from ``value``."""

    number: int
    kind: int
    start: int
    value: int
    end: int


def take_weights(content: memoryview) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Take the large initializers out of an encoded model.

    Returns
    -------
    rest : bytes
        The encoded model without their values, marked as external data.
    weights : dict of str to array
        The values by name. None are taken out of a file that is not encoded as usual.
    """
    try:
        graphs = [f for f in _fields(content, 0, len(content)) if f.number == _MODEL_GRAPH]
        if len(graphs) != 1 or graphs[0].kind != _BYTES:
            return bytes(content), {}
        (graph,) = graphs
        tensors = list(_large_tensors(content, graph))
    except _UnusualError:
        return bytes(content), {}
    counts = Counter(name for _, name, *_ in tensors)
    parts: list[bytes | memoryview] = []
    weights: dict[str, NDArray[Any]] = {}
    done = graph.value
    for field, name, data, array in tensors:
        if counts[name] > 1:
            continue
        tensor = b"".join((content[field.value : data.start], content[data.end : field.end], _MARK))
        parts += [content[done : field.start], _encode(_INITIALIZER, tensor)]
        done = field.end
        # A copy lies at an address that suits its type, and lets go of the whole file.
        weights[name] = array.astype(array.dtype.newbyteorder("="))
        weights[name].flags.writeable = False
    parts.append(content[done : graph.end])
    rest = (content[: graph.start], _encode(_MODEL_GRAPH, b"".join(parts)), content[graph.end :])
    return b"".join(rest), weights


def lies_apart(tensor: onnx.TensorProto) -> bool:
    """Whether the values of an initializer were taken out of the model."""
    return any(e.key == "location" and e.value == _LOCATION for e in tensor.external_data)


def take_values(tensor: onnx.TensorProto) -> NDArray[Any] | None:
    """Take the values of an initializer out of it if they are large; otherwise return None."""
    data = tensor.raw_data
    if len(data) < _LARGE:
        return None
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        values = np.frombuffer(data, dtype.newbyteorder("<")).reshape(tensor.dims)
    except (KeyError, TypeError, ValueError):  # of another kind, or damaged
        return None
    if dtype.isbuiltin != 1 or dtype.kind not in "fiub":
        return None
    tensor.ClearField("raw_data")
    tensor.MergeFromString(_MARK)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _large_tensors(
    view: memoryview, graph: _Field
) -> Iterator[tuple[_Field, str, _Field, NDArray[Any]]]:
    """Yield large initializers: the field, their name, the field of their data, and the values."""
    for field in _fields(view, graph.value, graph.end):
        if field.number != _INITIALIZER or field.end - field.value < _LARGE:
            continue
        parts = list(_fields(view, field.value, field.end))
        data = [part for part in parts if part.number == _RAW_DATA]
        if len(data) != 1 or data[0].kind != _BYTES or data[0].end - data[0].value < _LARGE:
            continue
        if any(part.number in _EXTERNAL for part in parts):
            continue
        start, end = data[0].start, data[0].end
        if field.end - field.value - (end - start) > _DESCRIPTION:
            continue
        described = onnx.TensorProto()
        try:
            described.ParseFromString(b"".join((view[field.value : start], view[end : field.end])))
            name, kind, shape = described.name, described.data_type, tuple(described.dims)
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        except Exception:  # of several classes; parsing the whole model says what is wrong
            continue
        size = math.prod(shape) * dtype.itemsize
        plain = dtype.isbuiltin == 1 and dtype.kind in "fiub"
        if name and plain and min(shape, default=1) > 0 and size == end - data[0].value:
            values = np.frombuffer(view[data[0].value : end], dtype.newbyteorder("<"))
            yield field, name, data[0], values.reshape(shape)


def _fields(view: memoryview, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of an encoded message."""
    while start < end:
        key, value = _read_varint(view, start, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, stop = _read_varint(view, value, end)
        elif kind == _BYTES:
            length, value = _read_varint(view, value, end)
            stop = value + length
        elif kind in (_FIXED32, _FIXED64):
            stop = value + (4 if kind == _FIXED32 else 8)
        else:
            raise _UnusualError
        if stop > end:
            raise _UnusualError
        yield _Field(number, kind, start, value, stop)
        start = stop


def _read_varint(view: memoryview, place: int, end: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; the second result is where it ends."""
    number = shift = 0
    while place < end and shift < 64:
        byte = view[place]
        place += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, place
    raise _UnusualError


def _encode(number: int, value: bytes) -> bytes:
    """Encode a field that holds bytes."""
    return _write_varint(number << 3 | _BYTES) + _write_varint(len(value)) + value


def _write_varint(number: int) -> bytes:
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


_MARK = onnx.TensorProto(
    data_location=onnx.TensorProto.EXTERNAL,
    external_data=[onnx.StringStringEntryProto(key="location", value=_LOCATION)],
).SerializeToString()
