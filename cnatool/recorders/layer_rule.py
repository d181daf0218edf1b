"""Which values of a network that was watched are its layers, whatever framework ran it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cnatool.layers.bypasses import (
    LINEAR_STEPS,
    RECURRENT,
    RESIDUAL_SUMS,
    SELECTIONS,
    Operation,
    find_shortcuts,
)
from cnatool.layers.output_paths import MEAN_POOLING, RECTIFIERS, OutputPath

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# linear: something times constant weights; bias and scale: by a constant; norm: a normalisation;
# shape: the same numbers arranged anew; sum: of several values that depend on the input; pool:
# a pooling; squash: what makes probabilities or classes of scores.
Kind = Literal["linear", "bias", "scale", "norm", "shape", "sum", "pool", "squash", "other"]

# What a normalisation over a sample's own mean and deviation is written in.
_MEANS = frozenset({"ReduceMean", "ReduceVar", "ReduceStd"})
_ROOTS = frozenset({"ReduceStd", "Rsqrt", "Sqrt"})
_QUOTIENTS = frozenset({"Div", "Reciprocal", "Rsqrt"})
_MOMENTS = (
    _MEANS
    | _ROOTS
    | _QUOTIENTS
    | {"Add", "Cast", "Expand", "Identity", "Mul", "Neg", "Pow", "Reshape", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze"}
)
# More than the longest such spelling has.
_MOST_MOMENT_STEPS = 24


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on values that depend on the network's input.

    Attributes
    ----------
    kind : Kind
        What it does.
    operator : str
        As ONNX calls it.
    reads : tuple of int
        The values that it reads and that depend on the input, one entry a use.
    makes : int
        The value that it gives.
    one_number : bool
        Of a bias or a scale: it is the same for all elements.
    biased : bool
        Of a linear operator: it adds a bias by itself.
    pointwise : bool
        Of a linear operator: it is a 1×1 convolution.
    """

    kind: Kind
    operator: str
    reads: tuple[int, ...]
    makes: int
    one_number: bool = False
    biased: bool = False
    pointwise: bool = False


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """A linear operator, and the values that stand for it.

    Attributes
    ----------
    operator : str
        As ONNX calls it.
    linear, preactivation : tuple of int
        Values that hold, in one shape or another, the operator's result with its bias, and what
        enters the nonlinearity; in execution order.
    output, shortcut : bool
        Its result is the network's output; it is a projection on a residual bypass.
    path : int
        Linear operators on the longest path from the input up to this one.
    """

    operator: str
    linear: tuple[int, ...]
    preactivation: tuple[int, ...]
    output: bool
    shortcut: bool
    path: int


def find_layers(steps: Sequence[Step], outputs: Iterable[int]) -> list[FoundLayer]:
    """Find the linear operators and walk from each to what enters its nonlinearity.

    From an operator's result the walk goes forward while one step alone reads it and that adds a
    constant, scales by one, normalises, or changes the shape.
    """
    network = _Network(steps, frozenset(outputs))
    depth = network.path_lengths(network.sources)
    leads_on = network.ancestors(step.reads[0] for step in network.linear)
    layers = []
    walks = {step.makes: network.walk(step) for step in network.linear}
    bypassing = network.shortcuts({made: walk[1][-1] for made, walk in walks.items()})
    for step in network.linear:
        linear, preactivation = walks[step.makes]
        layers.append(
            FoundLayer(
                operator=step.operator,
                linear=linear,
                preactivation=preactivation,
                output=step.makes not in leads_on and network.ends(step),
                shortcut=step.makes in bypassing,
                path=depth[step.makes],
            )
        )
    return layers


