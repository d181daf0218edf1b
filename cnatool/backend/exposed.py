"""The model that a dump runs: chosen tensors and their statistics as outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.expose import PREFIX, needs_cast, readable
from cnatool.backend.linear_sums import LinearSums
from cnatool.backend.sample_axis import SampleAxis
from cnatool.backend.session import CPU, Session
from cnatool.backend.statistics import MeasuredTensor, append_statistics
from cnatool.errors import BackendError
from cnatool.store.row_statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph
    from cnatool.backend.session import RunOptions
    from cnatool.store.records import Statistic, TensorRecord

__all__ = ["ExposedModel", "Results"]


@dataclass(frozen=True, slots=True)
class Results:
    """What one run gave, sample axis first everywhere.

    Attributes
    ----------
    outputs : tuple of ndarray
        The model's outputs, (n, …) each.
    activations : dict of int to ndarray
        Tensors kept whole, by number, (n, …) each.
    statistics : dict of str to ndarray, shape (n, T)
        Of all T tensors, float64: the chosen statistics over each sample's elements; and where the
        shape of a tensor varies ``count``, the number of these elements.
    """

    outputs: tuple[NDArray[Any], ...]
    activations: dict[int, NDArray[Any]]
    statistics: dict[str, NDArray[np.float64]]


class ExposedModel:
    """A model ready to give chosen intermediates.

    Parameters
    ----------
    graph : Graph
    tensors : sequence of TensorRecord
        The tensors to expose: their statistics, and those with ``stored`` set whole as well.
    outputs : sequence of TensorRecord
        The model's outputs, always given whole.
    probed : sequence of TensorRecord
        All the model's tensors; sums may be taken from any.
    inputs : mapping of str to (dtype, tuple of int)
        Element type and shape of one sample of the model's inputs.
    run : RunOptions
        How ONNX Runtime runs it.
    statistics : sequence of Statistic
        What is computed of each tensor.
    exact : collection of str
        Tensors whose statistics must be taken in float64 throughout.

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
        inputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
        run: RunOptions,
        statistics: Sequence[Statistic] = ("sum",),
        exact: Collection[str] = (),
    ) -> None:
        self._fed = next(iter(inputs))
        self._tensors = list(tensors)
        self._outputs = list(outputs)
        self._whole = [tensor for tensor in tensors if tensor.stored is not None]
        self._varying = [tensor for tensor in tensors if tensor.varies]
        fetched = dict.fromkeys(tensor.name for tensor in (*self._outputs, *self._whole))
        types = {tensor.name: tensor.onnx_type or "" for tensor in (*outputs, *tensors)}
        exposed = readable(graph.model, [*fetched, *_only_cast(tensors, types, fetched)], types)
        cast = exposed.casts
        self._names = [cast.get(t.name, t.name) for t in (*self._outputs, *self._whole)]
        shapes = _plain_shapes(graph, probed, inputs)
        # What is fetched whole is measured here, where it costs less than in the graph.
        self._statistics = tuple(statistics)
        self._inside = [tensor for tensor in tensors if tensor.name not in fetched]
        self._measures = append_statistics(
            exposed.model,
            _measured(graph, self._inside, shapes, cast, run.provider, exact),
            statistics,
            shapes,
            graph.opset,
            [tensor.name for tensor in self._varying],
        )
        self._session = Session(exposed.model, graph.path, run)

    def run(self, batches: Iterable[Mapping[str, NDArray[Any]]], samples: int) -> Results:
        """Run a block of samples, one batch after another.

        Parameters
        ----------
        batches : iterable of mapping of str to ndarray
            What each run is fed.
        samples : int
            How many of the fed samples are real; the rest is padding and is dropped.

        Raises
        ------
        BackendError
            If an operator fails, or a tensor has another shape than in the probe.
        """
        counted = [] if self._measures.counted is None else [self._measures.counted]
        names = [*self._measures.widths, *counted, *self._names]
        runs: list[list[NDArray[Any]]] = []
        lengths = []
        for feeds in batches:
            lengths.append(len(feeds[self._fed]))
            runs.append(self._one_run(names, feeds, lengths[-1]))
        columns = list(zip(*runs, strict=True))
        count = len(self._measures.widths)
        statistics: dict[str, NDArray[np.float64]] = {
            name: np.empty((sum(lengths), len(self._tensors))) for name in self._statistics
        }
        if self._inside:
            numbers = [tensor.number for tensor in self._inside]
            given = self._measures.read([_joined(parts) for parts in columns[:count]])
            for name, values in given.items():
                statistics[name][:, numbers] = values
        if counted:
            statistics["count"] = self._element_counts(columns[count], lengths)
        whole = [
            [self._samples_first(t, part, n) for part, n in zip(parts, lengths, strict=True)]
            for t, parts in zip(
                (*self._outputs, *self._whole), columns[count + len(counted) :], strict=True
            )
        ]
        count = len(self._outputs)
        for tensor in self._tensors:
            if tensor.output is not None and not tensor.varies:
                self._measure(tensor, whole[tensor.output], statistics)
        for tensor, parts in zip(self._whole, whole[count:], strict=True):
            self._measure(tensor, parts, statistics)
        arrays = [_joined(parts)[:samples] for parts in whole]
        return Results(
            outputs=tuple(arrays[:count]),
            activations={t.number: a for t, a in zip(self._whole, arrays[count:], strict=True)},
            statistics={name: values[:samples] for name, values in statistics.items()},
        )

    def _measure(
        self,
        tensor: TensorRecord,
        parts: Sequence[NDArray[Any]],
        statistics: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Fill in the statistics of a tensor that is at hand whole, batch by batch."""
        start = 0
        for part in parts:
            for name, values in row_statistics(part, self._statistics).items():
                statistics[name][start : start + len(part), tensor.number] = values
            start += len(part)

    def _element_counts(
        self, found: Sequence[NDArray[Any]], samples: Sequence[int]
    ) -> NDArray[np.float64]:
        """Give the elements of each sample, (n, T), from whole batches' counts."""
        fixed = np.array([math.prod(tensor.shape) for tensor in self._tensors], np.float64)
        counts = np.repeat(fixed[None], sum(samples), axis=0)
        rows = np.repeat(np.array(found, np.float64) / np.array(samples)[:, None], samples, axis=0)
        counts[:, [tensor.number for tensor in self._varying]] = rows
        return counts

    def _one_run(
        self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], samples: int
    ) -> list[NDArray[Any]]:
        try:
            values: list[NDArray[Any]] = self._session.run(names, feeds)
        except BackendError as error:
            if PREFIX not in str(error):
                raise
            # One of our own nodes failed: what it joins is not equally long.
            raise BackendError(
                f"a tensor has not one row for each of {samples} samples, as it had in the first "
                f"batch: choose others with --tensors, or another --batch-size. ({error})"
            ) from error
        for (name, width), rows in zip(self._measures.widths.items(), values, strict=False):
            if rows.shape[1] != width:
                raise BackendError(
                    f"the shape of a tensor in a batch of {samples} samples is not that of the "
                    "first batch: choose others with --tensors, or another --batch-size. "
                    f"({name.removeprefix(PREFIX)} sums)"
                )
            if len(rows) != samples:
                raise BackendError(
                    f"tensors have {len(rows)} rows for {samples} samples, and had as many as "
                    "samples in the first batch: choose others with --tensors, or another "
                    f"--batch-size. ({name.removeprefix(PREFIX)} sums)"
                )
        return values

    def _samples_first(
        self, tensor: TensorRecord, value: NDArray[Any], samples: int
    ) -> NDArray[Any]:
        axis = SampleAxis.of(tensor.shape, tensor.batch_axis, tensor.merged)
        if value.ndim <= axis.axis or value.shape[axis.axis] != samples * axis.factor:
            raise BackendError(
                f"tensor {tensor.name!r} has shape {value.shape} for {samples} samples, and had "
                f"{tensor.shape} a sample in the first batch. Leave it out with --tensors, or "
                "choose another --batch-size."
            )
        value = axis.samples_first(value)
        if value.shape[1:] != tensor.shape:
            raise BackendError(
                f"tensor {tensor.name!r} has shape {value.shape[1:]} for a sample, and had "
                f"{tensor.shape} in the first batch: its shape depends on the data. "
                "Leave it out with --tensors."
            )
        return value


