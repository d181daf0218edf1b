"""What a dump makes a model return: tensors, and nodes that measure those it does not fetch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from cnatool.backend.graph.outputs import element_type, make_readable, needs_cast
from cnatool.backend.session import CPU
from cnatool.backend.statistics.channel_sums import ChannelSums, find_rearranged
from cnatool.backend.statistics.graph_nodes import append_statistics
from cnatool.backend.statistics.inner_statistics import InnerMeasure, measure_inner
from cnatool.backend.statistics.real_positions import declare_real_positions
from cnatool.backend.statistics.reduced_nodes import append_reduced
from cnatool.backend.statistics.reductions import MeasuredTensor
from cnatool.backend.statistics.token_nodes import TOKEN_OUTPUTS, TokenMeasure

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.session import RunOptions
    from cnatool.backend.statistics.graph_nodes import Measures
    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.records.choices import Statistic
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord, TokensRecord


@dataclass(frozen=True, slots=True)
class DividedTensors:
    """The tensors of a dump, divided by where they are measured."""

    every: list[TensorRecord]
    # The model's outputs, and the tensors that are stored whole.
    outputs: list[TensorRecord]
    whole: list[TensorRecord]
    # Both, and what is measured outside the graph for another reason.
    fetched: list[TensorRecord]
    # Measured inside the graph; and those of them whose elements in a batch the graph counts.
    inside: list[TensorRecord]
    counted: list[TensorRecord]


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a model returns, in the order in which it is fetched."""

    # The outputs to fetch: those of ``measures``, the tensors in ``read``, scores of tokens.
    names: list[str]
    measures: Measures
    read: list[str]
    token_measure: TokenMeasure | None
    # The results of the nodes that were appended to the model.
    appended: list[str]
    # Whether an input says which positions are real.
    takes_real: bool
    # Whether sums of tensors are computed from the model's input.
    sums_input: bool


def divide_tensors(
    graph: Graph, tensors: Sequence[TensorRecord], outputs: Sequence[TensorRecord]
) -> DividedTensors:
    """Divide tensors by where they are measured; ``outputs`` are the model's, returned whole."""
    whole = [tensor for tensor in tensors if tensor.stored is not None]
    names = {tensor.name for tensor in (*outputs, *whole)}
    # Rows such as detections, which are divided among samples outside.
    detected = [tensor for tensor in tensors if tensor.index]
    # Within a graph the runtime may leave out the rounding to float16.
    rounded = [t for t in tensors if t.dtype == "float16" and not is_open(t)]
    # Axes that are merged with that of samples, and not equally long in all runs, are told apart
    # outside, unless the graph can do so by the number of samples alone.
    unmerged = [
        tensor
        for tensor in tensors
        if is_open(tensor) and tensor.merged and (tensor.merged, tensor.batch_axis) != ("NT", 0)
    ]
    outside = [*detected, *rounded, *unmerged]
    fetched = [*outputs, *whole, *(tensor for tensor in outside if tensor.name not in names)]
    names.update(tensor.name for tensor in outside)
    # What is fetched whole is measured outside, where it costs less than in the graph.
    inside = [tensor for tensor in tensors if tensor.name not in names]
    # Bodies return the number of elements by sample; of others that of the batch tells.
    counted = [t for t in inside if is_open(t) and t.name not in graph.inner]
    return DividedTensors(list(tensors), list(outputs), whole, fetched, inside, counted)