@dataclass(slots=True)
class _Network:
    steps: Sequence[Step]
    outputs: frozenset[int]
    linear: list[Step] = field(init=False)
    readers: dict[int, list[Step]] = field(init=False)
    producer: dict[int, Step] = field(init=False)

    def __post_init__(self) -> None:
        self.linear = [step for step in self.steps if step.kind == "linear"]
        self.producer = {step.makes: step for step in self.steps}
        self.readers = {}
        for step in self.steps:
            for value in step.reads:
                self.readers.setdefault(value, []).append(step)

    @property
    def sources(self) -> set[int]:
        return self.readers.keys() - self.producer.keys()

    def walk(self, operator: Step) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the values that hold the operator's result, and those that enter what follows."""
        linear = [operator.makes]
        group = linear  # values that differ in their shape alone
        biased = operator.biased
        reshaped = False
        while readers := self.readers.get(group[-1], []):
            step = readers[0]
            if len(readers) > 1:
                normalized = self._normalized(group[-1])
                if normalized is None:
                    break
                group = [normalized]
            elif step.kind == "shape":
                reshaped = reshaped or step.operator == "Reshape"
                group.append(step.makes)
            elif step.kind == "bias" and not step.one_number:
                if group is linear and not biased:
                    linear = group = [step.makes]
                else:
                    group = [step.makes]
                biased = True
            elif step.kind == "scale":
                if step.one_number and reshaped and group is linear:
                    # the temperature of an attention, whose heads have been split off
                    break
                group = [step.makes]
            elif step.kind == "norm":
                group = [step.makes]
            else:
                break
        return tuple(linear), tuple(group)

    def _normalized(self, value: int) -> int | None:
        """Return what a normalisation written out in several steps makes of a value, if it is one.

        Those steps read nothing else that depends on the input, take a mean and a root, divide,
        and meet again in one value.
        """
        inside = {value}
        operators: set[str] = set()
        passed: set[int] = set()
        while len(passed) < _MOST_MOMENT_STEPS:
            waiting = [s for v in sorted(inside) for s in self.readers.get(v, [])]
            waiting = [step for step in waiting if step.makes not in passed]
            still_read = {v for step in waiting for v in step.reads if v in inside}
            still_read |= (inside & self.outputs) - {value}
            told = operators & _MEANS and operators & _ROOTS and operators & _QUOTIENTS
            if len(still_read) == 1 and value not in still_read and told:
                return still_read.pop()
            ready = next(
                (s for s in waiting if s.operator in _MOMENTS and inside.issuperset(s.reads)), None
            )
            if ready is None:
                return None
            passed.add(ready.makes)
            inside.add(ready.makes)
            operators.add(ready.operator)
        return None

    def path_lengths(self, start: Iterable[int]) -> dict[int, int]:
        """Count linear operators on the longest path from ``start`` to each value behind it."""
        lengths = dict.fromkeys(start, 0)
        for step in self.steps:
            before = [lengths[value] for value in step.reads if value in lengths]
            if before:
                lengths[step.makes] = max(before) + (step.kind == "linear")
        return lengths

    def ancestors(self, values: Iterable[int]) -> set[int]:
        """Return ``values`` and every value on which they depend."""
        found = set(values)
        for step in reversed(self.steps):
            if step.makes in found:
                found.update(step.reads)
        return found

    def ends(self, operator: Step) -> bool:
        """Whether a layer's result reaches an output without taking on another meaning."""
        reached = {operator.makes: OutputPath()}
        for step in self.steps:
            value = next((value for value in step.reads if value in reached), None)
            path = None if value is None else _behind(step, reached[value])
            if path is not None:
                reached[step.makes] = path
        return any(
            reached[value].leads_on(pointwise=operator.pointwise)
            for value in self.outputs
            if value in reached
        )

    def shortcuts(self, ends: Mapping[int, int]) -> set[int]:
        """Return the results of the linear operators that are projections on a residual bypass.

        By an operator's result, ``ends`` has the value at which the walk from it stops.
        """
        walked = {end: result for result, end in ends.items() if end != result}
        return find_shortcuts([_operation(step, walked) for step in self.steps])


def _behind(step: Step, path: OutputPath) -> OutputPath | None:
    """Return the path behind a step that reads a value on it; None where the path ends."""
    if step.kind == "squash":
        return path.through_function()
    if step.operator in MEAN_POOLING:
        return path.through_mean()
    if step.operator in RECTIFIERS:
        return path.through_rectifier()
    return path if step.kind in ("shape", "bias", "scale", "norm") else None


def _operation(step: Step, walked: Mapping[int, int]) -> Operation[int]:
    if step.makes in walked:
        # a normalisation may be written out in several steps
        return Operation("linear", (walked[step.makes],), step.makes)
    reads = tuple(dict.fromkeys(step.reads))
    if step.kind == "linear":
        return Operation("layer", step.reads[:1], step.makes)
    if step.operator in RESIDUAL_SUMS and len(reads) > 1:
        return Operation("sum", reads, step.makes)
    if step.operator in SELECTIONS:
        return Operation("part", reads, step.makes)
    if step.operator in RECURRENT:
        return Operation("opaque", reads, step.makes)
    linear = step.kind in ("bias", "scale", "norm", "shape", "pool")
    if (linear or step.operator in LINEAR_STEPS) and reads:
        return Operation("linear", reads[:1], step.makes)
    return Operation("other", reads, step.makes)
