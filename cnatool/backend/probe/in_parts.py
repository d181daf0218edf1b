"""A probe of models that are regular, in few runs and in parts.

Every tensor of such a model has a shape that follows from the number of samples, and samples that
do not depend on each other, so that the rules of `probe` become simple; at the first exception the
model is left to `probe`. Where the operators show that samples are independent, a run of all and
one of a single sample confirm it, and otherwise each sample runs alone as well.

Where tensors are large, the graph is cut into parts, and every run passes through one part before
the next one begins: what was compared is freed.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.memory import available_memory
from cnatool._util.threads import map_ordered, prefetch
from cnatool.backend.graph.element_types import find_unreadable
from cnatool.backend.graph.nodes import overwrites_weights
from cnatool.backend.graph.outputs import element_type, list_exposable, needs_cast
from cnatool.backend.graph.parts import cut_graph
from cnatool.backend.graph.random_operators import find_opaque_tensors, find_random_tensors
from cnatool.backend.probe.axis_search import find_scaled_axis
from cnatool.backend.probe.dependence import Regrouped, depends_on_others, lies_along
from cnatool.backend.probe.probe import Probe
from cnatool.backend.probe.probed_tensor import ProbedTensor
from cnatool.backend.probe.reference import reference_of_parts
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.probe.separate_samples import separates_samples
from cnatool.backend.session import Session
from cnatool.backend.tensor_sizes import infer_sizes
from cnatool.errors import BackendError, ModelError
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.parts import Part
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic

# Of the results of all samples: those that are held at one time anyway, and those of a part. Of
# larger parts most memory is new in every run, which takes longer than more sessions do.
_WHOLE_BYTES = 128 << 20
_PART_BYTES = 16 << 20
# Parts whose results are held at one time: the one that runs, one that is compared, and one that
# waits for that.
_HELD_PARTS = 3

_Values = dict[str, "NDArray[Any]"]


class _ExceptionalError(Exception):
    """A tensor takes more than these rules to be described."""


def probe_in_parts(
    graph: Graph, samples: Samples, run: RunOptions, statistics: Sequence[Statistic] = ()
) -> Probe | None:
    """Probe a regular model with a free batch, a part of its graph at a time.

    None for an exception to what this serves, and for a small model whose operators do not show
    that samples are independent: `probe` describes it.
    """
    if not graph.dynamic.isdisjoint(graph.inner):
        return None
    if graph.data_shaped or find_random_tensors(graph) or find_opaque_tensors(graph):
        return None
    if any(map(overwrites_weights, graph.nodes)):
        return None
    inputs = {name: value.shape for name, value in samples.feeds().items()}
    tensors = list(infer_sizes(graph.model, inputs))
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    alone = not samples.constants and not samples.derived
    separate = alone and separates_samples(graph, shapes, inputs)
    sizes = {tensor.name: tensor.bytes for tensor in tensors}
    if sum(sizes.values()) <= _WHOLE_BYTES and not separate:
        return None
    parts = cut_graph(graph, sizes, _PART_BYTES)
    runs = _Runs(graph, samples, run, statistics, separate=separate)
    available = available_memory()
    if available is not None and runs.estimate_memory(parts, sizes) > available:
        return None
    try:
        return runs.probe(parts)
    except (_ExceptionalError, BackendError, ModelError):
        return None


class _OpenPart(NamedTuple):
    """A part of a graph that is ready to run."""

    session: Session
    reads: frozenset[str]
    later: frozenset[str]  # what later parts read
    outputs: list[str]


class _Runs:
    """The runs of a probe, as far as they have come through the graph."""

    def __init__(
        self,
        graph: Graph,
        samples: Samples,
        run: RunOptions,
        statistics: Sequence[Statistic],
        *,
        separate: bool,
    ) -> None:
        self.graph, self.samples, self.run, self.statistics = graph, samples, run, statistics
        self.separate = separate
        every = np.arange(len(samples))
        # All samples and the last one; or all, all but the last, and each alone.
        self.rows = [every, every[-1:]]
        if not separate:
            self.rows = [every, every[:-1], *(every[i : i + 1] for i in every)]
        # What later parts read, by run.
        self.values: list[_Values] = [samples.feeds(rows) for rows in self.rows]
        self.types: dict[str, str] = {}
        self.tensors: list[ProbedTensor] = []
        names, self.skipped = list_exposable(graph)
        self.names = frozenset(names)
        self.reference: dict[str, dict[Statistic, NDArray[np.float64]]] = {}

    def estimate_memory(self, parts: Sequence[Part], sizes: Mapping[str, int]) -> int:
        """Estimate the most bytes that are held at one time; ``sizes`` are those of all samples."""
        results = [sum(sizes.get(name, 0) for name in part.results) for part in parts]
        needed: set[str] = set()
        most = 0
        for place in reversed(range(len(parts))):
            # What earlier parts computed for this one and later ones.
            needed = (needed - set(parts[place].results)) | parts[place].reads
            held = sum(sizes.get(name, 0) for name in needed)
            recent = sum(results[max(0, place + 1 - _HELD_PARTS) : place + 1])
            most = max(most, held + recent)
        times = sum(map(len, self.rows)) / len(self.samples)
        # A comparison makes copies of a tensor.
        return round(times * most) + 2 * max(sizes.values(), default=0)

    def probe(self, parts: Sequence[Part]) -> Probe:
        """Run one part after another.

        Meanwhile a thread opens the session of the next part, and another one compares the results
        of the part before.
        """
        with (
            closing(prefetch(self._open_sessions(parts), ahead=1)) as opened,
            closing(map_ordered(self._check, self._run_parts(opened), 1, ahead=1)) as checked,
        ):
            for _ in checked:
                pass
        return Probe(
            self.tensors,
            self.skipped,
            self.samples,
            {},
            self.run,
            one_runs=True,
            reference=self.reference,
        )

    def _open_sessions(self, parts: Sequence[Part]) -> Generator[_OpenPart]:
        """Open the sessions of the parts that return anything."""
        for place, part in enumerate(parts):
            later = frozenset[str]().union(*(other.reads for other in parts[place + 1 :]))
            outputs = [name for name in part.results if name in self.names or name in later]
            if not outputs:
                continue
            session = Session(part.model(self.graph, self.types, outputs), self.graph, self.run)
            for name, kind in session.types.items():
                if not kind.startswith("tensor(") or find_unreadable(kind) or needs_cast(kind):
                    raise _ExceptionalError
                self.types[name] = kind
            yield _OpenPart(session, part.reads, later, outputs)

    def _run_parts(self, parts: Iterable[_OpenPart]) -> Generator[list[_Values]]:
        """Yield the results of each part, a mapping for each run."""
        for part in parts:
            yield [self._run_part(part, number) for number in range(len(self.rows))]

    def _run_part(self, part: _OpenPart, number: int) -> _Values:
        before = self.values[number]
        feeds = {name: value for name, value in before.items() if name in part.reads}
        arrays = part.session.run(part.outputs, feeds)
        results: _Values = dict(zip(part.outputs, arrays, strict=True))
        known = before | results
        self.values[number] = {name: known[name] for name in known if name in part.later}
        return results

    def _check(self, runs: Sequence[_Values]) -> None:
        """Describe the tensors of a part, and compare their values in its runs."""
        large, *others = runs
        described = [
            self._describe(name, large[name], others[0][name].shape)
            for name in large
            if name in self.names
        ]
        tensors = [tensor for tensor in described if tensor is not None]
        for rows, values in zip(self.rows[1:], others, strict=True):
            _compare(tensors, large, rows, values)
        self.reference.update(reference_of_parts(tensors, large, self.statistics))
        self.tensors += tensors

    def _describe(
        self, name: str, value: NDArray[Any], small: tuple[int, ...]
    ) -> ProbedTensor | None:
        """Describe a tensor by its value in the run of all samples, and its shape in one of fewer.

        None for a tensor that has no sample axis.
        """
        operator = self.graph.operator(name)
        axis = self._find_axis(value.shape, small)
        if isinstance(axis, str):
            self.skipped.append(SkippedTensor(name, operator, axis))
            return None
        shape = axis.samples_first(value).shape[1:]
        rest = tuple(size for place, size in enumerate(small) if place != axis.axis)
        if axis.factor > 1 or shape != rest:
            raise _ExceptionalError
        return ProbedTensor(
            name=name,
            operator=operator,
            onnx_type=element_type(self.types[name]),
            dtype=value.dtype,
            shape=shape,
            batch_axis=axis.axis,
        )

    def _find_axis(self, large: tuple[int, ...], small: tuple[int, ...]) -> SampleAxis | str:
        """Find the axis that scales with the samples, or the reason why there is none."""
        if not self.separate:
            return find_scaled_axis(large, small, len(self.samples))
        if (large[:1], small[:1]) != ((len(self.samples),), (1,)):
            raise _ExceptionalError
        return SampleAxis(0)


def _compare(
    tensors: Sequence[ProbedTensor],
    large: Mapping[str, NDArray[Any]],
    rows: NDArray[np.intp],
    values: Mapping[str, NDArray[Any]],
) -> None:
    """Make sure that samples have the same values in another group, and the same axes."""
    group = Regrouped(rows, values, len(rows))
    for tensor in tensors:
        name, axis = tensor.name, tensor.axis
        whole = large[name]
        same_rank = np.ndim(values[name]) == whole.ndim
        if not same_rank or not lies_along(name, axis, whole.ndim, group):
            raise _ExceptionalError
        if depends_on_others(name, axis, whole, group):
            raise _ExceptionalError
