"""The range of values that a model expects, inferred from the first operators of its graph.

Many exports divide pixels by 255, or normalise them, in the graph itself. The graph is followed
from an input through changes of shape, casts, and sums and products with constants. That part, run
on constant samples, shows the affine map which the model applies first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from cnatool.backend.graph.constants import Constants
from cnatool.backend.graph.nodes import attributes, operator_set
from cnatool.backend.session import RunOptions, Session
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

ExpectedValues = Literal["pixels", "unit"]

# Values from 0 to 1 have a mean of at most 1, and nobody divides them by 10: larger numbers are for
# the levels of pixels. Those of MNIST have a mean of 33, those of CIFAR-10 a deviation of 63.
_LEAST_CENTRE = 2.0
_LEAST_DIVISOR = 10.0
# The data behind the statistics of a BatchNormalization may have been standardised before.
_LEAST_DEVIATION = 4.0
# 1, and room for rounding.
_UNIT = 1.01
# Larger inputs are not run.
_MOST_ELEMENTS = 1 << 26

_ONE_INPUT = operator_set(
    "AveragePool Cast CastLike CenterCropPad DepthToSpace Dropout Expand Flatten Gather "
    "GlobalAveragePool Identity ImageScaler MaxPool Pad Reshape Resize Scaler Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Unsqueeze Upsample"
)
_SUMS = frozenset({"Add", "Concat", "Sub", "Sum"})
_LINEAR = frozenset({"Conv", "Gemm", "MatMul"})
# Operators that change values, not only shapes.
_ARITHMETIC = frozenset({"Add", "Div", "ImageScaler", "Mul", "Neg", "Scaler", "Sub", "Sum"})
_ARITHMETIC |= _LINEAR
# Readers of the result of that part that show which range they expect.
_WITNESSES = frozenset({"BatchNormalization", "Cast", "Clip", "QuantizeLinear"})


@dataclass(frozen=True, slots=True)
class InputRange:
    """The values that a model's input is made for."""

    # From 0 to 255, or from 0 to 1; None where what the graph computes first shows neither.
    expects: ExpectedValues | None
    # What the model does to the input first, to continue "the model".
    text: str

    def __str__(self) -> str:
        top = {"pixels": ", as for values from 0 to 255", "unit": ", as for values from 0 to 1"}
        return self.text + top.get(self.expects or "", "")


def infer_input_range(
    graph: Graph, name: str, shape: tuple[int, ...], batch: int
) -> InputRange | None:
    """Infer from the first operators of a graph which values an input is made for."""
    constants = Constants(graph)
    known = _affine_part(constants, name)
    witnesses = [
        (tensor, node)
        for tensor in known
        for node in graph.consumers.get(tensor, ())
        if node.op_type in _WITNESSES and node.input[0] == tensor
    ]
    ends = [tensor for tensor in _list_changed(known) if _is_end(graph, tensor, known)]
    wanted = list(dict.fromkeys([*ends, *(tensor for tensor, _ in witnesses)]))
    size = batch * int(np.prod(shape, dtype=np.int64))
    if not wanted or size > _MOST_ELEMENTS:
        return None
    try:
        maps = _maps(graph, known, name, (batch, *shape), wanted)
        ranges = [_from_map(*maps[tensor]) for tensor in ends]
        ranges += [_from_witness(constants, node, *maps[tensor]) for tensor, node in witnesses]
    except CnatoolError:
        # The dump itself reports what does not run.
        return None
    return _combine([candidate for candidate in ranges if candidate is not None])


def _combine(ranges: list[InputRange]) -> InputRange | None:
    """Combine the evidence of several places; contradictions leave the range open."""
    kinds = {candidate.expects for candidate in ranges} - {None}
    if len(kinds) > 1:
        texts = " and ".join(
            dict.fromkeys(candidate.text for candidate in ranges if candidate.expects)
        )
        return InputRange(None, texts)
    kind = next(iter(kinds), None)
    return next((candidate for candidate in ranges if candidate.expects == kind), None)


def _is_end(graph: Graph, tensor: str, known: Mapping[str, onnx.NodeProto | None]) -> bool:
    """Whether something outside the affine part reads a tensor."""
    readers = [n for n in graph.consumers.get(tensor, ()) if n.op_type not in ("Shape", "Size")]
    return not readers or any(set(n.output).isdisjoint(known) for n in readers)


def _list_changed(known: Mapping[str, onnx.NodeProto | None]) -> list[str]:
    """List the tensors of an affine part whose values differ from the input's."""
    computed: dict[str, None] = {}
    for tensor, node in known.items():
        if node is None:
            continue
        if node.op_type in _ARITHMETIC or any(name in computed for name in node.input):
            computed[tensor] = None
    return list(computed)


