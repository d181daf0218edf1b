"""The model that a dump runs: chosen tensors and their statistics as outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from onnx import TensorProto

from cnatool._util.text import count_text
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.graph.outputs import element_type, make_readable, needs_cast
from cnatool.backend.io_binding import describe_fallback, open_session
from cnatool.backend.session import CPU
from cnatool.backend.statistics.channel_sums import (
    ChannelSums,
    any_nearly_constant,
    find_rearranged,
)
from cnatool.backend.statistics.graph_nodes import append_statistics
from cnatool.backend.statistics.inner_statistics import InnerMeasure, measure_inner
from cnatool.backend.statistics.real_positions import (
    REAL,
    count_real,
    declare_real_positions,
    keep_real,
    real_statistics,
)
from cnatool.backend.statistics.reduced_tensors import append_reduced, find_all_places
from cnatool.backend.statistics.reductions import MeasuredTensor
from cnatool.backend.statistics.sample_rows import read_rows
from cnatool.backend.statistics.token_nodes import (
    TOKEN_OUTPUTS,
    TokenMeasure,
)
from cnatool.errors import BackendError
from cnatool.metrics.tokens import TokenScores
from cnatool.records.ragged import Ragged, concatenate_rows
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.session import RunOptions
    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.records.choices import Statistic
    from cnatool.records.masks import MaskRecord
    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord, TokensRecord


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one run, sample axis first everywhere."""

    outputs: tuple[Rows, ...]  # the model's outputs, (n, …) each
    activations: dict[int, Rows]  # tensors kept whole, by number, (n, …) each
    # Of all T tensors, float64: the chosen statistics over each sample's elements; and where the
    # shape of a tensor varies ``count``, the number of these elements
    statistics: dict[str, NDArray[np.float64]]
    tokens: TokenScores | None = None  # of each sample, if tokens are compared with targets

    def take(self, rows: NDArray[np.int64]) -> Results:
        """Return some of the samples, in the order of ``rows``."""
        return Results(
            tuple(values[rows] for values in self.outputs),
            {number: values[rows] for number, values in self.activations.items()},
            {name: values[rows] for name, values in self.statistics.items()},
            None if self.tokens is None else self.tokens[rows],
        )


@dataclass(frozen=True, slots=True)
class _Batch:
    """The results of one batch of n samples, sample axis first everywhere."""

    samples: int
    whole: list[Rows]  # outputs and tensors kept whole
    # Of the tensors that are measured inside the graph: what the model returned, unless it reached
    # beyond float32 and the statistics were computed anew
    sums: list[NDArray[Any]]
    exact: Mapping[str, NDArray[np.float64]] | None
    # Statistics of the tensors that are fetched and not kept, by number; and ``count`` of all
    measured: dict[int, dict[Statistic, NDArray[np.float64]]]
    counts: NDArray[np.float64] | None
    tokens: TokenScores | None


