"""Axes are named where operators or preprocessing tell what they are, and only there."""

from __future__ import annotations

import msgspec
import pytest
from support.stores import record

from cnatool.records.axes import input_axes, output_axes, tensor_axes
from cnatool.records.layout import split_arrays
from cnatool.records.run import ModelRecord, Preprocessing
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord

MODEL = ModelRecord("net.onnx", (), "test", {"": 17}, ("x",), ("out",))


def tensor(number: int, operator: str, *shape: int, **fields: object) -> TensorRecord:
    settings = {"batch_axis": 0, "kept": "full", "stored": "float32"} | fields
    return TensorRecord(number, f"t{number}", operator, "other", "float32", shape=shape, **settings)


def network(*tensors: TensorRecord, model: ModelRecord | None = MODEL) -> StoreRecord:
    return msgspec.structs.replace(record(), tensors=tensors, model=model)


def names(made: StoreRecord) -> list[tuple[str, ...]]:
    return list(tensor_axes(made).values())


IMAGE = ("channel", "y", "x")


def test_convolutions_and_what_has_their_shape() -> None:
    made = network(
        tensor(0, "Conv", 16, 8, 8),
        tensor(1, "BatchNormalization", 16, 8, 8),
        tensor(2, "MaxPool", 16, 4, 4),
        tensor(3, "Relu", 16, 8, 8),
        tensor(4, "Relu", 16, 2, 2),
        tensor(5, "Transpose", 16, 8, 8),
        tensor(6, "Gemm", 16),
        tensor(7, "Conv", 16, 9),
    )
    unknown = ("axis1", "axis2", "axis3")
    assert names(made) == [
        *(IMAGE, IMAGE, IMAGE, IMAGE, unknown, unknown, ("feature",), ("channel", "x"))
    ]


@pytest.mark.parametrize(
    "made",
    [
        network(tensor(0, "Conv", 16, 8, 8), model=None),  # may be Keras, with channels last
        network(tensor(0, "Conv", 16, 8, 8, batch_axis=1)),
        network(tensor(0, "Conv", 16, 8, 8, batch_axis=None)),
        network(tensor(0, "Conv", 16, 8, 8, merged="NT")),
    ],
)
def test_where_channels_may_be_elsewhere_axes_have_numbers(made: StoreRecord) -> None:
    assert names(made) == [("axis1", "axis2", "axis3")]


def test_a_shape_with_two_meanings_has_none() -> None:
    made = network(
        tensor(0, "Conv", 4, 4, 4),
        tensor(1, "Conv", 4, 4, 4, merged="NT"),
        tensor(2, "Relu", 4, 4, 4),
    )
    assert names(made)[2] == IMAGE
    last = tensor(1, "InstanceNormalization", 4, 4)
    assert names(network(last, tensor(2, "Tanh", 4, 4)))[1] == ("channel", "x")


@pytest.mark.parametrize(
    ("raw", "layout", "shape", "axes"),
    [
        ((28, 28, 3), "hwc->chw", (3, 28, 28), ("y", "x", "channel")),
        ((3, 28, 28), "chw->hwc", (28, 28, 3), IMAGE),
        ((28, 28), "reshape", (1, 28, 28), ("y", "x")),
        ((28, 28), "reshape", (28, 28, 1), ("y", "x")),
        ((28, 28), "reshape", (784,), ("axis1", "axis2")),
        ((3, 32, 32), "as is", (3, 32, 32), IMAGE),
        ((32, 32, 3), "as is", (32, 32, 3), ("y", "x", "channel")),
        ((3, 3, 3), "as is", (3, 3, 3), ("axis1", "axis2", "axis3")),
        ((784,), "flat-chw->chw", (1, 28, 28), ("feature",)),
    ],
)
def test_inputs(
    raw: tuple[int, ...], layout: str, shape: tuple[int, ...], axes: tuple[str, ...]
) -> None:
    step = Preprocessing("x", "uint8", raw, layout, shape, "float32")
    array = ArrayRecord("x", "uint8", raw)
    made = msgspec.structs.replace(record(), inputs=(array,), preprocessing=(step,))
    assert input_axes(made) == [axes]


def test_an_output_has_the_axes_of_its_tensor() -> None:
    made = network(tensor(0, "Conv", 5, 6, 7, stored=None, output=0))
    made = msgspec.structs.replace(
        made, outputs=(ArrayRecord("out", "float32", (5, 6, 7)), ArrayRecord("b", "int64", ()))
    )
    assert output_axes(made, tensor_axes(made)) == [IMAGE, ()]


def test_dimensions_of_equal_names_have_equal_sizes() -> None:
    made = network(
        *(tensor(i, "Conv", 2**i, 8 - i, 8) for i in range(6)),
        *(tensor(6 + i, "MatMul", i, 2, 3) for i in range(3)),
    )
    sizes: dict[str, int] = {}
    for spec in split_arrays(made, labels=True):
        rows = (
            ()
            if spec.dimensions[1:] == ("tensor",)
            else zip(spec.dimensions[1:], spec.shape, strict=True)
        )
        for name, size in rows:
            assert sizes.setdefault(name, size) == size
        assert len(set(spec.dimensions)) == len(spec.dimensions) == 1 + len(spec.shape)
