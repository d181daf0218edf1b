"""Small runs that show each tensor's type, its shape for one sample, and its sample axis."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.element_types import find_unreadable
from cnatool.backend.graph.outputs import element_type, list_exposable, make_readable
from cnatool.backend.probe.axis_search import (
    find_changed_axis,
    find_merged_axis,
    find_only_axis,
    find_rolled_axis,
    find_scaled_axis,
    take_merged_order,
)
from cnatool.backend.probe.changing_tensors import find_grown_states, probe_changing
from cnatool.backend.probe.dependence import (
    Regrouped,
    depends_on_others,
    lies_along,
    run_copies,
    run_regrouped,
)
from cnatool.backend.probe.forced_runs import read_branch_shapes, read_loop_shapes
from cnatool.backend.probe.probed_tensor import ProbedTensor
from cnatool.backend.probe.ragged_axes import find_ragged_axis
from cnatool.backend.probe.reference import reference_of_parts
from cnatool.backend.probe.repeatability import (
    UNOPTIMIZED,
    ChangedTensors,
    find_changes,
    unrepeatable_error,
)
from cnatool.backend.probe.row_index import FOREIGN, RowEvidence, read_places
from cnatool.backend.probe.runs import ProbeRuns
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.records.skipped import (
    BACKWARDS,
    NEVER,
    NOT_ALWAYS,
    NOT_ALWAYS_IN_BATCHES,
    counted_reason,
    no_axis_reason,
    unknown_axis_reason,
)
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic
    from cnatool.records.row_index import RowIndex


@dataclass(frozen=True, slots=True)
class Probe:
    """A model as a probe describes it, and the values of the first run."""

    tensors: list[ProbedTensor]  # in execution order
    # Tensors that cannot be stored with one row per sample, with reasons
    skipped: list[SkippedTensor]
    samples: Samples  # the input of the first run
    values: dict[str, NDArray[Any]]  # each tensor in that run, where it was held
    # How ONNX Runtime ran it: as asked, or unoptimised where only that is repeatable
    run: RunOptions
    # Tensors whose rows are not samples but found in them, such as detections
    counted: frozenset[str] = frozenset()
    one_runs: bool = False  # the model was seen to run with one sample
    # Statistics, (samples,) each, of the values of that run, by name of the float32 tensors that
    # can be summed in parts
    reference: dict[str, dict[Statistic, NDArray[np.float64]]] = field(default_factory=dict)


def probe(
    graph: Graph,
    samples: Samples,
    *,
    bound: int | None,
    run: RunOptions,
    known: Collection[str] = (),
    statistics: Sequence[Statistic] = (),
) -> Probe:
    """Run a model on two batches of different size, and find the axes that scale with them.

    All samples must differ. The first run takes all of them, the second one less. A model that is
    bound to several takes them in another order instead, and the sample axis is the one along
    which results changed places; with one, each sample has a run of its own, and all that a run
    returns belongs to it. Tensors in ``known`` are left out. The ``statistics`` of values are for
    comparison later.
    """
    names, skipped = list_exposable(graph)
    types, unreadable, session = read_types(graph, names, run)
    skipped += unreadable
    wanted = {name: kind for name, kind in types.items() if name not in known}
    changing = probe_changing(graph, wanted, samples, bound, run)
    skipped += changing.skipped
    names = [name for name in wanted if name not in changing.names]
    first = samples.first(bound or len(samples))
    if not names:
        return Probe(changing.tensors, skipped, first, {}, run)
    exposed = make_readable(graph.model, names, types, graph.inner)
    if exposed.casts or known or changing.names:
        session = Session(exposed.model, graph, run)

    def run_rows(rows: NDArray[np.intp], fed: Samples = samples) -> dict[str, Any]:
        return dict(zip(names, session.run(exposed.outputs, fed.feeds(rows)), strict=True))

    runs = ProbeRuns(graph, samples, bound, run_rows)
    if runs.single:
        absent = [n for n in names if n in graph.conditional and not runs.shapes(n)]
        runs.add_shapes(read_branch_shapes(graph, absent, samples, run))
    alone = [runs.rows[i : i + 1] for i in runs.rows] if runs.single else [runs.rows]
    runs.add_shapes(read_loop_shapes(graph, names, alone, samples, run))
    findings = _search_axes(runs, names, find_grown_states(graph, changing.names))
    evidence = _begin_evidence(runs, findings, names)
    runs.drop_comparisons()
    if not runs.single:
        # A condition, or a number of iterations, is that of a whole batch.
        findings.mixed.update(graph.decided.intersection(findings.axes))
    one_runs = _compare_groups(runs, findings, evidence)
    changes = _repeat(runs, findings)
    if changes.state:
        if run.optimization == UNOPTIMIZED:
            raise unrepeatable_error(graph, changes.state[0])
        run = replace(run, optimization=UNOPTIMIZED)
        return probe(graph, samples, bound=bound, run=run, known=known, statistics=statistics)
    indices = evidence.find()
    findings.counted.update(indices)
    tensors = []
    for name in names:
        if name in indices:
            tensors.append(_describe_rows(runs, name, types[name], indices[name]))
        elif name in findings.axes and name not in findings.no_samples:
            tensors.append(_describe_tensor(runs, findings, changes, name, types[name]))
    order = {name: place for place, name in enumerate(types)}
    tensors = sorted([*tensors, *changing.tensors], key=lambda tensor: order[tensor.name])
    for name in evidence.empty & findings.no_samples:
        findings.reasons[name] = counted_reason(runs.large[name].shape, tried=len(samples))
    skipped += [
        SkippedTensor(name, graph.operator(name), reason)
        for name, reason in findings.reasons.items()
        if name not in indices
    ]
    return Probe(
        tensors,
        skipped,
        first,
        runs.large,
        run,
        frozenset(findings.no_samples | findings.counted),
        one_runs,
        reference_of_parts(tensors, runs.large, statistics),
    )


@dataclass(slots=True)
class _Findings:
    """What the runs of a probe showed, by name of a tensor."""

    axes: dict[str, SampleAxis] = field(default_factory=dict)
    # Tensors whose samples depend on each other.
    mixed: set[str] = field(default_factory=set)
    # Tensors whose rows are not samples.
    no_samples: set[str] = field(default_factory=set)
    # Tensors whose rows are found in samples, which they can be divided among.
    counted: set[str] = field(default_factory=set)
    # Tensors whose shape for one sample varies, with the axes along which it does.
    varying: dict[str, frozenset[int]] = field(default_factory=dict)
    # Why other tensors cannot be stored by sample.
    reasons: dict[str, str] = field(default_factory=dict)


def _search_axes(runs: ProbeRuns, names: Iterable[str], grown: Collection[str]) -> _Findings:
    """Find the sample axis of each tensor; the shapes of ``grown`` depend on the data."""
    findings = _Findings()
    for name in names:
        first, counting = runs.large[name], runs.counted.get(name, frozenset())
        if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
            findings.reasons[name] = "no numeric tensor"
            continue
        axis = _find_axis(runs, findings, name)
        inner = None if runs.single else runs.graph.inner.get(name)
        if inner and isinstance(axis, SampleAxis) and inner.runs_backwards(axis.axis):
            axis = BACKWARDS
        if isinstance(axis, SampleAxis):
            is_counted = axis.axis in counting or not _rows_hold(runs, name, axis)
        else:
            # The first axes of a tensor in loops are iterations.
            found = [place for place in counting if place >= runs.graph.loops(name)]
            known = (
                axis not in (NOT_ALWAYS, NOT_ALWAYS_IN_BATCHES, NEVER) and name not in runs.random
            )
            is_counted = bool(found) and known
            if counting and not found:
                absent = runs.is_absent(name, first.shape)
                axis = NEVER if absent else no_axis_reason(first.shape)
        if is_counted:
            findings.no_samples.add(name)
            findings.reasons[name] = counted_reason(first.shape)
        elif isinstance(axis, str):
            if name in runs.random:
                axis = unknown_axis_reason(runs.random[name], first.shape)
            findings.reasons[name] = axis
        else:
            findings.axes[name] = axis
            varying = runs.varying_axes(name, axis)
            if varying or name in grown or _is_decided(runs, name) or runs.is_never_computed(name):
                findings.varying[name] = varying
            if varying and not runs.single:
                # The samples of a batch lie in one array, so they have one length.
                findings.mixed.add(name)
            if axis.axis is None and 0 in runs.surely_counted.get(name, ()):
                findings.counted.add(name)
    return findings


def _rows_hold(runs: ProbeRuns, name: str, axis: SampleAxis) -> bool:
    """Whether an axis is as long as there are samples whatever values these have."""
    shapes = (shapes[name] for shapes in runs.provoked)
    return runs.single or all(
        axis.holds(shape, len(runs.other_rows)) or runs.is_absent(name, shape) for shape in shapes
    )


def _is_decided(runs: ProbeRuns, name: str) -> bool:
    """Whether data decide about a branch or a number of iterations that make a tensor's shape.

    Samples to come may decide otherwise than the first ones, however much these are alike.
    """
    graph = runs.graph
    follows = bool(graph.inner) and name in graph.data_shaped
    return name in graph.controlled or (follows and bool(runs.counted.get(name)))


def _begin_evidence(runs: ProbeRuns, findings: _Findings, names: Iterable[str]) -> RowEvidence:
    """Begin to collect what runs show of rows without a sample axis."""
    candidates = [] if runs.single else [n for n in names if _may_be_rows(runs, findings, n)]
    # Where the samples are the boxes, they compete with each other.
    competing = [
        node.output[0]
        for node in runs.graph.nodes
        if node.op_type == "NonMaxSuppression"
        and findings.axes.get(node.input[0], SampleAxis(0)).axis != 0
    ]
    by_sample = [n for n, axis in findings.axes.items() if axis.axis == 0 and not axis.merged]
    evidence = RowEvidence(runs.graph, candidates, {*by_sample, *runs.fed}, competing)
    if evidence:
        evidence.add(runs.first_rows, runs.large)
        evidence.add(runs.other_rows, runs.small)
        evidence.add(np.roll(runs.rows, 1), runs.rolled)
        # Rows may be sorted, and so lie as the samples do in each of these runs.
        evidence.add(runs.rows[::-1], runs.run(runs.rows[::-1]))
        for values in runs.replaced:
            evidence.add(np.where(runs.rows == 0, FOREIGN, runs.rows), values)
    return evidence


def _may_be_rows(runs: ProbeRuns, findings: _Findings, name: str) -> bool:
    value, other = runs.large[name], runs.small[name]
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.ndim > 0
    if not numeric or name in findings.axes or name in runs.random:
        return False
    return 0 in runs.counted.get(name, ()) or value.shape[:1] != np.shape(other)[:1]


def _find_axis(runs: ProbeRuns, findings: _Findings, name: str) -> SampleAxis | str:
    """Find the sample axis of a tensor, or the reason why it has none."""
    first, other = runs.large[name], runs.small[name]
    counting = runs.counted.get(name, frozenset())
    axis: SampleAxis | str
    if runs.single:
        shapes = {_without(shape, counting) for shape in runs.shapes(name)}
        if not shapes:  # all that a sample to come computes is its own
            known = name in runs.graph.controlled and runs.graph.inner[name].rank is not None
            return SampleAxis(None) if known else NEVER
        axis = find_only_axis(shapes)
        column = axis == SampleAxis(1) and first.ndim == 2 and name not in runs.graph.inner
        if column and 0 in runs.surely_counted.get(name, ()):
            return SampleAxis(None)  # one number for each row of detections
        return axis
    absent = [runs.is_absent(name, value.shape) for value in (first, other)]
    if any(absent):
        if name not in runs.graph.controlled and all(absent):
            return NEVER
        return NOT_ALWAYS if runs.fixed else NOT_ALWAYS_IN_BATCHES
    if runs.fixed:
        axis = find_rolled_axis(first, other, runs.count)
        if isinstance(axis, str) and name not in runs.random:
            exchanged = {place: values[name] for place, values in runs.exchanged.items()}
            changed = find_changed_axis(first, exchanged, runs.count)
            if changed is not None:
                findings.mixed.add(name)
                axis = changed
    else:
        shape, smaller = _without(first.shape, counting), _without(other.shape, counting)
        axis = find_scaled_axis(shape, smaller, runs.count)
    if isinstance(axis, str) or axis.factor == 1 or axis.merged is not None:
        return axis
    rolled = runs.rolled[name]
    before = [findings.axes[i] for i in runs.graph.producer[name].input if i in findings.axes]
    if name in runs.random:
        return take_merged_order(axis, before)
    return find_merged_axis(first, rolled, axis, before)


def _compare_groups(runs: ProbeRuns, findings: _Findings, evidence: RowEvidence) -> bool:
    """Compare samples with what they are in other groups; whether one sample alone was run."""
    one_runs = runs.single
    groups: Iterable[Regrouped] = ()
    if not runs.single:
        compare = run_copies if runs.fixed else partial(run_regrouped, whole=runs.large)
        groups = compare(runs.count, run=runs.run)
    for group in groups:
        one_runs = one_runs or len(group.rows) == 1
        if evidence and not runs.fixed:
            evidence.add(group.rows, group.values)
        for name, axis in findings.axes.items():
            if runs.is_absent(name, np.shape(group.values[name])):
                continue
            if not lies_along(name, axis, runs.large[name].ndim, group):
                findings.no_samples.add(name)
                findings.reasons[name] = counted_reason(runs.large[name].shape)
            elif name not in findings.mixed and depends_on_others(
                name, axis, runs.large[name], group
            ):
                findings.mixed.add(name)
    return one_runs


def _repeat(runs: ProbeRuns, findings: _Findings) -> ChangedTensors:
    """Run the same batch again, unless values that samples have alone as well make it needless."""
    random = any(name in runs.random for name in findings.axes)
    again = runs.single or runs.fixed or findings.mixed or random
    if not again:
        return ChangedTensors({}, ())
    return find_changes(runs.graph, runs.large, runs.run(runs.first_rows), runs.random)


def _describe_tensor(
    runs: ProbeRuns, findings: _Findings, changes: ChangedTensors, name: str, onnx_type: str
) -> ProbedTensor:
    axis, value, is_mixed = findings.axes[name], runs.large[name], name in findings.mixed
    random = changes.random.get(name) or (runs.random.get(name) if is_mixed else None)
    return ProbedTensor(
        name=name,
        operator=runs.graph.operator(name),
        onnx_type=element_type(onnx_type),
        dtype=value.dtype,
        shape=axis.rest(runs.shape(name)),
        batch_axis=axis.axis,
        merged=axis.merged,
        varies=name in findings.varying,
        varying_axis=find_ragged_axis(runs, name, axis, findings.varying.get(name, ())),
        independent=random is not None or not is_mixed,
        random=random,
    )


def _describe_rows(runs: ProbeRuns, name: str, onnx_type: str, index: RowIndex) -> ProbedTensor:
    """Describe rows such as detections, of which an index says which sample they are of."""
    value = runs.large[name]
    places = read_places(runs.large[index.tensor], index.column, len(runs.first_rows))
    return ProbedTensor(
        name=name,
        operator=runs.graph.operator(name),
        onnx_type=element_type(onnx_type),
        dtype=value.dtype,
        shape=(int(np.count_nonzero(places == 0)), *value.shape[1:]),
        batch_axis=None,
        varies=True,
        varying_axis=0,
        index=index,
    )


def _without(shape: tuple[int, ...], counted: Collection[int]) -> tuple[int, ...]:
    """Hide axes from the search for the sample axis: they never scale, and are never one long."""
    return tuple(0 if axis in counted else size for axis, size in enumerate(shape))


def read_types(
    graph: Graph, names: Sequence[str], run: RunOptions
) -> tuple[dict[str, str], list[SkippedTensor], Session]:
    """Read the types of tensors from the runtime; tensors that NumPy cannot hold come second."""
    session = Session(make_readable(graph.model, names, inner=graph.inner).model, graph, run)
    types = session.types
    reasons = {name: find_unreadable(types[name]) for name in names}
    skipped = [SkippedTensor(n, graph.operator(n), text) for n, text in reasons.items() if text]
    return {name: types[name] for name, text in reasons.items() if not text}, skipped, session
