"""Small runs that tell each tensor's type, its shape for one sample, and its sample axis."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.outputs import element_type, list_exposable, make_readable
from cnatool.backend.graph.random_operators import find_random_tensors
from cnatool.backend.probe.axis_search import (
    find_changed_axis,
    find_merged_axis,
    find_only_axis,
    find_rolled_axis,
    find_scaled_axis,
    take_merged_order,
)
from cnatool.backend.probe.counted_axes import find_counted_axes, provoke_shapes
from cnatool.backend.probe.dependence import (
    Regrouped,
    depends_on_others,
    lies_along,
    run_copies,
    run_regrouped,
)
from cnatool.backend.probe.repeatability import UNOPTIMIZED, find_changes, unrepeatable_error
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.errors import BackendError
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.records.store import Merged


@dataclass(frozen=True, slots=True)
class ProbedTensor:
    """What a probe found of one tensor.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    onnx_type : str
        Element type in the graph, as ONNX names it.
    dtype : numpy.dtype
        Element type of the arrays that are read.
    shape : tuple of int
        Shape for one sample, the sample axis left out.
    batch_axis : int or None
        Where the sample axis is; None for a tensor that is one sample, and has none.
    merged : {"NT", "TN"} or None
        Whether the graph merges the sample axis with another, and which of the two is outer.
    varies : bool
        The rest of the shape depends on the data.
    independent : bool
        A sample's values are the same whatever samples are beside it, as far as they are not
        random.
    random : str or None
        The operator whose random numbers make its values differ from run to run.
    """

    name: str
    operator: str
    onnx_type: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int | None
    merged: Merged | None = None
    varies: bool = False
    independent: bool = True
    random: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found of a model, and what it gave.

    Attributes
    ----------
    tensors : list of ProbedTensor
        In execution order.
    skipped : list of SkippedTensor
        Tensors that cannot be stored a row a sample, with the reason.
    samples : Samples
        What the first run was fed.
    values : dict of str to ndarray
        What it gave for each tensor.
    run : RunOptions
        How ONNX Runtime ran it: as asked, or not optimised where only that repeats itself.
    counted : frozenset of str
        Of ``skipped``, the tensors whose rows count what was found in the data.
    one_runs : bool
        The model was seen to run with one sample.
    """

    tensors: list[ProbedTensor]
    skipped: list[SkippedTensor]
    samples: Samples
    values: dict[str, NDArray[Any]]
    run: RunOptions
    counted: frozenset[str] = frozenset()
    one_runs: bool = False


