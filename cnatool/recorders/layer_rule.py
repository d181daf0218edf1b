"""Detection of layers in the trace of a network, for every framework."""

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

# linear: a product with constant weights; bias and scale: by a constant; norm: a normalisation;
# shape: a rearrangement; sum: of several values that depend on the input; pool: a pooling; squash:
# turns scores into probabilities or classes.
Kind = Literal["linear", "bias", "scale", "norm", "shape", "sum", "pool", "squash", "other"]

# Operators of a normalisation by a sample's own mean and deviation.
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
# Products of two values, as frameworks name them.
_PRODUCTS = frozenset(
    {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "bmm", "matmul"}
)
# More than the longest such sequence has.
_MOST_MOMENT_STEPS = 24


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on values that depend on the network's input."""

    kind: Kind
    operator: str  # ONNX name
    reads: tuple[int, ...]  # values that depend on the input, one entry per use
    makes: int
    one_number: bool = False  # a bias or scale that is the same for all elements
    biased: bool = False  # a linear operator that includes a bias
    pointwise: bool = False  # a 1×1 convolution


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """A linear operator and its values, in execution order, which differ in shape only."""

    operator: str  # ONNX name
    linear: tuple[int, ...]  # the operator's result with its bias
    preactivation: tuple[int, ...]  # the input of the nonlinearity
    output: bool  # its result is the network's output
    shortcut: bool  # a projection on a residual bypass
    path: int  # linear operators on the longest path from the input up to this one


def find_layers(steps: Sequence[Step], outputs: Iterable[int]) -> list[FoundLayer]:
    """Find the linear operators, and walk from each to the input of its nonlinearity.

    The walk continues from the operator's result while a single step reads it that adds a constant,
    scales by one, normalises, or changes the shape.
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
        """Return the values of the operator's result, and those of the nonlinearity's input."""
        linear = [operator.makes]
        group = linear  # values that differ in shape only
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
                cut = step.one_number and reshaped
                if cut and (group is linear or self._enters_product(step.makes)):
                    # the temperature of an attention, whose heads have been split off
                    break
                group = [step.makes]
            elif step.kind == "norm":
                group = [step.makes]
            else:
                break
        return tuple(linear), tuple(group)

    def _enters_product(self, value: int) -> bool:
        """Whether a value, perhaps in another shape, is a factor of a product of activations."""
        readers = self.readers.get(value, [])
        while len(readers) == 1 and readers[0].kind == "shape":
            readers = self.readers.get(readers[0].makes, [])
        return (
            len(readers) == 1
            and readers[0].operator in _PRODUCTS
            and len(set(readers[0].reads)) > 1
        )

    def _normalized(self, value: int) -> int | None:
        """Return the result of a normalisation of a value in several steps; None if there is none.

        The steps read nothing else that depends on the input, compute a mean and a root, divide,
        and end in one value.
        """
        inside = {value}
        operators: set[str] = set()
        passed: set[int] = set()
        while len(passed) < _MOST_MOMENT_STEPS:
            waiting = [s for v in sorted(inside) for s in self.readers.get(v, [])]
            waiting = [step for step in waiting if step.makes not in passed]
            still_read = {v for step in waiting for v in step.reads if v in inside}
            still_read |= (inside & self.outputs) - {value}
            complete = operators & _MEANS and operators & _ROOTS and operators & _QUOTIENTS
            if len(still_read) == 1 and value not in still_read and complete:
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
        """Count linear operators on the longest path from ``start`` to each value after it."""
        lengths = dict.fromkeys(start, 0)
        for step in self.steps:
            before = [lengths[value] for value in step.reads if value in lengths]
            if before:
                lengths[step.makes] = max(before) + (step.kind == "linear")
        return lengths

    def ancestors(self, values: Iterable[int]) -> set[int]:
        """Return ``values`` and every value on which they depend."""
        ancestors = set(values)
        for step in reversed(self.steps):
            if step.makes in ancestors:
                ancestors.update(step.reads)
        return ancestors

    def ends(self, operator: Step) -> bool:
        """Whether a layer's result reaches an output with the same meaning."""
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
        """Return the results of linear operators that are projections on a residual bypass.

        ``ends`` has, by an operator's result, the value at which the walk from it stops.
        """
        walked = {end: result for result, end in ends.items() if end != result}
        return find_shortcuts([_operation(step, walked) for step in self.steps])


def _behind(step: Step, path: OutputPath) -> OutputPath | None:
    """Extend a path by a step; return None if the path ends there."""
    if step.kind == "squash":
        return path.through_function()
    if step.operator in MEAN_POOLING:
        return path.through_mean()
    if step.operator in RECTIFIERS:
        return path.through_rectifier()
    return path if step.kind in ("shape", "bias", "scale", "norm") else None


def _operation(step: Step, walked: Mapping[int, int]) -> Operation[int]:
    if step.makes in walked:
        # a normalisation may consist of several steps
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
