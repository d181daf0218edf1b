"""Runs of a model that returns chosen tensors, and their statistics by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.text import count_text
from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.io_binding import describe_fallback, open_session
from cnatool.backend.statistics.channel_sums import any_nearly_constant
from cnatool.backend.statistics.exposure import divide_tensors, expose, is_open
from cnatool.backend.statistics.real_positions import REAL, count_real, keep_real, real_statistics
from cnatool.backend.statistics.reduced_tensors import find_all_places
from cnatool.backend.statistics.sample_rows import read_rows
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
        self._statistics = tuple(statistics)
        self._is_counted = any(tensor.varies for tensor in tensors)
        self._divided = divide_tensors(graph, tensors, outputs)
        model, self._exposure = expose(
            graph, self._divided, probed, fed, run, statistics, exact, mask, tokens, reduced
        )
        self._session = open_session(model, graph, run, self._exposure.appended)
        fallback = describe_fallback(self._session)
        # What a user should know of how the model runs.
        self.notes = [] if fallback is None else [fallback]
        self._lock = Lock()
        self._exact: ExposedModel | None = None
        renumbered = [
            msgspec.structs.replace(tensor, number=number)
            for number, tensor in enumerate(self._divided.inside)
        ]
        self._make_exact = partial(
            ExposedModel, graph, renumbered, (), probed, fed, run, statistics,
            [tensor.name for tensor in renumbered], mask,
        )  # fmt: skip

    def run(self, batches: Iterable[Mapping[str, NDArray[Any]]], samples: int) -> Results:
        """Run a block of samples, one batch after another; the first ``samples`` rows are kept."""
        runs = [self._run_batch(feeds) for feeds in batches]
        whole = [
            concatenate_rows(parts) for parts in zip(*(batch.whole for batch in runs), strict=True)
        ]
        statistics = self._join(runs, whole)
        arrays = [array[:samples] for array in whole]
        count = len(self._divided.outputs)
        scores = [batch.tokens for batch in runs if batch.tokens is not None]
        return Results(
            outputs=tuple(arrays[:count]),
            activations={
                t.number: a for t, a in zip(self._divided.whole, arrays[count:], strict=True)
            },
            statistics={name: rows[:samples] for name, rows in statistics.items()},
            tokens=TokenScores.join(scores)[:samples] if scores else None,
        )

    def _run_batch(self, feeds: Mapping[str, NDArray[Any]]) -> _Batch:
        samples = len(feeds[self._fed])
        real = np.ones((samples, 0), bool) if self._mask is None else self._mask.find_real(feeds)
        fed = {**feeds, REAL: real} if self._exposure.takes_real else feeds
        fed = {**fed, **find_all_places(list(self._reduced.values()), real)}
        run = partial(self._run_session, samples=samples)
        if self._exposure.token_measure is None:
            values, tokens = run(fed), None
        else:
            values, tokens = self._exposure.token_measure.run(fed, real, run)
        measures = self._exposure.measures
        sums, rest = values[: len(measures.widths)], values[len(measures.widths) :]
        # Sums in parts reach no further than float32, and mix what is not finite with zeros.
        in_parts = not self._divided.inside or (
            measures.in_range(sums)
            and not (self._exposure.sums_input and any_nearly_constant(feeds[self._fed]))
        )
        exact = None if in_parts else self._exact_model().run([feeds], samples).statistics
        sizes = None if measures.counted is None else rest.pop(0)
        inner = measures.read_inner_counts(sums)
        self._check_counts(inner)
        fetched = dict(zip(self._exposure.read, rest, strict=True))
        whole = [
            self._read_tensor(tensor, fetched, samples, real) for tensor in self._divided.fetched
        ]
        kept = len(self._divided.outputs) + len(self._divided.whole)
        measured = {
            tensor.number: real_statistics(tensor, rows, real, self._statistics)
            for tensor, rows in zip(self._divided.fetched[kept:], whole[kept:], strict=True)
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
        yield from ((t, whole[t.output]) for t in self._divided.every if t.output is not None)
        yield from zip(self._divided.whole, whole[len(self._divided.outputs) :], strict=True)

    def _join(
        self, runs: Sequence[_Batch], whole: Sequence[Rows]
    ) -> dict[str, NDArray[np.float64]]:
        """Join the statistics of batches; (n, T) each."""
        samples = sum(run.samples for run in runs)
        joined: dict[str, NDArray[np.float64]] = {
            name: np.empty((samples, len(self._divided.every))) for name in self._statistics
        }
        if self._divided.inside:
            numbers = [tensor.number for tensor in self._divided.inside]
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
            return self._exposure.measures.read([np.concatenate(part) for part in parts])
        each = [
            self._exposure.measures.read(run.sums) if run.exact is None else run.exact
            for run in runs
        ]
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
        counts = np.array([math.prod(tensor.shape) for tensor in self._divided.every], np.float64)
        samples = len(real)
        if sizes is not None:
            counts[[tensor.number for tensor in self._divided.counted]] = sizes / samples
        counts = np.repeat(counts[None], samples, axis=0)
        for tensor in self._divided.every:
            if tensor.positions:
                counts[:, tensor.number] = count_real(tensor, real)
        for place, numbers in inner.items():
            counts[:, self._divided.inside[place].number] = numbers
        of_outputs = ((t, whole[t.output]) for t in self._divided.every if t.output is not None)
        count = len(self._divided.outputs)
        for tensor, rows in (
            *of_outputs,
            *zip(self._divided.fetched[count:], whole[count:], strict=True),
        ):
            if isinstance(rows, Ragged):
                counts[:, tensor.number] = rows.counts
            elif is_open(tensor):
                counts[:, tensor.number] = math.prod(rows.shape[1:])
        return counts

    def _check_counts(self, inner: Mapping[int, NDArray[np.float64]]) -> None:
        """Refuse a batch that does not compute what the first one did of a tensor in a branch."""
        for place, numbers in inner.items():
            tensor = self._divided.inside[place]
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
            values: list[NDArray[Any]] = self._session.run(self._exposure.names, feeds)
        except BackendError as error:
            if f"Name:'{PREFIX}" not in str(error):
                raise
            # An appended node failed: the parts that it concatenates differ in length.
            raise BackendError(
                f"a tensor does not have one row for each of {count_text(samples, 'sample')}, as "
                "in the first batch: leave it out with `tensors='!NAME'`, or choose another "
                f"`batch_size`. ({error})"
            ) from error
        for (name, width), rows in zip(
            self._exposure.measures.widths.items(), values, strict=False
        ):
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
