"""The residual stream of a graph: the additions of a branch to what it was computed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from cnatool.backend.graph.nodes import input_name, operator_set
from cnatool.backend.graph.preactivation_walk import (
    MEANS,
    MOMENTS,
    NORMALIZATIONS,
    QUANTIZATION,
    SHAPE_CHANGES,
    find_normalized,
    passes,
    readers,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.linear_operators import LinearOperator

_SUMS = {"Add": (0, 1), "QLinearAdd": (0, 3), "Sum": (0, 1)}
# They add two tensors, normalise the sum, and return it as well where it is asked for.
_FUSED = operator_set(
    "SkipGroupNorm SkipLayerNormalization SkipRMSNormalization SkipSimplifiedLayerNormalization"
)
_SUM_OUTPUT = {"SkipGroupNorm": 1}
_ACTIVATIONS = operator_set(
    "Clip Elu Gelu HardSwish LeakyRelu PRelu QLinearLeakyRelu Relu Selu Tanh"
)
_POOLS = operator_set("AveragePool MaxPool Pad QLinearAveragePool")
_SCALES = operator_set("Add Div Mul Sub")
# Behind the name of a result of a fused operator, its sum, which the operator keeps to itself.
_INSIDE = "::sum"
# More nodes than the mean and the deviation of a normalisation have.
_MOST_MOMENTS = 24
# More steps than any bypass has.
_MOST_STEPS = 64

_Kind = Literal["same", "norm", "act", "scale", "projection", "sum"]


class _Step(NamedTuple):
    """What a tensor was computed from on a bypass, and how."""

    tensor: str
    kind: _Kind


@dataclass(frozen=True, slots=True)
class ResidualSum:
    """An addition of a branch to the stream that the branch starts from."""

    result: str  # the sum; of a fused operator that keeps it to itself, a name of none
    fork: str  # the tensor of the stream that the branch reads
    before: int | None  # number of the sum whose result the stream is, None for the first
    layers: tuple[str, ...]  # results of the linear operators on the branch and on its bypass
    operators: frozenset[str]  # types of the operators on the branch
    normalised: bool  # whether a normalisation of the sum before is what both sides read


@dataclass(slots=True)
class _Found:
    """Residual sums so far, and the ways back along the stream."""

    sums: list[ResidualSum] = field(default_factory=list)
    sure: set[int] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)  # of sums, by result
    claimed: set[str] = field(default_factory=set)  # tensors to which a branch was added


def find_residual_sums(
    graph: Graph,
    reads: Sequence[tuple[onnx.NodeProto, list[str]]],
    linear: Mapping[str, LinearOperator],
    shortcuts: Collection[str],
) -> list[ResidualSum]:
    """Find the residual additions of a graph, in execution order.

    One operand, the stream, is a tensor from which the other one was computed by at least one
    linear operator. On its own way it may have been normalised, rectified, pooled, scaled by a
    constant and projected by a shortcut, no more. To each tensor of the stream one branch is
    added. The sum of attention scores and a mask is none, though scores of later layers depend on
    that mask: a branch ends in a linear operator, or the stream goes on behind its sum.
    """
    return _Search(graph, reads, linear, shortcuts).find()


def list_stream(graph: Graph, sums: Sequence[ResidualSum]) -> tuple[str, ...]:
    """List the tensors of the residual stream: what enters the first branch, and each sum.

    Where both sides read a normalisation of the sum, that is the stream.
    """
    tensors: list[str] = []
    following = {each.before: each for each in sums if each.before is not None}
    for number, each in enumerate(sums):
        if each.before is None:
            tensors.append(each.fork)
        after = following.get(number)
        if after is not None and after.normalised:
            tensors.append(after.fork)
        elif after is None and (each.normalised or each.result not in graph.producer):
            tensors.append(_find_normalised(graph, each.result) or each.result)
        else:
            tensors.append(each.result)
    return tuple(dict.fromkeys(name for name in tensors if name in graph.dynamic))


def _find_normalised(graph: Graph, result: str) -> str | None:
    """Find the normalisation that alone reads a sum; None where there is another reader."""
    if result.endswith(_INSIDE):
        return result.removesuffix(_INSIDE)
    nodes = readers(graph, result)
    if len(nodes) == 1 and nodes[0].op_type in NORMALIZATIONS:
        return str(nodes[0].output[0])
    tensor = find_normalized(graph, result) if nodes else None
    while tensor is not None:
        # Its scale and its shift.
        nodes = readers(graph, tensor)
        if len(nodes) != 1 or nodes[0].op_type not in ("Add", "Cast", "Mul"):
            break
        if not passes(graph, nodes[0], tensor):
            break
        tensor = str(nodes[0].output[0])
    return tensor


class _Search:
    """The search for residual sums in one graph."""

    def __init__(
        self,
        graph: Graph,
        reads: Sequence[tuple[onnx.NodeProto, list[str]]],
        linear: Mapping[str, LinearOperator],
        shortcuts: Collection[str],
    ) -> None:
        self._graph, self._linear, self._shortcuts = graph, linear, shortcuts
        skipped = graph.shape_arithmetic
        self._nodes = [
            (node, [name for name in names if name in graph.dynamic and name not in skipped])
            for node, names in reads
        ]
        self._place: dict[str, int] = {}
        self._steps: dict[str, _Step] = {}
        self._found = _Found()

    def find(self) -> list[ResidualSum]:
        """Go through the graph, and leave out sums of which nothing is sure."""
        for place, (node, _) in enumerate(self._nodes):
            for name in filter(None, node.output):
                self._place[name] = place
            for result, operands in self._sums(node):
                self._place.setdefault(result, place)
                if not self._add(result, *operands):
                    self._add(result, *reversed(operands))
            output = node.output[0] if node.output else ""
            step = self._step(node)
            if step is not None and output not in self._steps:
                self._steps[output] = step
        return self._renumber()

    def _sums(self, node: onnx.NodeProto) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the sum that a node computes, and the two tensors that it adds."""
        operator = self._linear.get(node.output[0]) if node.output else None
        if operator is not None and operator.summand is not None:
            pair = (operator.summand, operator.data)
        elif node.op_type in _SUMS and len(node.input) in (2, 8):
            first, second = _SUMS[node.op_type]
            pair = (input_name(node, first), input_name(node, second))
        elif node.op_type in _FUSED:
            pair = (input_name(node, 0), input_name(node, 1))
        else:
            return
        shapes = self._graph.shape_arithmetic
        if all(name in self._graph.dynamic and name not in shapes for name in pair):
            yield self._sum_name(node), pair

    def _sum_name(self, node: onnx.NodeProto) -> str:
        result = str(node.output[0])
        if node.op_type not in _FUSED:
            return result
        place = _SUM_OUTPUT.get(node.op_type, 3)
        kept = node.output[place] if place < len(node.output) else ""
        return str(kept) or f"{result}{_INSIDE}"

    def _step(self, node: onnx.NodeProto) -> _Step | None:
        """Return what the first result of a node was computed from, if it may lie on a bypass."""
        graph, operator = self._graph, node.op_type
        first = input_name(node, 0)
        moving = [name for name in node.input if name in graph.dynamic]
        if operator in _FUSED:
            return _Step(self._sum_name(node), "norm")
        if not node.output or not moving:
            return None
        if node.output[0] in self._shortcuts:
            return _Step(self._linear[node.output[0]].data, "projection")
        if operator in NORMALIZATIONS:
            return _Step(first, "norm")
        if operator in SHAPE_CHANGES | QUANTIZATION | _POOLS and first in graph.dynamic:
            return _Step(first, "same")
        if operator in _ACTIVATIONS and first in graph.dynamic:
            return _Step(first, "act")
        if operator in (*_SCALES, "Where"):
            if len(moving) == 1:
                return _Step(moving[0], "scale")
            base = next((name for name in moving if self._is_normalised(node, name)), None)
            return None if base is None else _Step(base, "norm")
        return None

    def _is_normalised(self, node: onnx.NodeProto, base: str) -> bool:
        """Whether the other operands are a mean or a deviation of a tensor, or of one before it."""
        graph = self._graph
        stops = {step.tensor for step in self._chain(base)}
        waiting = [name for name in node.input if name in graph.dynamic and name != base]
        seen, operators = set(waiting), set[str]()
        while waiting:
            name = waiting.pop()
            if name in stops:
                continue
            made = graph.producer.get(name)
            if made is None or made.op_type not in MOMENTS or len(seen) > _MOST_MOMENTS:
                return False
            operators.add(made.op_type)
            new = {i for i in made.input if i in graph.dynamic} - seen
            seen |= new
            waiting.extend(new)
        return not operators.isdisjoint(MEANS)

    def _chain(self, tensor: str) -> list[_Step]:
        """Follow the bypass back from a tensor, with how each was reached from the one behind."""
        chain = [_Step(tensor, "same")]
        while chain[-1].tensor in self._steps and len(chain) < _MOST_STEPS:
            chain.append(self._steps[chain[-1].tensor])
        return chain

    def _add(self, result: str, skip: str, branch: str) -> bool:
        """Add a sum if the branch was computed from the other operand."""
        found = self._found
        chain = self._chain(skip)
        first = min(self._place.get(step.tensor, -1) for step in chain)
        ancestors = self._ancestors(branch, first)
        places = [i for i, step in enumerate(chain) if step.tensor in ancestors]
        if not places or chain[places[0]].tensor == branch:
            return False
        fork = chain[places[0]].tensor
        behind = self._behind(fork, ancestors)
        own = self._linear.get(result)
        layers = [name for name in behind if name in self._linear]
        layers += [result] if own is not None and own.summand is not None else []
        sums = [i for i, step in enumerate(chain) if step.tensor in found.numbers]
        before = found.numbers[chain[sums[0]].tensor] if sums else None
        claim = fork if before is None else found.sums[before].result
        if not layers or branch not in behind or claim in found.claimed:
            return False
        layers += [
            name
            for name, step in zip((s.tensor for s in chain), chain[1:], strict=False)
            if step.kind == "projection" and name in self._linear
        ][: places[0]]
        kinds = {step.kind for step in chain[places[0] + 1 : sums[0] + 1]} if sums else set()
        number = len(found.sums)
        found.sums.append(
            ResidualSum(
                result=result,
                fork=fork,
                before=before,
                layers=tuple(sorted(set(layers), key=self._place.__getitem__)),
                operators=frozenset(self._nodes[self._place[name]][0].op_type for name in behind),
                normalised="norm" in kinds,
            )
        )
        found.numbers[result] = number
        found.claimed.add(claim)
        self._steps[result] = _Step(skip, "sum")
        if before is not None:
            found.sure |= {before, number}
        elif own is not None or self._ends_in_layer(branch):
            found.sure.add(number)
        return True

    def _ancestors(self, tensor: str, first: int) -> set[str]:
        """Collect a tensor and all it depends on, as far back as a place in the graph."""
        ancestors, waiting = {tensor}, [tensor]
        while waiting:
            place = self._place.get(waiting.pop(), -1)
            if place < first or place < 0:
                continue
            new = set(self._nodes[place][1]) - ancestors
            ancestors |= new
            waiting.extend(new)
        return ancestors

    def _behind(self, fork: str, ancestors: set[str]) -> set[str]:
        """Collect what depends on a tensor, among the ancestors of another one."""
        reached = {fork}
        for name in sorted(ancestors, key=lambda name: self._place.get(name, -1)):
            place = self._place.get(name, -1)
            if place >= 0 and name != fork and not reached.isdisjoint(self._nodes[place][1]):
                reached.add(name)
        return reached - {fork}

    def _ends_in_layer(self, branch: str) -> bool:
        """Whether a branch ends in a linear operator, but for what rescales its result."""
        waiting, seen = [branch], {branch}
        while waiting and len(seen) < _MOST_STEPS:
            name = waiting.pop()
            if name in self._linear:
                return True
            place = self._place.get(name, -1)
            node = self._nodes[place][0] if place >= 0 else None
            step = self._steps.get(name)
            if step is not None and step.kind != "sum":
                new: Iterable[str] = (step.tensor,)
            elif node is not None and node.op_type in ("Add", "Mul", "Sum"):
                new = self._nodes[place][1]
            else:
                continue
            waiting.extend(set(new) - seen)
            seen.update(new)
        return False

    def _renumber(self) -> list[ResidualSum]:
        sure = sorted(self._found.sure)
        numbers = {old: new for new, old in enumerate(sure)}
        return [
            ResidualSum(
                result=each.result,
                fork=each.fork,
                before=None if each.before is None else numbers[each.before],
                layers=each.layers,
                operators=each.operators,
                normalised=each.normalised,
            )
            for each in (self._found.sums[old] for old in sure)
        ]
