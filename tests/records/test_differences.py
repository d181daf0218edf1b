"""Differences between records, in words."""

from __future__ import annotations

import msgspec

from cnatool.records.differences import describe_differences
from cnatool.records.run import FileRecord, ModelRecord, RuntimeRecord

RUNTIME = RuntimeRecord("onnxruntime", "1.22", "cpu", "all", 32, 2)
FILE = FileRecord("net.onnx", 10, "ab" * 32)
MODEL = ModelRecord("net.onnx", (FILE,), "pytorch", {"": 17}, ("x",), ("y",))


def test_nothing_differs() -> None:
    assert describe_differences(RUNTIME, RUNTIME, "here", "there") is None
    renamed = msgspec.structs.replace(
        MODEL, name="other.onnx", files=(msgspec.structs.replace(FILE, name="other.onnx"),)
    )
    assert describe_differences(MODEL, renamed, "here", "there") is None


def test_fields_are_named_with_both_values() -> None:
    other = msgspec.structs.replace(RUNTIME, threads=4, version="1.23")
    assert describe_differences(RUNTIME, other, "in a", "in b") == (
        "version 1.22 in a and 1.23 in b; threads 2 in a and 4 in b"
    )


def test_at_most_three_are_listed() -> None:
    other = RuntimeRecord("tensorrt", "9", "cuda", "none", 16, 1)
    text = describe_differences(RUNTIME, other, "in a", "in b")
    assert text is not None
    assert text.count(" in b") == 3
    assert text.endswith("(3 more differ)")


def test_absent_values_are_none() -> None:
    class Record(msgspec.Struct, frozen=True):
        part: int | msgspec.UnsetType = msgspec.UNSET

    assert describe_differences(Record(), Record(3), "here", "there") == (
        "part none here and 3 there"
    )


def test_another_model_is_named_first_and_by_its_file() -> None:
    class Record(msgspec.Struct, frozen=True):
        tensors: tuple[str, ...]
        model: ModelRecord

    other = msgspec.structs.replace(MODEL, name="mlp.onnx", outputs=("z",))
    text = describe_differences(Record(("a",), MODEL), Record(("b",), other), "in s", "now")
    assert text == "model net.onnx in s and mlp.onnx now; tensors a in s and b now"
    # Two files of one name are told apart by what is in them.
    other = msgspec.structs.replace(MODEL, producer="keras")
    text = describe_differences(Record((), MODEL), Record((), other), "in s", "now")
    assert text == "model producer pytorch in s and keras now"
