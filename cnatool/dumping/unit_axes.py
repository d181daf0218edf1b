"""The axis of a tensor's units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.records.layout import ragged_axis

if TYPE_CHECKING:
    from cnatool.records.store import TensorRecord


def find_unit_axis(tensor: TensorRecord) -> int:
    """Find the axis of one sample that has the units of a tensor; the others are positions."""
    rank = len(tensor.shape)
    apart = {*(tensor.positions or ())}
    axis = ragged_axis(tensor)
    if axis is not None:
        apart.add(axis)
    usual = 0 if rank != 2 else 1
    others = [k for k in range(rank) if k not in apart]
    if usual in others or not others:
        return usual
    return others[-1]
