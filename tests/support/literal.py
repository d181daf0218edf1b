"""Every tensor of a model with If, Loop and Scan, computed one operator at a time.

The independent truth for what is inside a body: plain Python follows the control flow, and ONNX's
reference evaluator computes each node by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

# The values of a tensor by the numbers of the iterations around it, the outermost first.
Values = dict[tuple[int, ...], np.ndarray]


def literal_values(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, Values]:
    """Compute every tensor of a model without local functions, by its name and place.

    A tensor in a body is named after the node, the body and itself: ``node/then_branch/tensor``,
    where a node without a name goes by its first result.
    """
    run = _Run(model)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        run.graph(model.graph, {}, [feeds[value.name] for value in _fed(model.graph)], "", ())
    return run.values


def stack(values: Values) -> np.ndarray:
    """Stack values by iteration, one axis for each loop around them."""
    loops = len(next(iter(values)))
    array = np.stack(list(values.values()))
    lengths = np.max(list(values), axis=0) + 1 if loops else np.zeros(0, int)
    return array.reshape((*lengths.astype(int), *array.shape[1:]))


def _fed(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


class _Run:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.evaluators: dict[bytes, ReferenceEvaluator] = {}
        self.values: dict[str, Values] = {}

    def graph(
        self,
        graph: onnx.GraphProto,
        around: Mapping[str, Any],
        inputs: Sequence[Any],
        place: str,
        iteration: tuple[int, ...],
    ) -> list[Any]:
        """Run a graph, and return its outputs."""
        scope = dict(around)
        scope.update((t.name, numpy_helper.to_array(t)) for t in graph.initializer)

        def write(name: str, value: Any) -> None:
            scope[name] = value
            self.values.setdefault(place + name, {})[iteration] = value

        for declared, value in zip(_fed(graph), inputs, strict=True):
            write(declared.name, value)
        for node in graph.node:
            inside = f"{place}{node.name or node.output[0]}/"
            results = self.node(node, scope, inside, iteration)
            for name, value in zip(node.output, results, strict=False):
                if name:
                    write(name, value)
        return [scope[output.name] for output in graph.output]

    def node(
        self, node: onnx.NodeProto, scope: dict[str, Any], inside: str, iteration: tuple[int, ...]
    ) -> list[Any]:
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = [scope[name] if name else None for name in node.input]
        if node.op_type == "If":
            branch = "then_branch" if inputs[0].all() else "else_branch"
            return self.graph(settings[branch], scope, [], f"{inside}{branch}/", iteration)
        if node.op_type == "Loop":
            return self.loop(settings["body"], scope, inputs, f"{inside}body/", iteration)
        if node.op_type == "Scan":
            return self.scan(settings, scope, inputs, f"{inside}body/", iteration)
        key = node.SerializeToString()
        if key not in self.evaluators:
            self.evaluators[key] = self.evaluator(node)
        fed = {name: scope[name] for name in node.input if name}
        return list(self.evaluators[key].run(None, fed))

    def evaluator(self, node: onnx.NodeProto) -> ReferenceEvaluator:
        untyped = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        fed = [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name]
        graph = onnx.helper.make_graph([node], "one", fed, untyped)
        opsets = [onnx.helper.make_opsetid(*opset) for opset in self.opsets.items()]
        return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))

    def loop(
        self,
        body: onnx.GraphProto,
        scope: dict[str, Any],
        inputs: list[Any],
        place: str,
        iteration: tuple[int, ...],
    ) -> list[Any]:
        trips, condition, *states = inputs
        condition = True if condition is None else bool(condition.all())
        stacked: list[list[Any]] = [[] for _ in body.output[1 + len(states) :]]
        number = 0
        while condition and (trips is None or number < int(trips.reshape(-1)[0])):
            fed = [np.int64(number), np.bool_(condition), *states]
            after, *results = self.graph(
                body, scope, list(map(np.asarray, fed)), place, (*iteration, number)
            )
            condition = bool(np.asarray(after).all())
            states = results[: len(states)]
            for values, result in zip(stacked, results[len(states) :], strict=True):
                values.append(result)
            number += 1
        return [*states, *(np.stack(values) if values else None for values in stacked)]

    def scan(
        self,
        settings: dict[str, Any],
        scope: dict[str, Any],
        inputs: list[Any],
        place: str,
        iteration: tuple[int, ...],
    ) -> list[Any]:
        body, count = settings["body"], settings["num_scan_inputs"]
        states, sequences = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
        axes = settings.get("scan_input_axes", [0] * count)
        backwards = settings.get("scan_input_directions", [0] * count)
        slices = [
            list(np.moveaxis(sequence, axis, 0))[:: -1 if back else 1]
            for sequence, axis, back in zip(sequences, axes, backwards, strict=True)
        ]
        results = len(body.output) - len(states)
        stacked: list[list[Any]] = [[] for _ in range(results)]
        for number in range(len(slices[0])):
            fed = [*states, *(sequence[number] for sequence in slices)]
            after = self.graph(body, scope, fed, place, (*iteration, number))
            states = after[: len(states)]
            for values, result in zip(stacked, after[len(states) :], strict=True):
                values.append(result)
        axes = settings.get("scan_output_axes", [0] * results)
        backwards = settings.get("scan_output_directions", [0] * results)
        return [
            *states,
            *(
                np.stack(values[:: -1 if back else 1], axis)
                for values, axis, back in zip(stacked, axes, backwards, strict=True)
            ),
        ]
