"""Sizes of a model's tensors, computed before any memory is allocated for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import helper

from cnatool._util.memory import available_memory
from cnatool._util.text import bytes_text, count_text, name_with_operator
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.backend.graph.graph import Graph

# Larger fixed batches occur only in broken models.
_LARGEST_BATCH = 1 << 16
# A protobuf message holds no larger constant, and no exporter leaves one to be computed.
_LARGEST_CONSTANT = 1 << 31
# A constant with more elements than this is not a shape.
_SHAPE_ELEMENTS = 1024
_ADVICE = "Run it where there is more memory, or export it for smaller inputs."


def check_bytes(subject: str, size: int, advice: str) -> None:
    """Refuse a size that does not fit into memory; ``subject`` begins the message."""
    available = available_memory()
    if available is not None and size > available:
        raise ModelError(
            f"{subject} {bytes_text(size)}, and {bytes_text(available)} of memory is available. "
            f"{advice}"
        )


def check_sizes(
    graph: Graph, samples: Mapping[str, tuple[int, ...]], *, count: int, bound: int | None
) -> None:
    """Refuse a model of which one tensor cannot fit into memory, before it is run.

    Sizes that depend on the data, or are computed in the graph, are unknown and not counted.
    ``samples`` are shapes of one sample.
    """
    if bound is not None and bound > _LARGEST_BATCH:
        raise ModelError(
            f"{graph.path}: the model takes batches of exactly {bound:,} samples, more than "
            f"the limit of {_LARGEST_BATCH:,}. Export it with a dynamic batch axis, or with a "
            "smaller batch."
        )
    inputs = {name: (count, *shape) for name, shape in samples.items()}
    sizes = tensor_bytes(graph.model, inputs)
    _check_computed(graph, {n: size for n, size in sizes.items() if n not in graph.dynamic})
    if not sizes:
        return
    name = max(sizes, key=lambda name: sizes[name])
    tensor = f"{graph.path}: tensor {name_with_operator(repr(name), graph.operator(name))}"
    check_bytes(f"{tensor} takes, for {count_text(count, 'sample')},", sizes[name], _ADVICE)


def check_total(
    graph: Graph,
    inputs: Mapping[str, tuple[int, ...]],
    *,
    count: int,
    bound: int | None,
    runs: int = 1,
) -> None:
    """Refuse a model whose tensors do not fit into memory all at one time.

    ``inputs`` are shapes of arrays with ``count`` samples; the results of ``runs`` are held.
    """
    total = runs * sum(tensor_bytes(graph.model, inputs).values())
    advice = _ADVICE
    if bound is None and total // count < (available_memory() or 0):
        advice = f"Give `batch_size=1`, {advice[0].lower()}{advice[1:]}"
    times = f"in {runs} runs of" if runs > 1 else "for"
    check_bytes(
        f"{graph.path}: its tensors take, {times} {count_text(count, 'sample')},", total, advice
    )


def check_constants(graph: Graph, model: onnx.ModelProto) -> None:
    """Refuse huge constants, which a few bytes of a model can demand."""
    _check_computed(graph, tensor_bytes(model, {}))


def _check_computed(graph: Graph, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size > _LARGEST_CONSTANT:
            raise ModelError(
                f"{graph.path}: tensor {name_with_operator(repr(name), graph.operator(name))} is a "
                f"constant of {bytes_text(size)}, more than the limit of "
                f"{bytes_text(_LARGEST_CONSTANT)}. Export the model with a smaller one."
            )


class SizedTensor(NamedTuple):
    """A tensor whose shape follows from those of the inputs."""

    name: str
    shape: tuple[int, ...]
    bytes: int


def infer_sizes(
    model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]]
) -> Iterator[SizedTensor]:
    """Yield each tensor whose shape follows from those of the inputs."""
    light = _light(model, inputs)
    computed = {name for node in light.graph.node for name in node.output} | inputs.keys()
    try:
        # Without data_prop, which computes the values of vectors, however long they are.
        inferred = onnx.shape_inference.infer_shapes(light)
    except Exception:  # its C++ raises several classes; the runtime reports what is wrong
        inferred = light
    for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input):
        kind = value.type.tensor_type
        if value.name not in computed:
            continue
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim)
        if kind.HasField("shape") and min(dims, default=1) > 0:
            yield SizedTensor(value.name, dims, math.prod(dims) * _item_bytes(kind.elem_type))


def tensor_bytes(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the size of each tensor whose shape follows from those of the inputs."""
    return {tensor.name: tensor.bytes for tensor in infer_sizes(model, inputs)}


def _item_bytes(kind: int) -> int:
    try:
        return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except (KeyError, TypeError):
        return 1


def _light(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Copy a model without its weights, with inputs of known shapes."""
    graph = onnx.GraphProto(name="sizes")
    declared: dict[str, onnx.ValueInfoProto] = {}
    for value in model.graph.input:
        if value.name in inputs:
            value = helper.make_tensor_value_info(
                value.name, value.type.tensor_type.elem_type, inputs[value.name]
            )
        declared[value.name] = value
    for tensor in model.graph.initializer:
        if _is_weight(tensor):
            declared[tensor.name] = _declare(tensor.name, tensor)
        else:
            graph.initializer.append(tensor)
    for node in model.graph.node:
        attribute = node.attribute[0] if len(node.attribute) == 1 else None
        if node.op_type == "Constant" and attribute and _is_weight(attribute.t):
            declared[node.output[0]] = _declare(node.output[0], attribute.t)
        else:
            graph.node.append(node)
    graph.input.extend(declared.values())
    # Declared shapes may be less specific than those that follow from the inputs, or wrong.
    graph.output.extend(onnx.ValueInfoProto(name=output.name) for output in model.graph.output)
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, graph=graph
    )


def _is_weight(tensor: onnx.TensorProto) -> bool:
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    return external or math.prod(tensor.dims) > _SHAPE_ELEMENTS


def _declare(name: str, tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
