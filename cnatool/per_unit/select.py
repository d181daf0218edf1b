"""Which tensors of a store have their units counted, and along which axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.names import advise_on_name, complete_name, match_names
from cnatool._util.text import list_names
from cnatool.errors import MetricError, UsageError
from cnatool.per_unit.results import LeftOut
from cnatool.records.store import TensorRecord
from cnatool.records.unit_axis import find_unit_axis, list_unit_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cnatool.records.unit_axis import UnitAxis
    from cnatool.records.units import UnitsTensor
    from cnatool.store.store import Store

_ONLY_STATISTICS = (
    "only statistics of samples are stored: dump again with `units=True` (and `units_tensors`, if "
    "it is not a layer) to count its units, or with `keep='full'` to store it whole"
)


@dataclass(frozen=True, slots=True)
class SelectedTensor:
    """A tensor whose units are counted."""

    tensor: TensorRecord
    axis: UnitAxis
    measured: bool = False  # while it was dumped, since its values are not stored


def select_tensors(
    store: Store, patterns: Sequence[str], axes: Mapping[str, int | str | None]
) -> tuple[list[SelectedTensor], list[LeftOut]]:
    """Select tensors by name or glob.

    By default these are the layers, and what else was measured while it was dumped; if there are
    neither, all that are stored whole.

    Raises
    ------
    MetricError
        If there is none.
    UsageError
        If a pattern matches nothing, or an axis cannot have units.
    """
    tensors = {tensor.name: tensor for tensor in _list_tensors(store)}
    names = list(tensors)
    measured = _list_measured(store)
    if patterns:
        full = [complete_name(names, pattern) for pattern in patterns]
        chosen, unmatched = match_names(names, full)
        if unmatched:
            raise UsageError(
                f"`tensors={unmatched[0]!r}` matches no tensor of {store.path}. "
                f"{advise_on_name(unmatched[0], names, store.path)}"
            )
    else:
        # Numbers of a projection are no units of the network, unless somebody asks for them.
        own = [name for name in names if not _is_projected(tensors[name])] or names
        known = [name for name in own if _has_units(tensors[name], store)]
        layers = [name for name in own if tensors[name].role == "layer"]
        counted = [name for name in layers if name in known] or known or names
        others = [name for name in names if tensors[name].number in measured]
        # Layers that cannot be counted are named with the reason.
        shown = {*layers, *counted, *others}
        chosen = [name for name in names if name in shown] if known else names
    usable, left_out = [], []
    for name in chosen:
        reason = _find_reason(tensors[name], store)
        if reason is None:
            usable.append(tensors[name])
        else:
            left_out.append(LeftOut(name, reason))
    if not usable:
        first = left_out[0] if left_out else None
        if first is None:
            raise MetricError(f"{store.path}: no tensors are stored.")
        more = f" and {len(left_out) - 1:,} more" if len(left_out) > 1 else ""
        raise MetricError(f"{store.path}: of {first.tensor!r}{more}, {first.reason}.")
    found = find_axes(store.path, usable, axes)
    selected = []
    for tensor in usable:
        unit = None if _is_whole(tensor) else measured[tensor.number]
        if unit is None:
            selected.append(SelectedTensor(tensor, found[tensor.name]))
            continue
        asked = any(tensor.name in _match(usable, pattern) for pattern in axes)
        if asked and found[tensor.name] != unit.axis:
            raise UsageError(
                f"{store.path}: units of {tensor.name!r} were measured along axis {unit.axis} when "
                "it was dumped, and its values are not stored. Leave `axes` out for it."
            )
        form = msgspec.structs.replace(tensor, ragged_axis=unit.ragged_axis)
        selected.append(SelectedTensor(form, unit.axis, measured=True))
    return selected, left_out


def _list_tensors(store: Store) -> Iterable[TensorRecord]:
    """Yield the tensors, and the outputs that are none of them."""
    yield from store.tensors
    known = {tensor.output for tensor in store.tensors}
    for number, output in enumerate(store.record.outputs):
        if number not in known and not store.has_tensor(output.name):
            yield TensorRecord(
                number=-1,
                name=output.name,
                operator="",
                role="output",
                dtype=output.dtype,
                shape=output.shape,
                batch_axis=0,
                kept="full",
                output=number,
                ragged_axis=output.ragged_axis,
            )


def _is_projected(tensor: TensorRecord) -> bool:
    """Whether a tensor is reduced to numbers that each mix several units."""
    form = tensor.reduction
    if form is msgspec.UNSET:
        return False
    return form.method is not msgspec.UNSET or form.components is not msgspec.UNSET


def _is_whole(tensor: TensorRecord) -> bool:
    return tensor.stored is not None or tensor.output is not None


def _has_units(tensor: TensorRecord, store: Store) -> bool:
    """Whether a tensor is stored whole, or its units were measured while it was dumped."""
    return _is_whole(tensor) or tensor.number in _list_measured(store)


def _list_measured(store: Store) -> dict[int, UnitsTensor]:
    """Return the tensors whose units were measured while they were dumped, by number."""
    units = store.record.units
    return {unit.number: unit for unit in units.tensors} if units else {}


def _match(tensors: Sequence[TensorRecord], pattern: str) -> list[str]:
    names = [tensor.name for tensor in tensors]
    return match_names(names, [complete_name(names, pattern)])[0]


def _find_reason(tensor: TensorRecord, store: Store) -> str | None:
    """Return why the units of a tensor cannot be counted; None if they can."""
    if not _has_units(tensor, store):
        return _ONLY_STATISTICS
    if tensor.dtype.startswith("complex") or tensor.dtype in ("object", "str"):
        return f"its values of type {tensor.dtype} have no order"
    return None


def find_axes(
    path: Path,
    tensors: Sequence[TensorRecord],
    axes: Mapping[str, int | str | None],
    parameter: str = "axes",
) -> dict[str, UnitAxis]:
    """Return the axis of each tensor; the last pattern that matches it counts.

    ``path`` is that of the store, and ``parameter`` that of ``axes``, for messages.
    """
    if not isinstance(axes, Mapping):
        raise UsageError(
            f"`{parameter}={axes!r}` is not a mapping of tensors to axes, such as {{'*': -1}}."
        )
    found: dict[str, UnitAxis] = {tensor.name: find_unit_axis(tensor) for tensor in tensors}
    by_name = {tensor.name: tensor for tensor in tensors}
    for pattern, axis in axes.items():
        matches, unmatched = match_names(list(by_name), [complete_name(list(by_name), pattern)])
        if unmatched:
            raise UsageError(
                f"`{parameter}={{{pattern!r}: {axis!r}}}` matches none of the tensors that are "
                f"counted: {list_names(by_name)}."
            )
        for name in matches:
            found[name] = _check_axis(path, by_name[name], axis)
    return found


def _check_axis(path: Path, tensor: TensorRecord, axis: int | str | None) -> UnitAxis:
    """Return an axis that can have the units of a tensor; UsageError otherwise."""
    possible = list_unit_axes(tensor)
    shape = tuple(
        "…" if number == tensor.ragged_axis else size for number, size in enumerate(tensor.shape)
    )
    if axis == "element":
        if len(possible) == len(tensor.shape):
            return "element"
        raise UsageError(
            f"{path}: {tensor.name!r}, ({', '.join(map(str, shape))}) a sample, has samples "
            f"that differ in length, so its elements cannot be units. {_list_axes(possible)}"
        )
    try:
        number = None if axis is None else int(axis) if isinstance(axis, str) else index(axis)
    except (TypeError, ValueError):
        number = None
    if number is not None and -len(shape) <= number < len(shape):
        number %= len(shape)
        if number in possible:
            return number
    choices: list[int | str] = [
        *possible,
        *(["element"] if len(possible) == len(tensor.shape) else []),
    ]
    raise UsageError(
        f"{path}: axis {axis} of {tensor.name!r}, ({', '.join(map(str, shape))}) a sample, "
        f"cannot have its units. {_list_axes(choices)}"
    )


def describe_padding(tensors: Iterable[SelectedTensor]) -> str | None:
    """Return a note on tensors whose values include padding; None without such."""
    names = [each.tensor.name for each in tensors if each.tensor.padding == "counted"]
    return f"values of {list_names(names)} include those at padding" if names else None


def describe_axes(store: Store, tensors: Iterable[SelectedTensor]) -> str | None:
    """Return a note on axes of units that were taken for channels without knowing; or None."""
    if store.record.model is not None:
        return None
    doubtful = [
        each.tensor.name
        for each in tensors
        if len(each.tensor.shape) > 2 and each.axis == find_unit_axis(each.tensor) == 0
    ]
    if not doubtful:
        return None
    return (
        f"the units of {list_names(doubtful)} are taken to be the first axis of a sample, "
        "because the store does not record it; where channels are the last axis, as in Keras, "
        "choose `axes={'*': -1}`"
    )


def _list_axes(axes: Sequence[int | str]) -> str:
    """List the axes that a tensor's units may lie along, as a sentence."""
    return f"Use one of {list_names(axes)}." if axes else "All of it is one unit."
