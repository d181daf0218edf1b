"""Every tensor of a model, recomputed node by node with ONNX's reference evaluator.

A node is evaluated on the *stored* values of the tensors that it reads, which were compared before
it: that every tensor equals its recomputed value, and the samples what was fed, means by induction
that the whole store is right. Rounding errors do not add up over the depth of a network, so that
the tolerance is that of a single operator, and a rounding or an ArgMax near a tie sees the very
number that the runtime saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cnatool.backend.graph.nodes import captured_names
from cnatool.records.skipped import RANDOM_OPERATORS
from zoo.operators import list_operators


@dataclass(frozen=True)
class Recomputed:
    """One tensor: its value, None if it cannot be computed, and the largest number read for it."""

    name: str
    operator: str
    value: Any
    magnitude: float


def recompute(
    model: onnx.ModelProto, given: Mapping[str, Any], stored: Mapping[str, Any]
) -> Iterator[Recomputed]:
    """Recompute the results of every node of the main graph, in its order.

    ``given`` are the values of inputs and initializers.
    """
    known = dict(given)
    for node in model.graph.node:
        reads = dict.fromkeys(name for name in (*node.input, *captured_names(node)) if name)
        values = None
        if node.op_type not in RANDOM_OPERATORS and all(name in known for name in reads):
            values = _evaluate(model, node, {name: known[name] for name in reads})
        magnitude = max((_magnitude(known[name]) for name in reads if name in known), default=0.0)
        for place, name in enumerate(node.output):
            if not name:
                continue
            value = None if values is None else values[place]
            yield Recomputed(name, node.op_type, value, magnitude)
            if name in stored:
                known[name] = stored[name]
            elif value is not None:
                known[name] = value


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, values: dict[str, Any]
) -> list[Any] | None:
    """Evaluate one node; None where the evaluator cannot."""
    outputs = [name for name in node.output if name]
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    try:
        if all(isinstance(value, np.ndarray) for value in values.values()):
            # Some operators are functions that need the types of what they read.
            inputs = [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
                for name, value in values.items()
            ]
            graph = helper.make_graph(
                [node], "node", inputs, [onnx.ValueInfoProto(name=name) for name in outputs]
            )
            proto: Any = helper.make_model(graph, opset_imports=model.opset_import)
        else:
            proto = helper.make_function(
                "local", "node", [*values], outputs, [node], [*model.opset_import]
            )
        # The evaluator is NumPy code: it divides by zero wherever the model does.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(proto, new_ops=list_operators(opset))
            results = dict(zip(outputs, evaluator.run(None, values), strict=True))
    except MemoryError:
        raise
    except Exception:  # anything that NumPy code can raise, or an operator that it lacks
        return None
    return [results.get(name) for name in node.output]


def _magnitude(value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return 0.0
    finite = np.abs(value[np.isfinite(value)])
    return float(finite.max(initial=0.0))
