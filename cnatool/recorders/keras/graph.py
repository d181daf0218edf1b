"""A Keras model as a graph of TensorFlow operations, any tensor of which can be fetched."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from cnatool._util.text import count_text
from cnatool.errors import DataError, UsageError
from cnatool.recorders.keras.operators import UNREAD, read_step
from cnatool.recorders.layer_rule import Step
from cnatool.recorders.trace import PROBES, Origin, Place, Trace, Value, sample_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True)
class _Call:
    """A call of a layer, and the operations that it added to the graph."""

    name: str
    number: int
    first: int
    last: int
    results: dict[str, Any]


class ModelGraph:
    """A model in inference mode, as it was traced once.

    Variables are read at each run: the graph follows a model that is trained.

    Attributes
    ----------
    trace : Trace
        Its values, and the operations between them.
    layers : dict of str to keras.Layer
        Its layers, by name.
    """

    def __init__(self, model: Any, inputs: Any) -> None:
        flat = tf.nest.flatten(inputs)
        types = [tensor.dtype for tensor in getattr(model, "inputs", None) or []]
        if len(types) != len(flat):
            types = [np.asarray(array).dtype for array in flat]
        self._types = types
        signature = [
            tf.TensorSpec((None, *np.shape(array)[1:]), dtype)
            for array, dtype in zip(flat, types, strict=True)
        ]
        self.layers: dict[str, Any] = {}
        if not getattr(model, "built", True):
            # Built while it is traced, its layers would be called twice.
            few = [tf.cast(_repeat(array, 1), to) for array, to in zip(flat, types, strict=True)]
            model(tf.nest.pack_sequence_as(inputs, few), training=False)
        with _watch_calls(model, self.layers) as calls:
            self._function = tf.compat.v1.wrap_function(
                lambda *args: model(tf.nest.pack_sequence_as(inputs, args), training=False),
                signature,
            )
        self._inputs = self._function.inputs[: len(flat)]
        self._tensors: list[Any] = []
        self._numbers: dict[str, int] = {}
        self.trace = self._build_trace(calls)
        self._find_axes(flat)

    def runner(self, values: Sequence[int]) -> Any:
        """Return a function from the model's inputs to values of the graph."""
        fetches = [self._tensors[value] for value in values]
        pruned = self._function.prune(self._inputs, fetches)

        def run(arguments: Any) -> list[Any]:
            parts = tf.nest.flatten(arguments)
            if len(parts) != len(self._types):
                raise DataError(
                    f"the model is called with {count_text(len(parts), 'array')}, and with "
                    f"{len(self._types)} in the first batch."
                )
            flat = [
                tf.cast(tf.convert_to_tensor(part), dtype)
                for part, dtype in zip(parts, self._types, strict=True)
            ]
            return list(pruned(*flat))

        return run

    def _build_trace(self, calls: Sequence[_Call]) -> Trace:
        values: list[Value] = []
        steps: list[Step] = []
        operations = self._function.graph.get_operations()
        within = _innermost_calls(calls, len(operations))
        counted: Counter[tuple[str, int, str]] = Counter()

        def new(tensor: Any, operator: str = "") -> int:
            values.append(Value((), tensor.dtype.is_floating, operator=operator))
            self._tensors.append(tensor)
            self._numbers[tensor.name] = len(values) - 1
            return len(values) - 1

        for tensor in self._inputs:
            new(tensor)
        for place, operation in enumerate(operations):
            reads = [value for value in map(self._number, operation.inputs) if value is not None]
            if not reads or operation.type in UNREAD:
                continue
            call = within[place]
            for index, tensor in enumerate(operation.outputs):
                step = read_step(operation, self._number, len(values))
                value = new(tensor, step.operator)
                key = (call.name, call.number, operation.type)
                values[value].origin = Origin(*key, counted[key])
                counted[key] += 1
                if index:
                    step = Step("other", step.operator, step.reads, value)
                steps.append(step)
                if step.kind == "norm":
                    break  # its moments, which no layer reads
        for call in calls:
            for part, tensor in call.results.items():
                number = self._number(tensor)
                if number is not None and call.name:
                    values[number].places.append(Place(call.name, call.number, part))
        structured = self._function.structured_outputs
        outputs = {
            name: number
            for name, tensor in _tensors_by_name(structured).items()
            if (number := self._number(tensor)) is not None
        }
        return Trace(steps, values, outputs)

    def _number(self, tensor: Any) -> int | None:
        return self._numbers.get(getattr(tensor, "name", ""))

    def _find_axes(self, flat: Sequence[Any]) -> None:
        """Run few samples twice, and find the axis that grows."""
        numeric = [
            number
            for number, tensor in enumerate(self._tensors)
            if tensor.dtype.is_floating or tensor.dtype.is_integer
        ]
        run = self.runner(numeric)
        small, large = (
            [tuple(tensor.shape) for tensor in run([_repeat(array, n) for array in flat])]
            for n in PROBES
        )
        for number, before, after in zip(numeric, small, large, strict=True):
            self.trace.values[number].shape = after
            self.trace.values[number].axis = sample_axis(before, after)


@contextmanager
def _watch_calls(model: Any, layers: dict[str, Any]) -> Iterator[list[_Call]]:
    """Record every call of a layer while a model is traced."""
    if not isinstance(model, keras.Model):
        raise UsageError(f"a keras.Model is needed, but this is {type(model).__name__}.")
    calls: list[_Call] = []
    names: list[str] = []
    counted: Counter[str] = Counter()
    called = keras.layers.Layer.__call__

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        # The model itself is the root, whose name no tensor needs.
        name = ".".join([*names[1:], layer.name]) if names else ""
        layers.setdefault(name, layer)
        record = _Call(name, counted[name], len(graph.get_operations()), 0, {})
        counted[name] += 1
        calls.append(record)
        names.append(layer.name)
        try:
            result = called(layer, *args, **kwargs)
        finally:
            names.pop()
        record.last = len(graph.get_operations())
        record.results = _tensors_by_name(result)
        return result

    keras.layers.Layer.__call__ = call
    try:
        yield calls
    finally:
        keras.layers.Layer.__call__ = called
    # Inner calls before those that they are in, so that the innermost name comes first.
    calls.sort(key=lambda call: (call.last, -call.first))


def _innermost_calls(calls: Sequence[_Call], count: int) -> list[_Call]:
    """Return the innermost call of each operation."""
    innermost = [_Call("", 0, 0, count, {})] * count
    for call in sorted(calls, key=lambda call: call.first - call.last):
        innermost[call.first : call.last] = [call] * (call.last - call.first)
    return innermost


def _tensors_by_name(result: Any) -> dict[str, Any]:
    """Return the tensors of a result by name; the name of a single tensor is empty."""
    if hasattr(result, "items"):
        return {str(name): part for name, part in result.items() if tf.is_tensor(part)}
    if isinstance(result, (tuple, list)):
        return {str(number): part for number, part in enumerate(result) if tf.is_tensor(part)}
    return {"": result} if tf.is_tensor(result) else {}


def _repeat(values: Any, count: int) -> Any:
    array = np.asarray(values)
    return array[np.arange(count) % len(array)]