def expose(
    graph: Graph,
    tensors: DividedTensors,
    probed: Sequence[TensorRecord],
    fed: str,
    run: RunOptions,
    statistics: Sequence[Statistic],
    exact: Collection[str],
    mask: MaskRecord | None,
    tokens: TokensRecord | None,
    reduced: Sequence[ReducedTensor],
) -> tuple[onnx.ModelProto, Exposure]:
    """Make a model return what a dump needs; parameters as of `ExposedModel`."""
    types = {tensor.name: tensor.onnx_type or "" for tensor in (*tensors.outputs, *probed)}
    computed = [each.tensor.name for each in reduced]
    fetched = [tensor.name for tensor in tensors.fetched if tensor.name not in computed]
    indices = [tensor.index.tensor for tensor in tensors.fetched if tensor.index]
    read = dict.fromkeys([*fetched, *indices])
    cast_inside = [
        tensor.name
        for tensor in tensors.inside
        if needs_cast(types[tensor.name]) and tensor.name not in graph.inner
    ]
    readable = make_readable(graph.model, [*read, *cast_inside], types, graph.inner)
    model, cast = readable.model, readable.casts
    # Elsewhere than on the CPU all sums are exact: a GPU may compute in less than float32.
    shapes = _fixed_shapes(graph, probed, fed) if run.provider == CPU else {}
    measured = _describe_measured(graph, tensors.inside, shapes, cast, run, exact, reduced)
    # Padding is left out of these inside the graph.
    takes_real = any(isinstance(m, MeasuredTensor) and m.positions for m in measured) or any(
        each.masks for each in reduced
    )
    if takes_real and mask is not None:
        declare_real_positions(model.graph, mask.length)
    counted = [cast.get(tensor.name, tensor.name) for tensor in tensors.counted]
    measures = append_statistics(model, measured, statistics, shapes, graph.opset, fed, counted)
    append_reduced(model, reduced, types, graph.opset, fed)
    names = [*measures.widths, *([] if measures.counted is None else [measures.counted])]
    names += [cast.get(name, name) for name in read]
    names += [each.output for each in reduced]
    token_measure = None
    if tokens is not None:
        kind = element_type(types[tokens.output])
        merged = any(tensor.name == tokens.output and tensor.merged for tensor in probed)
        token_measure = TokenMeasure(model, tokens, kind, graph.opset, mask, merged=merged)
        names += TOKEN_OUTPUTS
    behind = model.graph.node[len(graph.model.graph.node) :]
    return model, Exposure(
        names=names,
        measures=measures,
        read=[*read, *computed],
        token_measure=token_measure,
        appended=[name for node in behind for name in node.output],
        takes_real=takes_real,
        sums_input=any(
            isinstance(each, MeasuredTensor) and each.sum and each.sum.elements for each in measured
        ),
    )


def is_open(tensor: TensorRecord) -> bool:
    """Whether the shape of a tensor in a run depends on the data; with padding it does not."""
    return tensor.varies and not tensor.positions


def _describe_measured(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    shapes: Mapping[str, tuple[int, ...]],
    cast: Mapping[str, str],
    run: RunOptions,
    exact: Collection[str],
    reduced: Sequence[ReducedTensor],
) -> list[MeasuredTensor | InnerMeasure]:
    """Describe what is measured in the graph; ``shapes`` are those that sums in parts suit."""
    channel_sums = ChannelSums(graph, shapes)
    # Their planes are averaged anyway: the sum of the same averages costs nothing.
    averaged = {each.source.name for each in reduced if each.reduction.positions == "mean"}
    measured: list[MeasuredTensor | InnerMeasure] = []
    for tensor in tensors:
        if tensor.name in graph.inner:
            is_exact = run.provider != CPU or tensor.name in exact
            measured.append(measure_inner(tensor, graph.inner[tensor.name], exact=is_exact))
            continue
        in_parts = tensor.name in shapes and tensor.name not in exact
        # Padding has a place in the tensor itself.
        anywhere = in_parts and not tensor.positions
        name = find_rearranged(graph, tensor.name, shapes) if anywhere else tensor.name
        shape = shapes.get(name, tensor.shape)
        planes = anywhere and len(shape) == 3
        measured.append(
            MeasuredTensor(
                name=cast.get(name, name),
                shape=shape,
                batch_axis=tensor.batch_axis,
                merged=tensor.merged,
                exact=not in_parts,
                is_open=is_open(tensor),
                sum=channel_sums.find(name) if planes and name not in averaged else None,
                positions=tensor.positions or (),
            )
        )
    return measured


def _fixed_shapes(
    graph: Graph, probed: Sequence[TensorRecord], fed: str
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the float32 tensors that sums in parts suit: fixed, samples first."""
    declared = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
        for value in graph.model.graph.input
        if value.name == fed and value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return {name: shape for name, shape in declared.items() if all(shape)} | {
        tensor.name: tensor.shape
        for tensor in probed
        if tensor.dtype == "float32"
        and tensor.onnx_type in (None, "float")
        and tensor.batch_axis == 0
        and tensor.merged is None
        and not tensor.varies
        and tensor.name not in graph.data_shaped
        and tensor.name not in graph.inner
        and math.prod(tensor.shape) > 0
    }
