"""Names of the axes of arrays, as far as the network's operators and the preprocessing tell.

An ONNX convolution puts channels before positions, so that its result, that of a pooling, and
tensors of the same shape computed element by element have axes ``channel``, ``y`` and ``x``. Where
nothing tells, an axis has its number: ``axis1`` is the first one after the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.store import StoreRecord, TensorRecord

Axes: TypeAlias = tuple[str, ...]

SAMPLE = "sample"
# The axis of statistics with a column for each tensor.
TENSOR = "tensor"

# Axes of a result by their number, for operators that keep channels first.
_IMAGES: dict[int, Axes] = {
    2: ("channel", "x"),
    3: ("channel", "y", "x"),
    4: ("channel", "z", "y", "x"),
}
# Their results have channels before positions.
CHANNELS_FIRST = frozenset(
    {
        "AveragePool",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "InstanceNormalization",
        "LRN",
        "LpPool",
        "MaxPool",
        "QLinearAveragePool",
        "QLinearConv",
        "SpaceToDepth",
    }
)
# Their results have the axes of an argument of the same shape.
ELEMENTWISE = frozenset(
    {
        "Add",
        "BatchNormalization",
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mish",
        "Mul",
        "PRelu",
        "QuantizeLinear",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Sub",
        "Sum",
        "Tanh",
    }
)
_LAYOUTS: dict[str, Axes] = {"chw": ("channel", "y", "x"), "hwc": ("y", "x", "channel")}


def tensor_axes(record: StoreRecord) -> dict[int, Axes]:
    """Name the axes of one sample of each tensor, by the tensor's number."""
    certain = {tensor.number: _result_axes(record, tensor) for tensor in record.tensors}
    # Axes of each shape, unless two tensors of that shape have different ones.
    shapes: dict[tuple[int, ...], set[Axes]] = {}
    for tensor in record.tensors:
        axes = certain[tensor.number]
        if axes is not None and not tensor.reduction:
            shapes.setdefault(tensor.shape, set()).add(axes)
    named = {}
    for tensor in record.tensors:
        known = shapes.get(tensor.shape, set())
        axes = certain[tensor.number]
        if axes is None and tensor.operator in ELEMENTWISE and len(known) == 1:
            (axes,) = known
        named[tensor.number] = axes or _default(tensor.shape)
    return named


def _result_axes(record: StoreRecord, tensor: TensorRecord) -> Axes | None:
    """Name the axes of a tensor from its own operator; None if that does not tell."""
    if tensor.reduction:
        return _reduced_axes(tensor)
    # Without an ONNX model, channels may be first or last.
    usual = record.model is not None and tensor.batch_axis == 0 and tensor.merged is None
    return _IMAGES.get(len(tensor.shape)) if usual and tensor.operator in CHANNELS_FIRST else None


def _reduced_axes(tensor: TensorRecord) -> Axes | None:
    """Name the axes of a reduced tensor: positions, then units, or what they are projected to."""
    return {1: ("feature",), 2: ("position", "feature")}.get(len(tensor.shape))


def output_axes(record: StoreRecord, named: dict[int, Axes]) -> list[Axes]:
    """Name the axes of one sample of each model output, given those of all tensors."""
    by_output = {t.output: named[t.number] for t in record.tensors if t.output is not None}
    return [by_output.get(i) or _default(array.shape) for i, array in enumerate(record.outputs)]


def input_axes(record: StoreRecord) -> list[Axes]:
    """Name the axes of one raw sample of each input."""
    return [next(_input_axes(record, i)) for i in range(len(record.inputs))]


def _input_axes(record: StoreRecord, number: int) -> Iterator[Axes]:
    """Yield the axes of a raw input, the best source first."""
    shape = record.inputs[number].shape
    if record.inputs[number].levels is not None:
        yield ("level",)
    steps = record.steps[number]
    if steps is not None:
        layout = _LAYOUTS.get(steps.layout.partition("->")[0])
        if layout is not None and len(shape) == 3 and "->" in steps.layout:
            yield layout
        # Grey images, to which the model's input adds a channel.
        if len(shape) == 2 and steps.shape in ((1, *shape), (*shape, 1)):
            yield ("y", "x")
        small = [axis for axis in (0, -1) if len(shape) == 3 and shape[axis] in (1, 3)]
        if steps.layout == "as is" and steps.source_dtype == "uint8" and len(small) == 1:
            yield _LAYOUTS["chw" if small == [0] else "hwc"]
    yield _default(shape)


def _default(shape: tuple[int, ...]) -> Axes:
    """Name axes of unknown meaning: a single one ``feature``, several by their numbers."""
    if len(shape) == 1:
        return ("feature",)
    return tuple(f"axis{number}" for number in range(1, len(shape) + 1))


def add_sizes(axes: Axes, shape: tuple[int, ...]) -> Axes:
    """Add the size of each axis to its name, so that axes of equal names have equal sizes."""
    return tuple(f"{axis}_{size}" for axis, size in zip(axes, shape, strict=True))
