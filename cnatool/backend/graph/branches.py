"""The branches of an ONNX graph, as operations for the rule of shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.graph.linear_operators import clips_at_zero
from cnatool.backend.graph.preactivation_walk import QUANTIZATION, SHAPE_CHANGES, passes
from cnatool.layers.bypasses import (
    LINEAR_STEPS,
    RECURRENT,
    RESIDUAL_SUMS,
    SELECTIONS,
    Operation,
    find_shortcuts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator

# Suffixes of a tensor's name: what an operator computes before a fused addition, or activation.
_BEFORE_SUM = "\0before the sum"
_BEFORE_ACTIVATION = "\0before the activation"


def find_shortcut_layers(
    graph: Graph,
    reads: Sequence[tuple[onnx.NodeProto, Sequence[str]]],
    linear: Mapping[str, LinearOperator],
    ends: Mapping[str, str],
) -> set[str]:
    """Find the linear operators that are projections on a residual bypass."""
    layers = find_shortcuts(list(_operations(graph, reads, linear, ends)))
    return {name.partition("\0")[0] for name in layers}


def _operations(
    graph: Graph,
    reads: Sequence[tuple[onnx.NodeProto, Sequence[str]]],
    linear: Mapping[str, LinearOperator],
    ends: Mapping[str, str],
) -> Iterator[Operation[str]]:
    walked = {end: result for result, end in ends.items() if end != result}
    for node, names in reads:
        operator = next((linear[name] for name in node.output if name in linear), None)
        dynamic = tuple(dict.fromkeys(name for name in names if name in graph.dynamic))
        if operator is not None:
            yield from _layer(graph, operator)
            continue
        for result in node.output:
            if not result or not dynamic:
                continue
            if result in walked:
                # a normalisation may be written out in several nodes
                yield Operation("linear", (walked[result],), result)
            else:
                yield _operation(graph, node, dynamic, result)


def _layer(graph: Graph, operator: LinearOperator) -> Iterator[Operation[str]]:
    """Yield a linear operator and what is fused into it as separate operations."""
    result = operator.result
    activated = result if operator.nonlinearity is None else result + _BEFORE_ACTIVATION
    if operator.summand is None or operator.summand not in graph.dynamic:
        yield Operation("layer", (operator.data,), activated)
    else:
        own = result + _BEFORE_SUM
        yield Operation("layer", (operator.data,), own)
        yield Operation("sum", (own, operator.summand), activated)
    if activated != result:
        yield Operation("other", (activated,), result)


def _operation(
    graph: Graph, node: onnx.NodeProto, dynamic: tuple[str, ...], result: str
) -> Operation[str]:
    first = node.input[0] if node.input else ""
    if node.op_type in RESIDUAL_SUMS and len(dynamic) > 1:
        return Operation("sum", dynamic, result)
    if node.op_type in RECURRENT or node.op_type == SUBGRAPH_INPUT:
        return Operation("opaque", dynamic, result)
    if node.op_type in SELECTIONS:
        return Operation("part", dynamic, result)
    if node.op_type in LINEAR_STEPS | SHAPE_CHANGES | QUANTIZATION and first in dynamic:
        clipped = node.op_type == "QuantizeLinear" and clips_at_zero(graph, node, 2)
        return Operation("other" if clipped else "linear", (first,), result)
    passed = next((name for name in dynamic if passes(graph, node, name)), None)
    return (
        Operation("other", dynamic, result)
        if passed is None
        else Operation("linear", (passed,), result)
    )