class ExposedModel:
    """A model that returns chosen intermediate tensors, or statistics of them.

    Parameters
    ----------
    graph : Graph
    tensors : sequence of TensorRecord
        The tensors to expose: their statistics, and those with ``stored`` set whole as well.
    outputs : sequence of TensorRecord
        The model's outputs, always returned whole.
    probed : sequence of TensorRecord
        All the model's tensors; sums may be computed from any.
    fed : str
        An input with a row for each sample.
    run : RunOptions
    statistics : sequence of Statistic
        What is computed of each tensor.
    exact : collection of str
        Tensors whose statistics must be computed in float64 throughout.
    mask : MaskRecord or None
        What says which positions are real, where tensors have ``positions``.
    tokens : TokensRecord, optional
        Which scores are compared with a target for each token.
    reduced : sequence of ReducedTensor, optional
        Of ``tensors``, those that are reduced from others, all of them stored whole.

    Raises
    ------
    ModelError, BackendError
        If ONNX Runtime does not accept the model, or would run it elsewhere than asked.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Sequence[TensorRecord],
        outputs: Sequence[TensorRecord],
        probed: Sequence[TensorRecord],
        fed: str,
        run: RunOptions,
        statistics: Sequence[Statistic] = ("sum",),
        exact: Collection[str] = (),
        mask: MaskRecord | None = None,
        tokens: TokensRecord | None = None,
        reduced: Sequence[ReducedTensor] = (),
    ) -> None:
        self._fed = fed
        self._reduced = {each.tensor.name: each for each in reduced}
        self._mask = mask
        self._tensors = list(tensors)
        self._outputs = list(outputs)
        self._statistics = tuple(statistics)
        self._whole = [tensor for tensor in tensors if tensor.stored is not None]
        # Rows such as detections, which are divided among samples here.
        self._divided = [tensor for tensor in tensors if tensor.index]
        names = {tensor.name for tensor in (*self._outputs, *self._whole)}
        # Axes that are merged with that of samples, and not equally long in all runs, are told
        # apart here, unless the graph can do so by the number of samples alone.
        self._unmerged = [
            tensor
            for tensor in tensors
            if _is_open(tensor)
            and tensor.merged
            and (tensor.merged, tensor.batch_axis) != ("NT", 0)
        ]
        # Within a graph the runtime may leave out the rounding to float16.
        rounded = [t for t in tensors if t.dtype == "float16" and not _is_open(t)]
        measured_here = [*self._divided, *rounded, *self._unmerged]
        self._fetched = [
            *self._outputs,
            *self._whole,
            *(tensor for tensor in measured_here if tensor.name not in names),
        ]
        names.update(tensor.name for tensor in measured_here)
        # What is fetched whole is measured here, where it costs less than in the graph.
        self._inside = [tensor for tensor in tensors if tensor.name not in names]
        # Bodies return the number of elements by sample; of others that of the batch tells.
        self._varying = [t for t in self._inside if _is_open(t) and t.name not in graph.inner]
        self._is_counted = any(tensor.varies for tensor in tensors)
        types = {tensor.name: tensor.onnx_type or "" for tensor in (*outputs, *probed)}
        indices = [tensor.index.tensor for tensor in self._fetched if tensor.index]
        fetched = [t.name for t in self._fetched if t.name not in self._reduced]
        read = dict.fromkeys([*fetched, *indices])
        cast_inside = [
            tensor.name
            for tensor in self._inside
            if needs_cast(types[tensor.name]) and tensor.name not in graph.inner
        ]
        exposed = make_readable(graph.model, [*read, *cast_inside], types, graph.inner)
        cast = exposed.casts
        # Elsewhere than on the CPU all sums are exact: a GPU may compute in less than float32.
        shapes = _fixed_shapes(graph, probed, fed) if run.provider == CPU else {}
        measured = self._describe_measured(graph, shapes, cast, run, exact)
        # Padding is left out of these inside the graph.
        self._masks_inside = any(
            isinstance(m, MeasuredTensor) and m.positions for m in measured
        ) or any(each.masks for each in reduced)
        if self._masks_inside and mask is not None:
            declare_real_positions(exposed.model.graph, mask.length)
        self._sums_input = any(
            isinstance(each, MeasuredTensor) and each.sum and each.sum.elements for each in measured
        )
        self._measures = append_statistics(
            exposed.model,
            measured,
            statistics,
            shapes,
            graph.opset,
            fed,
            [cast.get(tensor.name, tensor.name) for tensor in self._varying],
        )
        counted = [] if self._measures.counted is None else [self._measures.counted]
        append_reduced(exposed.model, reduced, types, graph.opset, fed)
        self._read = [*read, *self._reduced]
        self._names = [*self._measures.widths, *counted, *(cast.get(n, n) for n in read)]
        self._names += [each.output for each in reduced]
        self._token_measure = None
        if tokens is not None:
            kind = element_type(types[tokens.output])
            merged = any(tensor.name == tokens.output and tensor.merged for tensor in probed)
            self._token_measure = TokenMeasure(
                exposed.model, tokens, kind, graph.opset, mask, merged=merged
            )
            self._names += TOKEN_OUTPUTS
        behind = exposed.model.graph.node[len(graph.model.graph.node) :]
        appended = [name for node in behind for name in node.output]
        self._session = open_session(exposed.model, graph, run, appended)
        fallback = describe_fallback(self._session)
        # What a user should know of how the model runs.
        self.notes = [] if fallback is None else [fallback]
        self._lock = Lock()
        self._exact: ExposedModel | None = None
        renumbered = [
            msgspec.structs.replace(tensor, number=number)
            for number, tensor in enumerate(self._inside)
        ]
        self._make_exact = partial(
            ExposedModel, graph, renumbered, (), probed, fed, run, statistics,
            [tensor.name for tensor in renumbered], mask,
        )  # fmt: skip

    def _describe_measured(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        cast: Mapping[str, str],
        run: RunOptions,
        exact: Collection[str],
    ) -> list[MeasuredTensor | InnerMeasure]:
        """Describe what is measured in the graph; ``shapes`` are those that sums in parts suit."""
        channel_sums = ChannelSums(graph, shapes)
        # Their planes are averaged anyway: the sum of the same averages costs nothing.
        averaged = {
            each.source.name
            for each in self._reduced.values()
            if each.reduction.positions == "mean"
        }
        measured: list[MeasuredTensor | InnerMeasure] = []
        for tensor in self._inside:
            if tensor.name in graph.inner:
                is_exact = run.provider != CPU or tensor.name in exact
                measured.append(measure_inner(tensor, graph.inner[tensor.name], exact=is_exact))
                continue
            in_parts = tensor.name in shapes and tensor.name not in exact
            # Padding has a place in the tensor itself.
            anywhere = in_parts and not tensor.positions
            name = find_rearranged(graph, tensor.name, shapes) if anywhere else tensor.name
            shape = shapes.get(name, tensor.shape)
            planes = anywhere and len(shape) == 3
            measured.append(
                MeasuredTensor(
                    name=cast.get(name, name),
                    shape=shape,
                    batch_axis=tensor.batch_axis,
                    merged=tensor.merged,
                    exact=not in_parts,
                    is_open=_is_open(tensor),
                    sum=channel_sums.find(name) if planes and name not in averaged else None,
                    positions=tensor.positions or (),
                )
            )
        return measured

    def run(self, batches: Iterable[Mapping[str, NDArray[Any]]], samples: int) -> Results:
        """Run a block of samples, one batch after another; the first ``samples`` rows are kept."""
        runs = [self._run_batch(feeds) for feeds in batches]
        whole = [
            concatenate_rows(parts) for parts in zip(*(batch.whole for batch in runs), strict=True)
        ]
        statistics = self._join(runs, whole)
        arrays = [array[:samples] for array in whole]
        count = len(self._outputs)
        scores = [batch.tokens for batch in runs if batch.tokens is not None]
        return Results(
            outputs=tuple(arrays[:count]),
            activations={t.number: a for t, a in zip(self._whole, arrays[count:], strict=True)},
            statistics={name: rows[:samples] for name, rows in statistics.items()},
            tokens=TokenScores.join(scores)[:samples] if scores else None,
        )

    def _run_batch(self, feeds: Mapping[str, NDArray[Any]]) -> _Batch:
        samples = len(feeds[self._fed])
        real = np.ones((samples, 0), bool) if self._mask is None else self._mask.find_real(feeds)
        fed = {**feeds, REAL: real} if self._masks_inside else feeds
        fed = {**fed, **find_all_places(list(self._reduced.values()), real)}
        run = partial(self._run_session, samples=samples)
        if self._token_measure is None:
            values, tokens = run(fed), None
        else:
            values, tokens = self._token_measure.run(fed, real, run)
        measures = self._measures
        sums, rest = values[: len(measures.widths)], values[len(measures.widths) :]
        # Sums in parts reach no further than float32, and mix what is not finite with zeros.
        in_parts = not self._inside or (
            measures.in_range(sums)
            and not (self._sums_input and any_nearly_constant(feeds[self._fed]))
        )
        exact = None if in_parts else self._exact_model().run([feeds], samples).statistics
        sizes = None if measures.counted is None else rest.pop(0)
        inner = measures.read_inner_counts(sums)
        self._check_counts(inner)
        fetched = dict(zip(self._read, rest, strict=True))
        whole = [self._read_tensor(tensor, fetched, samples, real) for tensor in self._fetched]
        kept = len(self._outputs) + len(self._whole)
        measured = {
            tensor.number: real_statistics(tensor, rows, real, self._statistics)
            for tensor, rows in zip(self._fetched[kept:], whole[kept:], strict=True)
        }
        counts = None
        if self._is_counted:
            counts = self._element_counts(real, sizes, inner, whole)
        return _Batch(samples, whole[:kept], sums, exact, measured, counts, tokens)

    def _read_tensor(
        self,
        tensor: TensorRecord,
        fetched: Mapping[str, NDArray[Any]],
        samples: int,
        real: NDArray[np.bool_],
    ) -> Rows:
        """Return the rows of a tensor, (n, …), without what is padding."""
        rows = read_rows(tensor, fetched, samples)
        reduced = self._reduced.get(tensor.name)
        return keep_real(tensor, rows, real) if reduced is None else reduced.trim(rows, real)

    def _kept_tensors(self, whole: Sequence[Rows]) -> Iterator[tuple[TensorRecord, Rows]]:
        """Yield the tensors among outputs and tensors kept whole, with their values."""
        yield from ((t, whole[t.output]) for t in self._tensors if t.output is not None)
        yield from zip(self._whole, whole[len(self._outputs) :], strict=True)

    def _join(
        self, runs: Sequence[_Batch], whole: Sequence[Rows]
    ) -> dict[str, NDArray[np.float64]]:
        """Join the statistics of batches; (n, T) each."""
        samples = sum(run.samples for run in runs)
        joined: dict[str, NDArray[np.float64]] = {
            name: np.empty((samples, len(self._tensors))) for name in self._statistics
        }
        if self._inside:
            numbers = [tensor.number for tensor in self._inside]
            for name, rows in self._read_sums(runs).items():
                joined[name][:, numbers] = rows
        # Of all batches at once, which costs less.
        for tensor, value in self._kept_tensors(whole):
            for name, row in row_statistics(value, self._statistics).items():
                joined[name][:, tensor.number] = row
        for number in runs[0].measured:
            for name in self._statistics:
                parts = [run.measured[number][name] for run in runs]
                np.concatenate(parts, out=joined[name][:, number])
        counts = [run.counts for run in runs if run.counts is not None]
        if counts:
            joined["count"] = np.concatenate(counts)
        return joined

    def _read_sums(self, runs: Sequence[_Batch]) -> Mapping[str, NDArray[np.float64]]:
        """Read what was measured inside the graph: of all batches at once, which costs less."""
        if all(run.exact is None for run in runs):
            parts = zip(*(run.sums for run in runs), strict=True)
            return self._measures.read([np.concatenate(part) for part in parts])
        each = [self._measures.read(run.sums) if run.exact is None else run.exact for run in runs]
        return {name: np.concatenate([rows[name] for rows in each]) for name in self._statistics}

    def _exact_model(self) -> ExposedModel:
        """Return the model that computes all statistics in float64; it is seldom needed."""
        with self._lock:
            if self._exact is None:
                self._exact = self._make_exact()
            return self._exact

    def _element_counts(
        self,
        real: NDArray[np.bool_],
        sizes: NDArray[Any] | None,
        inner: Mapping[int, NDArray[np.float64]],
        whole: Sequence[Rows],
    ) -> NDArray[np.float64]:
        """Count the elements of each of n samples, (n, T), from which of their positions are real.

        Of the tensors that vary, ``sizes`` are those of the whole batch, and ``inner`` those of
        samples by place among the tensors that are measured in the graph; ``whole`` are the rows of
        those that are fetched.
        """
        counts = np.array([math.prod(tensor.shape) for tensor in self._tensors], np.float64)
        samples = len(real)
        if sizes is not None:
            counts[[tensor.number for tensor in self._varying]] = sizes / samples
        counts = np.repeat(counts[None], samples, axis=0)
        for tensor in self._tensors:
            if tensor.positions:
                counts[:, tensor.number] = count_real(tensor, real)
        for place, numbers in inner.items():
            counts[:, self._inside[place].number] = numbers
        of_outputs = ((t, whole[t.output]) for t in self._tensors if t.output is not None)
        count = len(self._outputs)
        for tensor, rows in (*of_outputs, *zip(self._fetched[count:], whole[count:], strict=True)):
            if isinstance(rows, Ragged):
                counts[:, tensor.number] = rows.counts
            elif _is_open(tensor):
                counts[:, tensor.number] = math.prod(rows.shape[1:])
        return counts

    def _check_counts(self, inner: Mapping[int, NDArray[np.float64]]) -> None:
        """Refuse a batch that does not compute what the first one did of a tensor in a branch."""
        for place, numbers in inner.items():
            tensor = self._inside[place]
            expected = math.prod(tensor.shape)
            other = numbers[numbers != expected]
            if other.size and not tensor.varies:
                raise BackendError(
                    f"tensor {tensor.name!r} has {count_text(int(other[0]), 'element')} for a "
                    f"sample, and had {expected} in the first batch: leave it out with "
                    f"`tensors='!{tensor.name}'`, or choose another `batch_size`."
                )

    def _run_session(self, feeds: Mapping[str, NDArray[Any]], samples: int) -> list[NDArray[Any]]:
        try:
            values: list[NDArray[Any]] = self._session.run(self._names, feeds)
        except BackendError as error:
            if PREFIX not in str(error):
                raise
            # An appended node failed: the parts that it concatenates differ in length.
            raise BackendError(
                f"a tensor does not have one row for each of {count_text(samples, 'sample')}, as "
                "in the first batch: leave it out with `tensors='!NAME'`, or choose another "
                f"`batch_size`. ({error})"
            ) from error
        for (name, width), rows in zip(self._measures.widths.items(), values, strict=False):
            if rows.shape[1] != width:
                raise BackendError(
                    f"the shape of a tensor in a batch of {count_text(samples, 'sample')} is not "
                    "that of the first batch: leave it out with `tensors='!NAME'`, or choose "
                    f"another `batch_size`. ({name.removeprefix(PREFIX)} sums)"
                )
            if len(rows) != samples:
                raise BackendError(
                    f"tensors have {count_text(len(rows), 'row')} for "
                    f"{count_text(samples, 'sample')}, and had as many as samples "
                    "in the first batch: leave those out with `tensors='!NAME'`, or choose "
                    f"another `batch_size`. ({name.removeprefix(PREFIX)} sums)"
                )
        return values


def _is_open(tensor: TensorRecord) -> bool:
    """Whether the shape of a tensor in a run depends on the data; with padding it does not."""
    return tensor.varies and not tensor.positions


def _fixed_shapes(
    graph: Graph, probed: Sequence[TensorRecord], fed: str
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the float32 tensors that sums in parts suit: fixed, samples first."""
    declared = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
        for value in graph.model.graph.input
        if value.name == fed and value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return {name: shape for name, shape in declared.items() if all(shape)} | {
        tensor.name: tensor.shape
        for tensor in probed
        if tensor.dtype == "float32"
        and tensor.onnx_type in (None, "float")
        and tensor.batch_axis == 0
        and tensor.merged is None
        and not tensor.varies
        and tensor.name not in graph.data_shaped
        and tensor.name not in graph.inner
        and math.prod(tensor.shape) > 0
    }
