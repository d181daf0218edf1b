"""Which axis of a tensor has its units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import UNSET

if TYPE_CHECKING:
    from cnatool.records.store import TensorRecord

# An axis of one sample's shape; every element a unit; or None, the whole tensor being one unit.
UnitAxis: TypeAlias = int | Literal["element"] | None


def find_unit_axis(tensor: TensorRecord) -> int | None:
    """Return the axis of ``shape``, that of one sample, along which the units of a tensor lie.

    (D,) has a unit for each element, (T, D) for each feature, the last axis, and (C, H, W) or more
    for each channel, the first one, as in ONNX. Axes along which samples differ in length, or along
    which padding lies, are positions and never units: of what is left, the same rule. Where the
    network tells another axis, the tensor's ``unit_axis`` says so: channels are the first axis
    behind a convolution over one dimension, (C, T), and the last one of (H, W, C).

    Returns
    -------
    int or None
        None if the tensor is one unit: its shape is (), or all axes are positions.
    """
    if tensor.unit_axis is not UNSET:
        return tensor.unit_axis
    axes = list_unit_axes(tensor)
    if not axes:
        return None
    return axes[-1] if len(tensor.shape) == 2 else axes[0]


def list_unit_axes(tensor: TensorRecord) -> tuple[int, ...]:
    """Return the axes of ``shape`` that can have units: all but those of positions."""
    positions = set() if tensor.positions is UNSET else set(tensor.positions)
    if tensor.ragged_axis is not UNSET:
        positions.add(tensor.ragged_axis)
    return tuple(axis for axis in range(len(tensor.shape)) if axis not in positions)


def count_units(tensor: TensorRecord, axis: UnitAxis) -> int:
    """Return how many units a tensor has along an axis."""
    if axis == "element":
        return math.prod(tensor.shape)
    return 1 if axis is None else tensor.shape[axis]