def _affine_part(constants: Constants, name: str) -> dict[str, onnx.NodeProto | None]:
    """Find the tensors that are an affine map of the input, in execution order."""
    known: dict[str, onnx.NodeProto | None] = {name: None}
    for node in constants.graph.model.graph.node:
        if _is_affine(constants, node, known):
            known.update((output, node) for output in node.output if output)
    return known


def _is_affine(
    constants: Constants, node: onnx.NodeProto, known: Mapping[str, onnx.NodeProto | None]
) -> bool:
    reads = [source for source in node.input if source]
    data = [source for source in reads if source in known]
    if not data:
        return False
    fixed = all(_is_fixed(constants, source) for source in reads if source not in known)
    if node.op_type in _SUMS or node.op_type == "Neg":
        return fixed
    if node.op_type in ("Mul", "Div"):
        return fixed and len(data) == 1 and (node.op_type == "Mul" or node.input[0] in known)
    if node.op_type in _LINEAR:
        return fixed and data == [node.input[0]] and _is_diagonal(constants, node)
    if node.op_type in ("Cast", "CastLike"):
        return data == [node.input[0]] and _to_float(constants, node)
    return node.op_type in _ONE_INPUT and data == [node.input[0]] and fixed


def _is_fixed(constants: Constants, name: str) -> bool:
    """Whether a tensor does not depend on the values of the inputs."""
    return name not in constants.graph.dynamic


def _to_float(constants: Constants, node: onnx.NodeProto) -> bool:
    if node.op_type == "CastLike":
        return constants.is_floating(node.input[1]) or node.input[1] in constants.graph.dynamic
    return int(attributes(node)["to"]) in (
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
    )


def _is_diagonal(constants: Constants, node: onnx.NodeProto) -> bool:
    """Whether a linear operator only scales, and perhaps permutes, the channels."""
    name = node.input[1]
    size = constants.size(name)
    if size is None or size > 1 << 20 or not constants.has(name):
        return False
    weights = np.asarray(constants.value(name))
    if node.op_type == "Conv":
        if weights.ndim < 3 or max(weights.shape[2:]) > 1:
            return False
        groups = int(attributes(node).get("group", 1))
        if groups == len(weights) == weights.size:
            return True
        weights = weights.reshape(weights.shape[:2])
        if groups != 1:
            return False
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) < 2:
        return weights.size == 1
    used = weights != 0
    return bool((used.sum(axis=0) == 1).all() and (used.sum(axis=1) == 1).all())


