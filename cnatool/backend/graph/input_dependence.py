"""Which tensors depend on the values of an input, and which on its shape alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.flat_nodes import SUBGRAPH_INPUT
from cnatool.backend.graph.nodes import operator_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

    def __init__(self, flat: FlatNodes, inputs: Iterable[str]) -> None:
        self._flat = flat
        self.dynamic = set(inputs)  # tensors whose values depend on the values of an input
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

    def find_controlled(self) -> set[str]:
        """Find the tensors in branches and loops that other samples may not run, or not as often.

        Of loops about which the values of an input decide, of branches also those that its shape
        decides about, such as the number of samples.
        """
        conditional = self.find_conditional()
        return {
            name
            for name, tensor in self._flat.inner.items()
            if name in conditional
            or any(self._varies(i) for body in self._bodies(name) for i in body.controls)
            or any(i in self.data_shaped for body in tensor.bodies for i, _ in body.lengths)
        }

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
            name in self.dynamic or (name in self._dependent and name not in self._iterated)
            for name in body.controls
        )

    def _size(self) -> int:
        sets = (self.dynamic, self.data_shaped, self._dependent, self._iterated, self._counts)
        return len(self.decided) + sum(map(len, sets))

    def _add(self, node: onnx.NodeProto) -> None:
        reads = [name for name in node.input if name]
        writes = [name for name in node.output if name]
        # It takes only the type of its second input.
        values = reads[:1] if node.op_type == "CastLike" else reads
        if any(name in self.dynamic for name in values) and node.op_type not in _SHAPE_OPERATORS:
            self.dynamic.update(writes)
        if any(name in self.dynamic or name in self._dependent for name in values):
            self._dependent.update(writes)
        iterated = any(name in self._iterated for name in values)
        if node.op_type == SUBGRAPH_INPUT or (iterated and self._is_inside(writes)):
            self._iterated.update(writes)
        depends = bool(writes) and writes[0] in self._dependent
        bodies = self._bodies(writes[0]) if depends else ()
        decided = any(self._varies(name) for body in bodies for name in body.controls)
        chosen = decided or any(map(self._is_conditional, bodies))
        if depends and (chosen or not self.decided.isdisjoint(values)):
            self.decided.update(writes)
        if depends and (decided or self._is_data_shaped(node, bodies)):
            self.data_shaped.update(writes)
        if depends and writes[0] not in self.dynamic and self._reads_count(node, reads):
            self._counts.update(writes)

    def _is_inside(self, names: Sequence[str]) -> bool:
        """Whether tensors lie in a subgraph: behind a loop, no iteration is left to depend on."""
        return any(name in self._flat.inner for name in names)

    def _is_data_shaped(self, node: onnx.NodeProto, bodies: Sequence[Body]) -> bool:
        if any(name in self.data_shaped for body in bodies for name, _ in body.lengths):
            return True
        if node.op_type in _SHAPE_OPERATORS:
            return False
        varying = node.domain not in KNOWN_DOMAINS or node.op_type in _DATA_SHAPED
        if varying and any(name in self.dynamic for name in node.input):
            return True
        if any(name in self.data_shaped for name in node.input):
            return True
        place = _SHAPE_INPUT.get(node.op_type)
        return place is not None and any(map(self._varies, node.input[place:]))

    def _bodies(self, result: str) -> tuple[Body, ...]:
        """Return the subgraphs that decide about the shape of a tensor, if any does."""
        flat = self._flat
        if not flat.results:
            return ()
        own = (flat.results[result],) if result in flat.results else ()
        return (*flat.inner[result].bodies, *own) if result in flat.inner else own

    def _varies(self, name: str) -> bool:
        """Whether a length or a condition depends on the values of an input."""
        return name in self.dynamic or name in self._counts

    def _reads_count(self, node: onnx.NodeProto, reads: Sequence[str]) -> bool:
        if node.op_type in _SHAPE_OPERATORS:
            return any(name in self.data_shaped for name in reads)
        return any(name in self._counts for name in reads)
