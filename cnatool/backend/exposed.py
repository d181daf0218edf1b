"""The model that a dump runs: chosen tensors and their statistics as outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.expose import promoted
from cnatool.backend.linear_sums import LinearSums
from cnatool.backend.session import Session
from cnatool.backend.sums import SummedTensor, with_sums
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph
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
    sums : ndarray, shape (n, T)
        Sum over each sample's elements of all T tensors, float64.
    """

    outputs: tuple[NDArray[Any], ...]
    activations: dict[int, NDArray[Any]]
    sums: NDArray[np.float64]


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
    provider : str
        ONNX Runtime's name of the provider.
    threads : int
        Threads of one operator; 0 leaves it to ONNX Runtime.

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
        *,
        provider: str,
        threads: int,
    ) -> None:
        self._outputs = list(outputs)
        self._whole = [tensor for tensor in tensors if tensor.stored is not None]
        self._names = [tensor.name for tensor in (*self._outputs, *self._whole)]
        # Of a tensor whose values are stored the sum is exact, so that a score does not depend on
        # whether it was made from the sums or from the values. Elsewhere than on the CPU it is
        # exact too: a GPU may multiply matrices in less than float32.
        on_cpu = provider == "CPUExecutionProvider"
        linear = LinearSums(graph, inputs)
        summed = []
        for tensor in tensors:
            exact = not on_cpu or tensor.stored is not None or tensor.output is not None
            partial = not exact and tensor.dtype == "float32" and tensor.batch_axis == 0
            summed.append(
                SummedTensor(
                    name=tensor.name,
                    dtype=np.dtype(tensor.dtype),
                    shape=tensor.shape,
                    batch_axis=tensor.batch_axis,
                    exact=exact,
                    linear=linear.of(tensor.name, tensor.shape) if partial else None,
                )
            )
        self._summed = with_sums(promoted(graph.model, self._names), summed, graph.opset)
        model = self._summed.model
        self._session = Session(model, graph.path, provider=provider, threads=threads)

    def run(self, batches: Iterable[Mapping[str, NDArray[Any]]], samples: int) -> Results:
        """Run a block of samples, one batch after another.

        Parameters
        ----------
        batches : iterable of mapping of str to ndarray
            Inputs of each run, sample axis first.
        samples : int
            How many of the fed samples are real; the rest is padding and is dropped.

        Raises
        ------
        BackendError
            If an operator fails, or a tensor has another shape than in the probe.
        """
        names = [*self._summed.outputs, *self._names]
        columns = list(zip(*(self._session.run(names, feeds) for feeds in batches), strict=True))
        count = len(self._summed.outputs)
        sums = self._summed.sums([_joined(parts) for parts in columns[:count]])
        arrays = [
            _joined([self._samples_first(tensor, part) for part in parts])[:samples]
            for tensor, parts in zip((*self._outputs, *self._whole), columns[count:], strict=True)
        ]
        count = len(self._outputs)
        return Results(
            outputs=tuple(arrays[:count]),
            activations={t.number: a for t, a in zip(self._whole, arrays[count:], strict=True)},
            sums=sums[:samples],
        )

    def _samples_first(self, tensor: TensorRecord, value: NDArray[Any]) -> NDArray[Any]:
        value = np.moveaxis(value, tensor.batch_axis, 0)
        if value.shape[1:] != tensor.shape:
            raise BackendError(
                f"tensor {tensor.name!r} has shape {value.shape[1:]} for a sample, and had "
                f"{tensor.shape} in the first batch: its shape depends on the data. "
                "Leave it out with --tensors."
            )
        return value


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
