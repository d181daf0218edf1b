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
from cnatool.backend.sums import SummedTensor, with_counts, with_sums
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph
    from cnatool.backend.session import RunOptions
    from cnatool.store.records import TensorRecord

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
        Of all T tensors, float64: ``sum``, over each sample's elements; and where the shape of a
        tensor varies ``count``, the number of these elements.
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
        The tensors to expose: their sums, and those with ``stored`` set whole as well.
    outputs : sequence of TensorRecord
        The model's outputs, always given whole.
    inputs : mapping of str to tuple of int
        Shape of one sample of the model's inputs.
    run : RunOptions
        How ONNX Runtime runs it.

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
        inputs: Mapping[str, tuple[int, ...]],
        run: RunOptions,
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
        self._summed = with_sums(
            exposed.model, _summed(graph, tensors, inputs, cast, run.provider), graph.opset
        )
        model, self._counts = with_counts(
            self._summed.model, [tensor.name for tensor in self._varying]
        )
        self._session = Session(model, graph.path, run)

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
        names = [*self._summed.outputs, *self._counts, *self._names]
        runs: list[list[NDArray[Any]]] = []
        lengths = []
        for feeds in batches:
            lengths.append(len(feeds[self._fed]))
            runs.append(self._one_run(names, feeds, lengths[-1]))
        columns = list(zip(*runs, strict=True))
        count = len(self._summed.outputs)
        sums = self._summed.sums([_joined(parts) for parts in columns[:count]])
        statistics = {"sum": sums[:samples]}
        if self._counts:
            statistics["count"] = self._element_counts(columns[count], lengths)[:samples]
        columns = columns[count + len(self._counts) :]
        arrays = [
            _joined(
                [
                    self._samples_first(tensor, part, length)
                    for part, length in zip(parts, lengths, strict=True)
                ]
            )[:samples]
            for tensor, parts in zip((*self._outputs, *self._whole), columns, strict=True)
        ]
        count = len(self._outputs)
        return Results(
            outputs=tuple(arrays[:count]),
            activations={t.number: a for t, a in zip(self._whole, arrays[count:], strict=True)},
            statistics=statistics,
        )

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
        for name, rows in zip(self._summed.outputs, values, strict=False):
            if rows.shape[1] != self._summed.widths[name]:
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


def _summed(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    inputs: Mapping[str, tuple[int, ...]],
    cast: Mapping[str, str],
    provider: str,
) -> list[SummedTensor]:
    """Say of each tensor how it is summed.

    Of a tensor whose values are stored the sum is exact, so that a score does not depend on whether
    it was made from the sums or from the values. Elsewhere than on the CPU it is exact too: a GPU
    may multiply matrices in less than float32. And where the shape may depend on the data, because
    a sum in parts counts on it.
    """
    linear = LinearSums(graph, inputs)
    summed = []
    for tensor in tensors:
        exact = (
            provider != CPU
            or tensor.stored is not None
            or tensor.output is not None
            or tensor.name in graph.data_shaped
            or tensor.varies
            or tensor.name in cast
        )
        one = SummedTensor(
            name=cast.get(tensor.name, tensor.name),
            dtype=np.dtype(tensor.dtype),
            shape=tensor.shape,
            batch_axis=tensor.batch_axis,
            merged=tensor.merged,
            exact=exact,
        )
        if not one.summed_exactly:
            one = replace(one, linear=linear.of(tensor.name, tensor.shape))
        summed.append(one)
    return summed


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
