"""Two small runs that tell each tensor's dtype, its shape for one sample, and its sample axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.expose import exposable, promoted
from cnatool.backend.session import Session
from cnatool.store.records import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph

__all__ = ["ProbedTensor", "probe"]


@dataclass(frozen=True, slots=True)
class ProbedTensor:
    """What a probe found of one tensor.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    dtype : numpy.dtype
        Element type.
    shape : tuple of int
        Shape for one sample, the sample axis left out.
    batch_axis : int
        Where the sample axis is.
    """

    name: str
    operator: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int


def probe(
    graph: Graph, feeds: Mapping[str, NDArray[Any]], *, fixed_batch: bool, provider: str
) -> tuple[list[ProbedTensor], list[SkippedTensor]]:
    """Run a model on two batches of different size and see what scales with the samples.

    Parameters
    ----------
    graph : Graph
    feeds : mapping of str to ndarray
        Three samples for each input, sample axis first; the runs take all three, then two. With
        ``fixed_batch`` just one run takes them all.
    fixed_batch : bool
        The model accepts this number of samples only. Then a first axis of that size is taken
        for the sample axis.
    provider : str
        ONNX Runtime's name of the provider.

    Returns
    -------
    tensors : list of ProbedTensor
        In execution order.
    skipped : list of SkippedTensor
        Tensors that cannot be stored a row a sample, with the reason.

    Raises
    ------
    ModelError, BackendError
        If the model does not load or does not run.
    """
    names, skipped = exposable(graph)
    session = Session(promoted(graph.model, names), graph.path, provider=provider)
    large = session.run(names, feeds)
    count = len(next(iter(feeds.values())))
    small = large
    if not fixed_batch:
        small = session.run(names, {name: value[: count - 1] for name, value in feeds.items()})
    tensors = []
    for name, first, second in zip(names, large, small, strict=True):
        operator = graph.operator(name)
        if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
            skipped.append(SkippedTensor(name, operator, "no numeric tensor"))
            continue
        axis = _fixed_axis(first, count) if fixed_batch else _sample_axis(first, second, count)
        if isinstance(axis, str):
            skipped.append(SkippedTensor(name, operator, axis))
            continue
        shape = first.shape[:axis] + first.shape[axis + 1 :]
        tensors.append(ProbedTensor(name, operator, first.dtype, shape, axis))
    return tensors, skipped


def _sample_axis(large: NDArray[Any], small: NDArray[Any], count: int) -> int | str:
    """Give the axis that has the number of samples in both runs, or why there is none."""
    if large.ndim != small.ndim:
        return "its rank varies between batches"
    varying = [axis for axis in range(large.ndim) if large.shape[axis] != small.shape[axis]]
    if not varying:
        return f"no sample axis: shape {large.shape} whatever the number of samples"
    axis = varying[0]
    if len(varying) > 1 or (large.shape[axis], small.shape[axis]) != (count, count - 1):
        return f"no plain sample axis: {large.shape} for {count} samples, {small.shape} for " + str(
            count - 1
        )
    return axis


def _fixed_axis(array: NDArray[Any], count: int) -> int | str:
    if array.ndim and array.shape[0] == count:
        return 0
    return f"no sample axis: shape {array.shape} for the model's fixed batch of {count}"
