"""The units of all tensors, from whole values or from what dumps counted of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cnatool.comparing.drift.tensor_means import share_of_rounding
from cnatool.comparing.drift.unit_drift import (
    UnitDifferences,
    compare_counted_units,
    compare_units,
)
from cnatool.records.unit_axis import count_units
from cnatool.store.unit_state import read_unit_state

if TYPE_CHECKING:
    from cnatool._util.observer import Observer
    from cnatool.comparing.drift.sides import Sides, TensorPair
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split
    from cnatool.store.unit_state import UnitState

_STATISTICS = (
    "{path} holds statistics of samples alone: `keep='full'` of `cnatool.dump` stores its values, "
    "and `units=True` counts them while dumping"
)


def compare_all_units(sides: Sides, observer: Observer) -> dict[str, UnitDifferences | str]:
    """Compare the units of each tensor, by its name; or return why there are none."""
    counted: list[UnitState | None] | None = None
    found: dict[str, UnitDifferences | str] = {}
    for pair in sides.pairs:
        if not (_is_whole(pair.first) and _is_whole(pair.second)) and counted is None:
            counted = [read_unit_state(split) for split in (sides.first, sides.second)]
        found[pair.first.name] = _compare_tensor(sides, pair, counted or [None, None], observer)
    return found


def _is_whole(tensor: TensorRecord) -> bool:
    return tensor.stored is not None or tensor.output is not None


def _compare_tensor(
    sides: Sides, pair: TensorPair, counted: list[UnitState | None], observer: Observer
) -> UnitDifferences | str:
    tensors = pair.first, pair.second
    for tensor in tensors:
        if tensor.dtype.startswith("complex") or tensor.dtype in ("object", "str"):
            return f"its values of type {tensor.dtype} have no order"
    units = count_units(pair.first, pair.axis)
    if pair.axis != pair.axis2 or units != count_units(pair.second, pair.axis2):
        return f"its shapes are {pair.first.shape} and {pair.second.shape}"
    rounding = max(share_of_rounding(tensor, stored=True) for tensor in tensors)
    if not all(map(_is_whole, tensors)):
        return _compare_counted(sides, pair, counted, rounding)
    return compare_units(
        sides.first.activations(pair.first.name),
        sides.second.activations(pair.second.name),
        pair.axis,
        units,
        rounding,
        partial(observer.progress, f"units of {pair.first.name}"),
    )


def _compare_counted(
    sides: Sides, pair: TensorPair, counted: list[UnitState | None], rounding: float
) -> UnitDifferences | str:
    """Compare what dumps counted of the units of a tensor, where both did."""
    found = []
    for split, tensor, axis, state in zip(
        (sides.first, sides.second),
        (pair.first, pair.second),
        (pair.axis, pair.axis2),
        counted,
        strict=True,
    ):
        units = None if state is None else state.tensors.get(tensor.number)
        if units is None:
            return _explain_uncounted(split, tensor)
        along = _counted_axis(split, tensor)
        if along != axis:
            return (
                f"{split.path} holds what was counted of its units along axis {along}: "
                f"`axes={{{tensor.name!r}: {along!r}}}` compares them"
            )
        if units.histogram is None:
            return f"{split.path} holds no histograms of its units"
        found.append((units.moments, units.histogram))
    first, second = found
    return compare_counted_units((first[0], second[0]), (first[1], second[1]), rounding)


def _explain_uncounted(split: Split, tensor: TensorRecord) -> str:
    if _is_whole(tensor):
        return (
            f"{split.path} holds its values, and the other store what was counted of its units: "
            "dump both in one way"
        )
    return _STATISTICS.format(path=split.path)


def _counted_axis(split: Split, tensor: TensorRecord) -> object:
    units = split.store.record.units
    return next((u.axis for u in units.tensors if u.number == tensor.number), None) if units else ""
