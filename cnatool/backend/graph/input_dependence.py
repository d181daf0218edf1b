"""Which tensors depend on the values of an input, and which on its shape alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.graph.nodes import first_output, operator_set

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import onnx

    from cnatool.backend.graph.control_flow import Body
    from cnatool.backend.graph.flat_nodes import FlatNodes

# Nothing is known of the operators of other domains.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
# Their results depend on an input's shape, never on its values.
_SHAPE_OPERATORS = frozenset({"Shape", "Size"})
# The values of an input decide how many elements their results have.
_DATA_SHAPED = operator_set("Compress NonMaxSuppression NonZero SequenceAt StringSplit Unique")
# The same holds for these where the input at this place, the shape, depends on values.
_SHAPE_INPUT = {
    "AffineGrid": 1,
    "BlackmanWindow": 0,
    "CenterCropPad": 1,
    "Col2Im": 1,
    "ConstantOfShape": 0,
    "DFT": 1,
    "Expand": 1,
    "HammingWindow": 0,
    "HannWindow": 0,
    "MaxUnpool": 2,
    "OneHot": 1,
    "Pad": 1,
    "Range": 0,
    "Reshape": 1,
    "Resize": 2,
    "Slice": 1,
    "Split": 1,
    "Squeeze": 1,
    "Tile": 1,
    "TopK": 1,
    "Unsqueeze": 1,
    "Upsample": 1,
}


class InputDependence:
    """How the tensors of a graph depend on its inputs."""

    def __init__(self, flat: FlatNodes, inputs: Iterable[str], same: Collection[str] = ()) -> None:
        """Follow the inputs of a graph, of which ``same`` have the same values in every run."""
        self._flat = flat
        self.dynamic = set(inputs)  # tensors whose values depend on the values of an input
        # Of these, tensors whose values may differ from run to run
        self._changing = self.dynamic - set(same)
        # Tensors that depend on an input that may differ, be it on its shape alone
        self._open = set(self._changing)
        # Tensors whose shape may depend on the values of an input
        self.data_shaped: set[str] = set()
        # Tensors in and behind branches and loops about which the values of an input decide, and
        # branches about which its shape does
        self.decided: set[str] = set()
        # Tensors that depend on an input, be it on its shape alone
        self._dependent: set[str] = set()
        # Tensors in loops that depend on the iteration
        self._iterated: set[str] = set()
        # Arithmetic on shapes that hold such a number of elements
        self._counts: set[str] = set()
        # Tensors in loops whose shape depends on values that are computed in the loops
        self._reshaped: set[str] = set()
        # What bodies of loops are given
        self._given = {
            name for node in flat.nodes if node.op_type == SUBGRAPH_INPUT for name in node.output
        }
        before = -1
        while before < (before := self._size()):
            for node in flat.nodes:
                self._add(node)
            if not flat.results:
                break  # without loops, nothing is read before it is computed

    @property
    def shape_arithmetic(self) -> set[str]:
        """Tensors that depend on an input's shape or on the iteration of a loop alone."""
        return (self._dependent | self._iterated) - self.dynamic

    def find_controlled(self) -> dict[str, tuple[int, ...]]:
        """Find the tensors in branches and loops that other samples may not run, or not as often.

        Each comes with the places of these among the subgraphs around it. Of loops they are those
        about which the values of an input decide, of branches also those that its shape decides
        about, such as the number of samples.
        """
        found = {
            name: tuple(
                place
                for place, body in enumerate(tensor.bodies)
                if self._is_conditional(body) or self._is_decided(body)
            )
            for name, tensor in self._flat.inner.items()
        }
        return {name: places for name, places in found.items() if places}

    def find_unstackable(self) -> set[str]:
        """Find the tensors whose shape or presence may differ from one iteration to the next.

        Values that are computed in the loops around them decide about it.
        """
        found = self._reshaped.intersection(self._flat.inner)
        for name, places in self.find_controlled().items():
            bodies = self._flat.inner[name].bodies
            for place in places:
                repeated = any(body.repeats for body in bodies[:place])
                if repeated and self._is_decided_anew(bodies[place]):
                    found.add(name)
        return found

    def find_conditional(self) -> set[str]:
        """Find the tensors in branches whose condition depends on an input, or on its shape."""
        return {
            name
            for name, tensor in self._flat.inner.items()
            if any(map(self._is_conditional, tensor.bodies))
        }

    def _is_conditional(self, body: Body) -> bool:
        """Whether a subgraph is a branch that some samples or batches may not take.

        What the iteration decides is the same for all of them.
        """
        return body.operator == "If" and any(
            name in self._changing or (name in self._open and name not in self._iterated)
            for name in body.controls
        )

    def _is_decided(self, body: Body) -> bool:
        """Whether the values of an input decide about a subgraph."""
        lengths = (name in self.data_shaped for name, _ in body.lengths)
        return any(map(self._varies, body.controls)) or any(lengths)

    def _is_decided_anew(self, body: Body) -> bool:
        """Whether each iteration of a loop around a subgraph may decide otherwise about it."""
        lengths = [name for name, _ in body.lengths if name in self.data_shaped]
        deciding = self._dependent.intersection((*body.controls, *lengths))
        return any(map(self._is_repeated, deciding))

    def _is_repeated(self, name: str) -> bool:
        """Whether a tensor is computed in a loop, or given to its body."""
        inner = self._flat.inner.get(name)
        return name in self._given if inner is None else inner.loops > 0

    def _size(self) -> int:
        sets = (
            *(self.dynamic, self.data_shaped, self.decided, self._changing, self._open),
            *(self._dependent, self._iterated, self._counts, self._reshaped),
        )
        return sum(map(len, sets))

    def _add(self, node: onnx.NodeProto) -> None:
        reads = [name for name in node.input if name]
        writes = [name for name in node.output if name]
        # It takes only the type of its second input.
        values = reads[:1] if node.op_type == "CastLike" else reads
        if node.op_type not in _SHAPE_OPERATORS:
            for depending in (self.dynamic, self._changing):
                if not depending.isdisjoint(values):
                    depending.update(writes)
        if not self._open.isdisjoint(values):
            self._open.update(writes)
        if any(name in self.dynamic or name in self._dependent for name in values):
            self._dependent.update(writes)
        iterated = any(name in self._iterated for name in values)
        if node.op_type == SUBGRAPH_INPUT or (iterated and self._is_inside(writes)):
            self._iterated.update(writes)
        if not writes or writes[0] not in self._dependent:
            return
        bodies = self._bodies(writes[0])
        decided = any(self._varies(name) for body in bodies for name in body.controls)
        chosen = decided or any(map(self._is_conditional, bodies))
        if chosen or not self.decided.isdisjoint(values):
            self.decided.update(writes)
        is_fixed = writes[0] in self._flat.fixed
        # The condition does not decide about a shape that both branches return.
        deciding = bodies[:-1] if is_fixed else bodies
        if any(map(self._is_decided, deciding)) or (not is_fixed and self._is_data_shaped(node)):
            self.data_shaped.update(writes)
        if not is_fixed and self._is_repeated(writes[0]) and self._is_reshaped(node):
            self._reshaped.update(writes)
        if writes[0] not in self.dynamic and self._reads_count(node, reads):
            self._counts.update(writes)

    def _is_inside(self, names: Sequence[str]) -> bool:
        """Whether tensors lie in a subgraph: behind a loop, no iteration is left to depend on."""
        return any(name in self._flat.inner for name in names)

    def _is_data_shaped(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _SHAPE_OPERATORS:
            return False
        follows = any(name in self.data_shaped for name in node.input)
        return follows or bool(self._list_lengths(node))

    def _is_reshaped(self, node: onnx.NodeProto) -> bool:
        """Whether values that are computed in a loop decide about the shape of a node's result."""
        if node.op_type in _SHAPE_OPERATORS:
            return False
        if not self._reshaped.isdisjoint(node.input):
            return True
        result = self._flat.results.get(first_output(node))
        if result is not None:
            return self._is_decided_anew(result)
        return any(map(self._is_repeated, self._list_lengths(node)))

    def _list_lengths(self, node: onnx.NodeProto) -> list[str]:
        """List the inputs of a node whose varying values decide about the shape of its result."""
        if node.domain not in KNOWN_DOMAINS or node.op_type in _DATA_SHAPED:
            return [name for name in node.input if name in self._changing]
        place = _SHAPE_INPUT.get(node.op_type)
        return [] if place is None else [*filter(self._varies, node.input[place:])]

    def _bodies(self, result: str) -> tuple[Body, ...]:
        """Return the subgraphs that decide about the shape of a tensor, if any does."""
        flat = self._flat
        if not flat.results:
            return ()
        own = (flat.results[result],) if result in flat.results else ()
        return (*flat.inner[result].bodies, *own) if result in flat.inner else own

    def _varies(self, name: str) -> bool:
        """Whether a length or a condition depends on the values of an input."""
        return name in self._changing or name in self._counts

    def _reads_count(self, node: onnx.NodeProto, reads: Sequence[str]) -> bool:
        if node.op_type in _SHAPE_OPERATORS:
            return any(name in self.data_shaped for name in reads)
        return any(name in self._counts for name in reads)