def probe(
    graph: Graph,
    samples: Samples,
    *,
    bound: int | None,
    run: RunOptions,
    known: Collection[str] = (),
) -> Probe:
    """Run a model on two batches of different size and see what scales with the samples.

    Parameters
    ----------
    graph : Graph
    samples : Samples
        Samples that all differ. The first run takes all, the second one less.
    bound : int or None
        The model accepts this number of samples only. With several, the second run takes them in
        another order, and the sample axis is the one along which the results changed places. With
        one, each sample has a run of its own, and all that a run gives belongs to its sample.
    run : RunOptions
        How ONNX Runtime runs it.
    known : collection of str
        Tensors that need no probe.

    Raises
    ------
    ModelError, BackendError
        If the model does not load or does not run.
    """
    names, skipped = list_exposable(graph)
    types, unreadable, session = read_types(graph, names, run)
    skipped += unreadable
    names = [name for name in types if name not in known]
    count = len(samples)
    if not names:
        return Probe([], skipped, samples.first(bound or count), {}, run)
    exposed = make_readable(graph.model, names, types)
    if exposed.casts or known:
        session = Session(exposed.model, graph.path, run)
    rows = np.arange(count)

    def ran(taken: NDArray[np.intp], fed: Samples = samples) -> dict[str, Any]:
        values = session.run(exposed.outputs, fed.feeds(taken))
        return dict(zip(names, values, strict=True))

    single, fixed_batch = bound == 1, bound is not None
    fed_rows = rows[:1] if single else rows
    large = ran(fed_rows)
    # Of a model that takes one sample: the shapes that each of them gave.
    singles = [_shapes(large), *(_shapes(ran(rows[i : i + 1])) for i in range(1, count * single))]
    others = rows[:1] if single else np.roll(rows, 1) if fixed_batch else rows[: count - 1]
    small = large if single else ran(others)
    random = find_random_tensors(graph)
    fed = samples.feeds(fed_rows)
    counted = find_counted_axes(graph, _shapes(fed) | _shapes(large))
    provoked = provoke_shapes(graph, samples, others, ran)
    rolled: dict[str, Any] = {}
    # Of a bound model: what it gives with one sample exchanged for another.
    exchanged: list[dict[str, Any]] = []
    places = (0, count - 1)
    axes: dict[str, SampleAxis] = {}
    # Tensors whose samples depend on each other.
    mixed: set[str] = set()
    # Tensors whose rows are no samples.
    no_samples: set[str] = set()
    varying: set[str] = set()
    for name in names:
        first, other = large[name], small[name]
        operator = graph.operator(name)
        if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
            skipped.append(SkippedTensor(name, operator, "no numeric tensor"))
            continue
        counting = counted.get(name, frozenset())
        seen = (*singles, *(provoked if single else ()))
        shapes = {given[name] for given in seen if name in given}
        if single:
            found = find_only_axis({_without(shape, counting) for shape in shapes})
        elif fixed_batch:
            found = find_rolled_axis(first, other, count)
            if isinstance(found, str) and name not in random:
                with suppress(BackendError):
                    # The last sample in place of the first, then the first in place of the last.
                    exchanged = exchanged or [
                        ran(np.where(rows == place, count - 1 - place, rows)) for place in places
                    ]
                pairs = zip(places, (given[name] for given in exchanged), strict=False)
                axis = find_changed_axis(first, dict(pairs), count)
                if axis is not None:
                    mixed.add(name)
                    found = axis
        else:
            found = find_scaled_axis(
                _without(first.shape, counting), _without(other.shape, counting), count
            )
        if isinstance(found, SampleAxis) and found.factor > 1 and found.merged is None:
            rolled = rolled or ran(np.roll(rows, 1))
            before = [axes[i] for i in graph.producer[name].input if i in axes]
            if name in random:
                found = take_merged_order(found, before)
            else:
                found = find_merged_axis(first, rolled[name], found, before)
        if isinstance(found, SampleAxis):
            rows_hold = single or all(found.holds(one[name], len(others)) for one in provoked)
            if found.axis in counting or not rows_hold:
                no_samples.add(name)
        elif counting and name not in random:
            no_samples.add(name)
        elif name in random:
            found = f"random ({random[name]}), so its sample axis is unknown: shape {first.shape}"
        if isinstance(found, str) or name in no_samples:
            reason = _counted_text(first.shape) if name in no_samples else str(found)
            skipped.append(SkippedTensor(name, operator, reason))
            continue
        axes[name] = found
        # Where each sample has a run of its own, the runs themselves have shown it.
        rest = found.samples_first(first).shape[1:] != found.samples_first(other).shape[1:]
        if rest or len(shapes) > 1 or (counting and not single):
            varying.add(name)
    del small, rolled, exchanged
    one_runs = single
    parts: Iterable[Regrouped] = ()
    if not single:
        parts = run_copies(count, ran) if fixed_batch else run_regrouped(count, large, ran)
    for part in parts:
        one_runs = one_runs or len(part.rows) == 1
        for name, axis in axes.items():
            if not lies_along(name, axis, large[name].ndim, part):
                no_samples.add(name)
            elif name not in mixed and depends_on_others(name, axis, large[name], part):
                mixed.add(name)
    # Values that the samples have alone as well are the same in every run.
    repeated = single or fixed_batch or mixed or any(name in random for name in axes)
    changed = find_changes(graph, large, ran(fed_rows) if repeated else large, random)
    if changed.state:
        if run.optimization == UNOPTIMIZED:
            raise unrepeatable_error(graph, changed.state[0])
        run = replace(run, optimization=UNOPTIMIZED)
        return probe(graph, samples, bound=bound, run=run, known=known)
    tensors: list[ProbedTensor] = []
    for name, axis in axes.items():
        operator = graph.operator(name)
        if name in no_samples:
            skipped.append(SkippedTensor(name, operator, _counted_text(large[name].shape)))
            continue
        draws = changed.random.get(name) or (random.get(name) if name in mixed else None)
        tensors.append(
            ProbedTensor(
                name=name,
                operator=operator,
                onnx_type=element_type(types[name]),
                dtype=large[name].dtype,
                shape=axis.samples_first(large[name]).shape[1:],
                batch_axis=axis.axis,
                merged=axis.merged,
                varies=name in varying,
                independent=draws is not None or name not in mixed,
                random=draws,
            )
        )
    return Probe(
        tensors, skipped, samples.first(bound or count), large, run, frozenset(no_samples), one_runs
    )


def _without(shape: tuple[int, ...], counted: Collection[int]) -> tuple[int, ...]:
    """Hide axes from the search for the sample axis: they never scale, and are never one long."""
    return tuple(0 if axis in counted else size for axis, size in enumerate(shape))


def _counted_text(shape: tuple[int, ...]) -> str:
    return f"its rows count what was found in the data, not samples: shape {shape}"


def read_types(
    graph: Graph, names: Sequence[str], run: RunOptions
) -> tuple[dict[str, str], list[SkippedTensor], Session]:
    """Ask the runtime for the types of tensors."""
    session = Session(make_readable(graph.model, names).model, graph.path, run)
    types = session.types
    reasons = {name: _unreadable(types[name]) for name in names}
    skipped = [SkippedTensor(n, graph.operator(n), text) for n, text in reasons.items() if text]
    return {name: types[name] for name, text in reasons.items() if not text}, skipped, session


def _shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(value) for name, value in values.items() if value is not None}


def _unreadable(kind: str) -> str | None:
    """Say why values of an ONNX type cannot be stored as an array; None where they can."""
    for start, word in (
        ("seq", "a sequence"),
        ("map", "a map"),
        ("optional", "optional"),
        ("sparse", "a sparse tensor"),
        ("tensor(string", "strings"),
        ("tensor(complex", "complex numbers"),
    ):
        if kind.startswith(start):
            return f"{word}, not an array of numbers"
    return None
