"""Statistics over real positions only: padding is left out before anything is added up.

What lies at padding may be anything, NaN and infinities among it, so it is replaced and never
multiplied by 0. Where an axis has no positions, it is reduced first, and padding is left out of the
much smaller result.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto

from cnatool.backend.graph.nodes import PREFIX
from cnatool.backend.statistics.reductions import EXTREMES, LONGEST_SUM
from cnatool.records.ragged import Ragged
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.reductions import MeasuredTensor, ReductionNodes
    from cnatool.records.choices import Statistic
    from cnatool.records.ragged import Rows
    from cnatool.records.store import TensorRecord

# The input of the exposed model that holds which positions are real, (n, positions) bool.
REAL: Final = f"{PREFIX}real positions"
# The first opset with Where.
FIRST_OPSET: Final = 9
# What takes the place of padding.
_NEUTRAL: Final[Mapping[Statistic, float]] = {"min": math.inf, "max": -math.inf}


def declare_real_positions(graph: onnx.GraphProto, length: int) -> None:
    """Add the input that says which positions are real to a graph."""
    shape: list[str | int | None] = ["samples of real positions", length]
    graph.input.append(onnx.helper.make_tensor_value_info(REAL, TensorProto.BOOL, shape))


def reduce_real(nodes: ReductionNodes, tensor: MeasuredTensor, statistic: Statistic) -> str:
    """Add a statistic of a tensor over its real positions in float64, (n, 1)."""
    sample, axes = _full_axes(tensor)
    if tensor.batch_axis is None:
        name = nodes.reshape(tensor.name, [1, *tensor.shape])
    else:
        name = nodes.split_samples(tensor)
    name = nodes.add("Cast", [name], to=TensorProto.DOUBLE)
    if statistic not in EXTREMES:
        name = nodes.apply_elementwise(name, statistic, TensorProto.DOUBLE)
    others = [k for k in range(len(tensor.shape) + 1) if k != sample and k not in axes]
    if others:
        name = nodes.reduce_statistic(statistic, name, others)
    kept = sorted({sample, *axes})
    place = kept.index(sample)
    left = [k for k in range(len(kept)) if k != place]
    real = _real(nodes, len(kept), place, left, tensor.shape[tensor.positions[0]])
    neutral = nodes.constant(
        f"neutral to {statistic}", np.array([_NEUTRAL.get(statistic, 0.0)], np.float64)
    )
    name = nodes.add("Where", [real, name, neutral])
    return nodes.columns(nodes.reduce_statistic(statistic, name, left), 1)


def sum_real_rows(
    nodes: ReductionNodes, tensor: MeasuredTensor, statistic: Statistic
) -> tuple[str, NDArray[np.float64]]:
    """Add float32 sums along the last axes, (n, sums), and return the weight of each, (sums, 1).

    The tensor has samples first.
    """
    name = nodes.apply_elementwise(tensor.name, statistic, TensorProto.FLOAT)
    shape, axes = tensor.shape, [k + 1 for k in tensor.positions]
    if len(shape) not in axes:
        name = nodes.reduce_axes("ReduceSum", name, [len(shape)])
        shape = shape[:-1]
    real = _real(nodes, len(shape) + 1, 0, axes, tensor.shape[tensor.positions[0]])
    zero = nodes.constant("zero", np.zeros(1, np.float32))
    name = nodes.add("Where", [real, name, zero])
    # Sums of as many numbers again stay exact enough; fewer numbers leave the graph.
    while len(shape) > 1 and shape[-1] <= LONGEST_SUM:
        name = nodes.reduce_axes("ReduceSum", name, [len(shape)])
        shape = shape[:-1]
    count = math.prod(shape)
    return nodes.columns(name, count), np.ones((count, 1))


def _full_axes(tensor: MeasuredTensor) -> tuple[int, list[int]]:
    """Return the sample axis of a tensor whose samples are split apart, and those of positions."""
    if tensor.batch_axis is None:
        return 0, [k + 1 for k in tensor.positions]
    sample = tensor.batch_axis + (tensor.merged == "TN")
    return sample, [k + (k >= sample) for k in tensor.positions]


def _real(nodes: ReductionNodes, rank: int, sample: int, axes: Sequence[int], length: int) -> str:
    """Add which elements are real, to be broadcast to a tensor with these axes."""
    known = nodes.masks.get((rank, sample, *axes))
    if known is not None:
        return known
    parts = []
    for axis in axes:
        name = REAL
        if axis < sample:
            name = nodes.add("Transpose", [name], perm=[1, 0])
        shape = [1] * rank
        shape[axis], shape[sample] = length, -1
        parts.append(nodes.reshape(name, shape))
    whole = parts[0]
    for part in parts[1:]:
        whole = nodes.add("And", [whole, part])
    nodes.masks[rank, sample, *axes] = whole
    return whole


def keep_real(tensor: TensorRecord, rows: Rows, real: NDArray[np.bool_]) -> Rows:
    """Leave padding out of the values of samples that are ragged along their positions."""
    if not isinstance(rows, Ragged) or not tensor.positions:
        return rows
    return Ragged.from_lengths(rows.values[real.reshape(-1)], real.sum(axis=1), rows.axis)


def real_statistics(
    tensor: TensorRecord, values: Rows, real: NDArray[np.bool_], names: Sequence[Statistic]
) -> dict[Statistic, NDArray[np.float64]]:
    """Compute statistics of rows, (n, …), over real positions, along one axis or several; (n,)."""
    if isinstance(values, Ragged) or not tensor.positions:
        return row_statistics(values, names)
    inside: Any = np.True_
    for axis in tensor.positions:
        shape = [len(real), *([1] * len(tensor.shape))]
        shape[axis + 1] = real.shape[1]
        inside = inside & real.reshape(shape)
    statistics: dict[Statistic, NDArray[np.float64]] = {}
    for name in names:
        kept = np.where(inside, values, values.dtype.type(0))
        if name in EXTREMES:
            kept = np.where(inside, values.astype(np.float64), _NEUTRAL[name])
        statistics |= row_statistics(kept, [name])
    return statistics


def count_real(tensor: TensorRecord, real: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count the elements of each sample at real positions, (n,)."""
    axes = tensor.positions or ()
    rest = math.prod(size for axis, size in enumerate(tensor.shape) if axis not in axes)
    counts: NDArray[np.float64] = rest * real.sum(axis=1).astype(np.float64) ** len(axes)
    return counts
