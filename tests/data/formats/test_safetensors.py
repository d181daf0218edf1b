from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnatool.data.formats.safetensors import open_safetensors
from cnatool.data.selection import ArraySelection
from cnatool.errors import DataError

X = np.arange(11 * 6, dtype=np.float32).reshape(11, 2, 3)
Y = np.arange(11) % 4
NAMES = {"float32": "F32", "int64": "I64", "uint8": "U8", "bool": "BOOL", "float16": "F16"}


def written(path: Path, **arrays: np.ndarray) -> Path:
    """Write the format as its description says: a length, JSON, the arrays one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    body = b""
    for name, array in arrays.items():
        start = len(body)
        body += array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, len(body)],
        }
    return raw(path, header, body)


def raw(path: Path, header: Any, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize("rows", [1, 4, 11, 99])
def test_named_arrays(tmp_path: Path, rows: int) -> None:
    path = written(tmp_path / "a.safetensors", labels=Y, images=X, other=X[:3])
    source = open_safetensors(path)
    assert (source.rows, source.inputs[0].name, source.inputs[0].dtype) == (11, "images", "f4")
    blocks = list(source.blocks(rows, 10))
    np.testing.assert_array_equal(np.concatenate([b.inputs[0] for b in blocks]), X[:10])
    np.testing.assert_array_equal(np.concatenate([b.labels for b in blocks]), Y[:10])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "int64"])
def test_several_inputs_and_dtypes(tmp_path: Path, dtype: str) -> None:
    x = (X % 2).astype(dtype)
    path = written(tmp_path / "a.safetensors", a=x, b=X, kind=Y)
    source = open_safetensors(path, ArraySelection(("a", "in"), {"in": "b"}, labels="kind"))
    [block] = source.blocks(99)
    np.testing.assert_array_equal(block.inputs[0], x)
    assert block.inputs[0].dtype == dtype
    np.testing.assert_array_equal(block.inputs[1], X)


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "U8", "shape": [2, 3], "data_offsets": [0, 6]} | changes}


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        (entry(data_offsets=[0, 5]), bytes(5), "'x' has another size than its shape"),
        (entry(), bytes(7), r"declares \d+ bytes and it has \d+"),
        (entry(), bytes(5), "declares"),
        (entry(data_offsets=[1, 7]), bytes(7), "'x' overlaps another or leaves a gap"),
        (entry(data_offsets=[6, 0]), bytes(6), "leaves a gap"),
        (entry(data_offsets=[-6, 0]), bytes(0), "-6 is not a size"),
        (entry(shape=[2, 2**70]), bytes(6), "is not a size"),
        (entry(shape=[2**40, 2**40]), bytes(6), "the limit is|another size"),
        (entry(shape=[True, 6]), bytes(6), "True is not a size"),
        (entry(shape=[0, 3], data_offsets=[0, 0]), b"", "there must be at least one"),
        (entry(shape=[], data_offsets=[0, 1]), b"x", "first axis must count the samples"),
        (entry(dtype="F8_E4M3"), bytes(6), "has dtype F8_E4M3, which is not supported"),
        (entry(shape="ab"), bytes(6), "is not a size"),
        (entry() | {"z": entry()["x"]}, bytes(6), "overlaps another"),
        ({"a": entry()["x"]}, bytes(6), "needs an array of samples called x or .* and holds a"),
        (b"{" * 50_000, b"", "its header cannot be read"),
        (b"[]", b"", "its header cannot be read"),
        (b"\xff\xff", b"", "its header cannot be read"),
        (b"[" * 500_000, b"", "its header cannot be read"),
    ],
)
def test_hostile_headers(tmp_path: Path, header: Any, body: bytes, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        open_safetensors(raw(tmp_path / "a.safetensors", header, body))
    assert "a.safetensors" in str(caught.value)


def test_a_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for content in (
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 3) + b"{}",
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"not a complete safetensors file \(its header claims"):
            open_safetensors(path)


def test_labels_that_are_none(tmp_path: Path) -> None:
    for labels, text in ((X[:, 0, 0] + 0.5, "real numbers are targets"), (Y[:9], "has 9 labels")):
        with pytest.raises(DataError, match=text):
            open_safetensors(written(tmp_path / "a.safetensors", x=X, y=labels))
