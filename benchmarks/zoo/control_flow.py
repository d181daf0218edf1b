"""Loop and Scan for ONNX's reference evaluator, as the standard defines them.

The evaluator's own, as of onnx 1.23, run a Loop without a condition not at all, join what
iterations return along an axis that they have already, and refuse a Scan from the end or along
other axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class _Repeated(OpRun):
    """An operator that runs its body several times; the body may read all tensors around it."""

    def need_context(self) -> bool:
        """Whether the body reads from outside: any may."""
        return True

    def _iterate(self, context: Mapping[str, Any], values: Sequence[Any], **options: Any) -> Any:
        feeds = dict(context) | dict(zip(self.body.input_names, values, strict=True))
        return self._run_body(feeds, **options)


class Loop(_Repeated):
    """Runs its body until a condition fails or the iterations are done."""

    def _run(
        self, trips: Any, going: Any = None, *states: Any, context: Any, body: Any, **options: Any
    ) -> Any:
        kept: list[list[Any]] = []
        going, count = True if going is None else going, 0
        while going and (trips is None or count < trips):
            values = [np.array(count, np.int64), np.array(True), *states]
            going, *results = self._iterate(context, values, **options)
            states, kept = tuple(results[: len(states)]), [*kept, results[len(states) :]]
            count += 1
        return (*states, *_stack(kept, len(self.body.output_names) - 1 - len(states)))


class Scan(_Repeated):
    """Runs its body on each slice of its inputs, of version 9 and later."""

    def _run(
        self, *values: Any, context: Any, body: Any, num_scan_inputs: int, **options: Any
    ) -> Any:
        ways = {name: options.pop(name, None) for name in [*options] if name.startswith("scan_")}
        first = len(values) - num_scan_inputs
        states, taken = values[:first], list(values[first:])
        for place, axis in enumerate(ways["scan_input_axes"] or [0] * len(taken)):
            taken[place] = np.moveaxis(taken[place], axis, 0)
        for place, backward in enumerate(ways["scan_input_directions"] or [0] * len(taken)):
            taken[place] = taken[place][::-1] if backward else taken[place]
        kept: list[list[Any]] = []
        for slices in zip(*taken, strict=True):
            results = self._iterate(context, [*states, *map(np.asarray, slices)], **options)
            states, kept = tuple(results[:first]), [*kept, results[first:]]
        stacked = _stack(kept, len(self.body.output_names) - first)
        for place, backward in enumerate(ways["scan_output_directions"] or [0] * len(stacked)):
            stacked[place] = stacked[place][::-1] if backward else stacked[place]
        for place, axis in enumerate(ways["scan_output_axes"] or [0] * len(stacked)):
            stacked[place] = np.moveaxis(stacked[place], 0, axis)
        return (*states, *stacked)


def _stack(kept: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """Stack what iterations return; without any, nothing is known of its shape."""
    if kept:
        return [np.stack(values) for values in zip(*kept, strict=True)]
    return [np.empty(0) for _ in range(count)]
