"""Shortcut layers of a network: projections on a residual bypass.

The rule is the same for ONNX graphs and for traces of a framework: it reads operations on numbered
or named values only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Operators of a bypass beside its projection and additions and scales by constants.
LINEAR_STEPS = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "MaxPool",
        "Pad",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "Resize",
        "Upsample",
    }
)
# Sums of branches; a difference is one as well.
RESIDUAL_SUMS = frozenset({"Add", "Mean", "QLinearAdd", "Sub", "Sum"})
# Their results are parts of a value, and branches from two parts have no common fork: a layer of an
# unrolled recurrence reads its own time step and bypasses nothing.
SELECTIONS = frozenset(
    {
        "Compress",
        "Gather",
        "GatherElements",
        "GatherND",
        "SequenceAt",
        "Slice",
        "Split",
        "SplitToSequence",
        "TopK",
    }
)
# Operators with weights of their own.
RECURRENT = frozenset({"GRU", "If", "LSTM", "Loop", "RNN", "Scan"})

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class Operation(Generic[_Key]):
    """One operation on values that depend on the network's input.

    Kinds are: layer, a linear operator with weights; linear, one value shifted, scaled, normalised,
    pooled or reshaped; sum, of several values; part, a selection of a value's elements; opaque, an
    operator with layers inside; other, anything else, such as a nonlinearity.
    """

    kind: Literal["layer", "linear", "sum", "part", "opaque", "other"]
    reads: tuple[_Key, ...]
    makes: _Key


def find_shortcuts(operations: Sequence[Operation[_Key]]) -> set[_Key]:
    """Find the layers that are projections on a residual bypass.

    Two branches start from one value, the fork, and meet again in a sum. The bypass is the branch
    with fewer layers on its longest path. Its layers are shortcuts where they apply to the fork one
    after the other with no nonlinearity between them or between them and the sum; a normalisation
    and a nonlinearity may come before the first. A branch on whose layers the other branch depends
    bypasses nothing: such layers are on the main path. Of branches with equally many layers neither
    is a bypass. A sum of sums is one sum of all their terms.
    """
    return set(_Operations(operations).shortcuts())


@dataclass(frozen=True, slots=True)
class _Branch(Generic[_Key]):
    """A path back from a term of a sum."""

    layers: tuple[_Key, ...]  # results of its layers, the last one first
    seen: frozenset[_Key]  # values at which it may have forked


class _Operations(Generic[_Key]):
    def __init__(self, operations: Sequence[Operation[_Key]]) -> None:
        self._operations: Sequence[Operation[_Key]] = operations
        self._place: dict[_Key, int] = {
            operation.makes: place for place, operation in enumerate(operations)
        }
        self._readers: dict[_Key, list[Operation[_Key]]] = {}
        for operation in operations:
            for value in operation.reads:
                self._readers.setdefault(value, []).append(operation)

    def shortcuts(self) -> Iterator[_Key]:
        for operation in self._operations:
            if operation.kind == "sum" and not self._is_term(operation.makes):
                terms = list(dict.fromkeys(self._terms(operation)))
                for term in terms:
                    yield from self._bypass(term, [other for other in terms if other != term])

    def _is_term(self, value: _Key) -> bool:
        """Whether the only reader of a sum is another sum."""
        return [operation.kind for operation in self._readers.get(value, [])] == ["sum"]

    def _terms(self, total: Operation[_Key]) -> Iterator[_Key]:
        for value in total.reads:
            inner = self._producer(value)
            if inner is not None and inner.kind == "sum" and self._is_term(value):
                yield from self._terms(inner)
            else:
                yield value

    def _producer(self, value: _Key) -> Operation[_Key] | None:
        place = self._place.get(value)
        return None if place is None else self._operations[place]

    def _bypass(self, term: _Key, others: Sequence[_Key]) -> tuple[_Key, ...]:
        """Return the layers of a term that bypass one of the other terms."""
        widest = self._back(term, frozenset())
        if widest is None:
            return ()
        first = min(self._place.get(value, -1) for value in widest.seen)
        for other in others:
            ancestors = self._ancestors(other, first)
            branch = self._back(term, ancestors)
            if branch is None or not branch.seen <= ancestors:
                continue
            if self._longest(branch.seen, other) > len(branch.layers):
                return branch.layers
        return ()

    def _back(self, term: _Key, forks: frozenset[_Key] | set[_Key]) -> _Branch[_Key] | None:
        """Follow a term back through its layers to where it forked; None if it has none.

        Without `forks`, everything on the way is seen; else the values at which the way ends.
        """
        layers: list[_Key] = []
        value = term
        passed = {value}
        while value not in forks:
            operation = self._producer(value)
            if (
                operation is None
                or operation.kind not in ("layer", "linear", "part")
                or len(operation.reads) != 1
            ):
                break
            if operation.kind == "part" and layers:
                break
            if operation.kind == "layer":
                layers.append(value)
            value = operation.reads[0]
            passed.add(value)
        if not layers:
            return None
        waiting, ends = [value], set()
        visited = {value}
        while waiting:
            value = waiting.pop()
            operation = None if value in forks else self._producer(value)
            if operation is None or operation.kind in ("layer", "part", "opaque"):
                ends.add(value)
                continue
            new = set(operation.reads) - visited
            visited |= new
            waiting.extend(new)
        return _Branch(tuple(layers), frozenset(ends if forks else passed | visited))

    def _ancestors(self, value: _Key, first: int) -> set[_Key]:
        """Return a value and all it depends on, as far back as the place `first`."""
        ancestors, waiting = {value}, [value]
        while waiting:
            operation = self._producer(waiting.pop())
            if operation is None or self._place[operation.makes] < first:
                continue
            new = set(operation.reads) - ancestors
            ancestors |= new
            waiting.extend(new)
        return ancestors

    def _longest(self, start: Iterable[_Key], end: _Key) -> int:
        """Count the layers on the longest path from one of several values to another."""
        lengths = dict.fromkeys(start, 0)
        first = min(self._place.get(value, -1) for value in lengths) + 1
        for operation in self._operations[first : self._place.get(end, -1) + 1]:
            before = [lengths[value] for value in operation.reads if value in lengths]
            if before:
                reached = max(before) + (operation.kind == "layer")
                lengths[operation.makes] = max(reached, lengths.get(operation.makes, 0))
        return lengths.get(end, 0)
