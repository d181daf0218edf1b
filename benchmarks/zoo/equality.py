"""When a stored tensor equals its recomputed value, and how it is brought into the graph's shape.

Floating-point values are equal if they differ by no more than

- 1e-4 of the largest number of the tensor (float32; 4e-3 in half precision, 3e-2 in bfloat16), or
- 1e-6 of the largest number that the node reads, where what it reads cancels.

Two libraries add the terms of a sum in different orders: float32 has a relative error of 6e-8 for
each addition, a few thousand of which, with random signs, give some 1e-5. In half precision the
runtime keeps more digits between operators than it returns. A wrong tensor, sample or axis is off
by the size of the numbers themselves. Whole numbers are equal if they are the same; results of
quantised operators may be one level off, since a value between two levels is rounded either way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnatool.records.store import TensorRecord

RELATIVE = {"float16": 4e-3, "bfloat16": 3e-2}
OF_INPUTS = 1e-6
OF_SUMS = 1e-5  # of the sum of absolute values


def describe_difference(
    got: NDArray[Any], expected: NDArray[Any], operator: str = "", magnitude: float = 0.0
) -> str | None:
    """Describe how a stored tensor differs from its recomputed value; None if it does not."""
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    kind = np.dtype(expected.dtype)
    if not _is_float(kind):
        levels = int("Quant" in operator or "Integer" in operator or operator.startswith("QLinear"))
        if kind.kind in "iu" and levels:
            off = np.abs(got.astype(np.int64) - expected.astype(np.int64)) > levels
        else:
            off = got != expected
        return f"{off.sum()} of {off.size} elements differ" if off.any() else None
    relative = RELATIVE.get(kind.name, 1e-4 if kind.itemsize >= 4 else 0.13)
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    slack = max(relative * largest, OF_INPUTS * magnitude)
    with np.errstate(all="ignore"):
        close = np.isclose(got, expected, rtol=0, atol=slack, equal_nan=True)
        if close.all():
            return None
        worst = np.abs(got - expected)[~close].max()
    return (
        f"{(~close).sum()} of {close.size} elements differ, by up to {worst:.3g}, in a tensor of "
        f"numbers up to {largest:.3g}"
    )


def describe_sum_difference(
    sums: NDArray[np.float64], values: NDArray[Any], relative: float = OF_SUMS
) -> str | None:
    """Describe how the sums of samples differ from those of their whole values."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    with np.errstate(all="ignore"):
        expected, scale = flat.sum(axis=1), np.abs(flat).sum(axis=1)
        same = (np.abs(sums - expected) <= relative * scale) | ~np.isfinite(expected)
    if same.all():
        return None
    return f"sums {sums[~same][:2].tolist()} instead of {expected[~same][:2].tolist()}"


def as_in_graph(value: NDArray[Any], tensor: TensorRecord) -> NDArray[Any]:
    """Bring a stored tensor, samples first, into the shape that it has in the graph."""
    axis = tensor.batch_axis
    if axis is None:
        return np.asarray(value[0])
    if tensor.merged is None:
        return np.moveaxis(value, 0, axis)
    # The sample axis and another one are a single axis there; either may be the outer one.
    value = np.moveaxis(value, 0, axis if tensor.merged == "NT" else axis + 1)
    return value.reshape(*value.shape[:axis], -1, *value.shape[axis + 2 :])


def _is_float(kind: np.dtype[Any]) -> bool:
    return kind.kind in "fc" or kind.name.startswith(("bfloat", "float"))