def _only_cast(
    tensors: Sequence[TensorRecord], types: Mapping[str, str], fetched: Mapping[str, object]
) -> list[str]:
    """Give the tensors of which only a sum is taken, through a Cast."""
    names = [tensor.name for tensor in tensors if tensor.name not in fetched]
    return [name for name in names if needs_cast(types[name])]


def _plain_shapes(
    graph: Graph,
    probed: Sequence[TensorRecord],
    inputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
) -> dict[str, tuple[int, ...]]:
    """Give the shapes for one sample of the tensors that sums can be taken from."""
    shapes = {name: shape for name, (dtype, shape) in inputs.items() if dtype == np.float32}
    for tensor in probed:
        plain = tensor.dtype == "float32" and tensor.onnx_type in (None, "float")
        first = tensor.batch_axis == 0 and tensor.merged is None
        fixed = not tensor.varies and tensor.name not in graph.data_shaped
        if plain and first and fixed and math.prod(tensor.shape) > 0:
            shapes[tensor.name] = tensor.shape
    return shapes


def _measured(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    shapes: Mapping[str, tuple[int, ...]],
    cast: Mapping[str, str],
    provider: str,
    exact: Collection[str],
) -> list[MeasuredTensor]:
    """Say of each tensor how it is summed.

    Elsewhere than on the CPU it is exact: a GPU may multiply matrices in less than float32. And
    where the shape may depend on the data, because a sum in parts counts on it.
    """
    linear = LinearSums(graph, shapes)
    measured = []
    for tensor in tensors:
        one = MeasuredTensor(
            name=cast.get(tensor.name, tensor.name),
            dtype=np.dtype(tensor.dtype),
            shape=tensor.shape,
            batch_axis=tensor.batch_axis,
            merged=tensor.merged,
            exact=(provider != CPU or tensor.name not in shapes or tensor.name in exact),
        )
        if one.in_parts:
            one = replace(one, sum=linear.of(tensor.name))
        measured.append(one)
    return measured


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
