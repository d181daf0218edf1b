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
        Samples for each input, all different, sample axis first. The first run takes all, the
        second one less.
    fixed_batch : bool
        The model accepts this number of samples only. Then the second run takes them in another
        order, and the sample axis is the one along which the results changed places.
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
    if fixed_batch:
        others = {name: np.roll(value, 1, axis=0) for name, value in feeds.items()}
    else:
        others = {name: value[: count - 1] for name, value in feeds.items()}
    second_run = session.run(names, others)
    tensors = []
    for name, first, second in zip(names, large, second_run, strict=True):
        operator = graph.operator(name)
        if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
            skipped.append(SkippedTensor(name, operator, "no numeric tensor"))
            continue
        axis = (
            _rolled_axis(first, second, count)
            if fixed_batch
            else _sample_axis(first, second, count)
        )
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


def _rolled_axis(first: NDArray[Any], second: NDArray[Any], count: int) -> int | str:
    """Give the axis along which results moved by one place as the samples did, or why none did."""
    fitting = [
        axis
        for axis in range(first.ndim)
        if first.shape[axis] == count and _close(np.roll(first, 1, axis), second)
    ]
    if not fitting:
        return f"no sample axis: shape {first.shape} for the model's fixed batch of {count}"
    if len(fitting) > 1 and count > 1 and not (first == first.flat[0]).all():
        return f"several axes may be the samples': shape {first.shape}"
    return fitting[0]


def _close(first: NDArray[Any], second: NDArray[Any]) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool((first == second).all())
    scale = float(np.abs(first).max(initial=0.0))
    return bool(np.allclose(first, second, rtol=1e-3, atol=1e-5 * scale, equal_nan=True))