def _maps(
    graph: Graph,
    known: Mapping[str, onnx.NodeProto | None],
    name: str,
    shape: tuple[int, ...],
    wanted: list[str],
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Compute the factor and the summand of each element of tensors that depend on the input."""
    whole = graph.model
    needed = set(wanted)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(whole.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    # Other inputs are read only for their shapes, if at all.
    inputs = [value for value in whole.graph.input if value.name == name]
    part = onnx.helper.make_graph(
        nodes,
        "input",
        inputs,
        [onnx.ValueInfoProto(name=tensor) for tensor in wanted],
        [tensor for tensor in whole.graph.initializer if tensor.name in needed],
    )
    model = onnx.helper.make_model(
        part, opset_imports=whole.opset_import, ir_version=whole.ir_version
    )
    session = Session(model, graph, RunOptions(threads=1, optimization="ORT_DISABLE_ALL"))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(inputs[0].type.tensor_type.elem_type)
    zeros, ones = (
        session.run(wanted, {name: np.full(shape, value, dtype)}) for value in (0.0, 1.0)
    )
    maps = {}
    for tensor, low, high in zip(wanted, zeros, ones, strict=True):
        summand = np.asarray(low, np.float64)
        factor = np.asarray(high, np.float64) - summand
        maps[tensor] = factor, summand
    return maps


def _from_map(factor: NDArray[np.float64], summand: NDArray[np.float64]) -> InputRange | None:
    """Infer the input of an affine map from the value that it maps to 0, and from its divisor."""
    used = factor != 0
    if not used.any():
        return None
    divisor, centre = 1 / np.abs(factor[used]), -summand[used] / factor[used]
    if np.allclose(divisor, 1, rtol=1e-4) and np.allclose(centre, 0, atol=1e-4):
        return None
    text = f"itself {_map_text(divisor, centre)} first"
    width, place = float(np.median(divisor)), float(np.median(centre))
    if width >= _LEAST_DIVISOR or place >= _LEAST_CENTRE:
        return InputRange("pixels", text)
    shifted = place > 1e-4
    if width <= _UNIT and 0 <= place <= _UNIT and (shifted or width <= 1 / _LEAST_DIVISOR):
        return InputRange("unit", text)
    return InputRange(None, text)


def _map_text(divisor: NDArray[np.float64], centre: NDArray[np.float64]) -> str:
    """Write a map as a calculation."""
    steps = []
    if np.abs(centre).max() > 1e-4:
        steps.append(f"subtracts {_range_text(centre)}")
    if not np.allclose(divisor, 1, rtol=1e-4):
        if divisor.max() < 1:
            steps.append(f"multiplies by {_range_text(1 / divisor)}")
        else:
            steps.append(f"divides by {_range_text(divisor)}")
    return " and ".join(steps)


def _range_text(values: NDArray[np.float64]) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _from_witness(
    constants: Constants,
    node: onnx.NodeProto,
    factor: NDArray[np.float64],
    summand: NDArray[np.float64],
) -> InputRange | None:
    """Infer the input of an affine map from a reader of its result."""
    used = factor != 0
    if not used.any():
        return None
    scale, offset = float(np.median(factor[used])), float(np.median(summand[used]))
    return _WITNESS[node.op_type](constants, node, scale, offset)


def _from_batch_norm(
    constants: Constants, node: onnx.NodeProto, scale: float, offset: float
) -> InputRange | None:
    """Read mean and deviation of the training data from a BatchNormalization of the input."""
    if len(node.input) < 5 or not all(constants.has(name) for name in node.input[3:5]):
        return None
    mean = (np.asarray(constants.value(node.input[3]), np.float64) - offset) / scale
    deviation = np.sqrt(np.asarray(constants.value(node.input[4]), np.float64)) / abs(scale)
    text = (
        f"itself normalises it first, for a mean of {_range_text(mean)} and a deviation of "
        f"{_range_text(deviation)}"
    )
    if mean.max() >= _LEAST_CENTRE or deviation.max() >= _LEAST_DEVIATION:
        return InputRange("pixels", text)
    # Standardised values have a deviation near 1; those from 0 to 1 one of at most ½.
    inside = mean.min() >= 0 and mean.max() <= _UNIT and 0 < deviation.max() <= 0.51
    return InputRange("unit" if inside else None, text)


def _from_bounds(bounds: tuple[float, float], scale: float, offset: float) -> ExpectedValues | None:
    """Infer which values fill a range."""
    low, high = sorted((bound - offset) / scale for bound in bounds)
    if low > -0.5 * high and 100 <= high <= 300:
        return "pixels"
    return "unit" if low > -0.1 and 0.9 <= high <= 1.1 else None


def _from_clip(
    constants: Constants, node: onnx.NodeProto, scale: float, offset: float
) -> InputRange | None:
    settings = attributes(node)
    bounds = [settings.get("min"), settings.get("max")]
    for number in (1, 2):
        if number < len(node.input) and node.input[number] and constants.has(node.input[number]):
            bounds[number - 1] = _number(constants.value(node.input[number]))
    if None in bounds:
        return None
    low, high = (float(bound or 0) for bound in bounds)
    expected = _from_bounds((low, high), scale, offset)
    return expected and InputRange(expected, f"itself clips it to {low:g} … {high:g} first")


def _from_quantization(
    constants: Constants, node: onnx.NodeProto, scale: float, offset: float
) -> InputRange | None:
    reads = [name for name in node.input[1:] if name]
    if not reads or not all(map(constants.has, reads)):
        return None
    step = np.asarray(constants.value(reads[0]))
    zero = np.asarray(constants.value(reads[1])) if len(reads) > 1 else np.zeros((), np.uint8)
    if step.size != 1 or zero.dtype not in (np.uint8, np.int8, np.uint16, np.int16):
        return None
    limits = np.iinfo(zero.dtype)
    low, high = ((code - _number(zero)) * _number(step) for code in (limits.min, limits.max))
    expected = _from_bounds((low, high), scale, offset)
    return expected and InputRange(expected, f"itself quantises it to {low:.4g} … {high:.4g} first")


def _from_cast(
    constants: Constants, node: onnx.NodeProto, scale: float, offset: float
) -> InputRange | None:
    """Infer which values a cast to whole numbers does not erase."""
    if _to_float(constants, node) or attributes(node)["to"] == onnx.TensorProto.BOOL:
        return None
    expected: ExpectedValues = "unit" if abs(scale) >= _LEAST_DIVISOR else "pixels"
    return InputRange(expected, "itself casts it to whole numbers first")


def _number(value: NDArray[Any]) -> float:
    return float(np.asarray(value, np.float64).reshape(-1)[0])


_WITNESS = {
    "BatchNormalization": _from_batch_norm,
    "Cast": _from_cast,
    "Clip": _from_clip,
    "QuantizeLinear": _from_quantization,
}
