"""Statistics of tensors inside If, Loop and Scan, taken where the tensors are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from onnx import TensorProto

from cnatool.backend.graph.body_rows import Row, SampledLoop, Samples, gather_rows
from cnatool.backend.graph.outputs import needs_cast
from cnatool.backend.statistics.reductions import MeasuredTensor, ReductionNodes, measure_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from cnatool.backend.graph.control_flow import Body, InnerTensor
    from cnatool.backend.probe.probed_tensor import ProbedTensor
    from cnatool.records.choices import Statistic
    from cnatool.records.store import TensorRecord

# How the statistics of iterations become one, by the operator that all others are added with.
_ADD: Final = "Add"
_EXTREMES: Final[Mapping[Statistic, str]] = {"min": "Min", "max": "Max"}


@dataclass(frozen=True, slots=True)
class InnerMeasure:
    """A tensor whose statistics are computed in its body."""

    tensor: MeasuredTensor  # as it is in one iteration
    bodies: tuple[Body, ...]
    samples: SampledLoop | None  # None for samples along an axis of the tensor
    is_cast: bool  # NumPy has no arrays of its type.
    is_counted: bool  # the number of its elements is wanted


def measure_inner(
    tensor: TensorRecord | ProbedTensor, inner: InnerTensor, *, exact: bool
) -> InnerMeasure:
    """Describe how a tensor is measured in its body, from its record, with axes of iterations."""
    samples, merged = None, tensor.merged
    loops, axis = inner.loops, tensor.batch_axis
    if axis is not None and axis < loops:
        levels = [level for level, body in enumerate(inner.bodies) if body.repeats]
        samples = SampledLoop(levels[axis], merged, tensor.shape[axis] if merged else 1)
        loops -= merged is None
        axis = merged = None
    elif axis is not None:
        axis -= loops
    kind = tensor.onnx_type or ""
    in_parts = tensor.dtype == "float32" and kind in ("", "float") and not tensor.varies
    return InnerMeasure(
        MeasuredTensor(
            name=inner.own,
            shape=tensor.shape[loops:],
            batch_axis=axis,
            merged=merged,
            exact=exact or not in_parts,
        ),
        inner.bodies,
        samples,
        is_cast=needs_cast(kind),
        # A branch that a batch does not take leaves zeros, which a count tells from sums.
        is_counted=tensor.varies or any(body.operator == "If" for body in inner.bodies),
    )


def append_inner_statistics(
    nodes: ReductionNodes,
    graph: onnx.GraphProto,
    tensors: Mapping[int, InnerMeasure],
    statistics: Sequence[Statistic],
    stride: int,
    fed: str,
) -> list[Row]:
    """Make the bodies of a graph return statistics of their tensors, as rows of the graph.

    Column ``s * stride + t`` is statistic s of tensor t, and with s = ``len(statistics)`` the
    number of its elements, where that is wanted. Appended to the graph itself are ``nodes``.
    ``fed`` is an input with samples first.
    """
    samples = Samples(nodes, fed)
    rows = []
    for operator in (_ADD, *_EXTREMES.values()):
        chosen = {
            place * stride: statistic
            for place, statistic in enumerate(statistics)
            if _EXTREMES.get(statistic, _ADD) == operator
        }
        counted = len(statistics) * stride if operator == _ADD else None
        for along in dict.fromkeys(tensor.samples for tensor in tensors.values()):
            items = [
                (tensor.bodies, (number, tensor))
                for number, tensor in tensors.items()
                if tensor.samples == along
            ]
            measure = partial(_measure, samples, chosen, counted)
            rows += gather_rows(
                nodes, graph, items, measure, partial(_keep, operator), along, samples
            )
    return rows


def _keep(operator: str, _: int) -> str:
    return operator


def _measure(
    samples: Samples,
    statistics: Mapping[int, Statistic],
    counted: int | None,
    item: tuple[int, InnerMeasure],
    nodes: ReductionNodes,
    is_one: bool,
) -> Iterator[Row]:
    """Yield the statistics of a tensor; column numbers begin with those of the first tensor."""
    number, inner = item
    tensor = inner.tensor
    if inner.is_cast and (statistics or counted is not None):
        tensor = replace(tensor, name=nodes.add("Cast", [tensor.name], to=TensorProto.FLOAT))
    for first, statistic in statistics.items():
        yield Row(measure_tensor(nodes, tensor, statistic), [first + number])
    if counted is not None and inner.is_counted:
        size = nodes.add("Size", [tensor.name])
        if not is_one:
            size = nodes.add("Div", [size, samples.count()])
        size = nodes.add("Cast", [size], to=TensorProto.DOUBLE)
        row = nodes.add("Add", [samples.empty_row(_ADD, 1, one=is_one), size])
        yield Row(row, [counted + number])
