"""Which tensors' units are measured while the model runs, and what is taken from it for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.memory import available_memory
from cnatool._util.names import advise_on_name, complete_name, find_named, match_names
from cnatool._util.text import bytes_text, count_text
from cnatool.backend.select import RESIDUAL, can_be_whole
from cnatool.errors import UsageError
from cnatool.metrics.unit_statistics import UNIT_BYTES
from cnatool.per_unit.select import find_axes
from cnatool.records.unit_axis import count_units
from cnatool.records.units import UnitsRecord, UnitsTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from cnatool.backend.network import Network
    from cnatool.dumping.options import DumpOptions
    from cnatool.records.store import TensorRecord


def plan_units(
    path: Path,
    options: DumpOptions,
    network: Network,
    tensors: Sequence[TensorRecord],
    probed: Sequence[TensorRecord],
    measured: Collection[str],
    note: Callable[[str], None],
) -> UnitsRecord | msgspec.UnsetType:
    """Decide which units are measured; UNSET if none are.

    ``measured`` are outputs that are too large to be taken from the model unless they are named.
    """
    if not options.units:
        return msgspec.UNSET
    names = [tensor.name for tensor in tensors]
    chosen = _select(options.unit_patterns, network, names, measured)
    whole = {tensor.name: tensor for tensor in probed}
    taken: list[TensorRecord] = []
    left: list[str] = []
    for tensor in tensors:
        if tensor.name not in chosen:
            continue
        form = _as_taken(tensor, whole.get(tensor.name))
        if form is not None and np.dtype(form.dtype).kind in "fiub" and 0 not in form.shape:
            taken.append(form)
        else:
            left.append(tensor.name)
    if not taken:
        raise UsageError(
            f"`units_tensors={' '.join(options.unit_patterns)!r}`: none of these tensors has "
            "units that can be told apart. `cnatool inspect MODEL` lists all tensors."
        )
    if left:
        note(
            f"units of {count_text(len(left), 'tensor')}, first {left[0]!r}, are not measured: "
            "samples differ along more than one axis, or the values are not numbers"
        )
    axes = find_axes(path, taken, options.units_axis or {}, "units_axis")
    units = UnitsRecord(
        tuple(
            UnitsTensor(
                form.number,
                axes[form.name],
                count_units(form, axes[form.name]),
                msgspec.UNSET if form.ragged_axis is msgspec.UNSET else form.ragged_axis,
            )
            for form in taken
        ),
        options.units_top,
    )
    _check_size(units)
    note(
        f"units of {count_text(len(taken), 'tensor')} are measured while the model runs: "
        f"{units.units:,}"
    )
    return units


def expose_units(
    tensors: Sequence[TensorRecord],
    units: UnitsRecord | msgspec.UnsetType,
    probed: Sequence[TensorRecord],
) -> tuple[TensorRecord, ...]:
    """Return tensors as they are taken from the model: whole also where their units are measured.

    So the values are those that the store would hold, without padding and in order of samples.
    """
    numbers = {tensor.number for tensor in units.tensors} if units else set()
    whole = {tensor.name: tensor for tensor in probed}
    exposed = []
    for tensor in tensors:
        form = _as_taken(tensor, whole.get(tensor.name)) if tensor.number in numbers else None
        exposed.append(tensor if form is None else form)
    return tuple(exposed)


def _as_taken(tensor: TensorRecord, probed: TensorRecord | None) -> TensorRecord | None:
    """Return a tensor of the store as it is taken whole; None where that is not possible.

    Only reductions are not ``probed``, and these are stored whole.
    """
    if tensor.stored is not None or tensor.output is not None:
        return tensor
    if probed is None or not can_be_whole(probed):
        return None
    ragged = probed.ragged_axis
    return msgspec.structs.replace(
        tensor,
        kept="full",
        stored=tensor.dtype,
        shape=tensor.shape if ragged is msgspec.UNSET else tensor.shape or (1,),
        ragged_axis=ragged,
    )


def _select(
    patterns: Sequence[str], network: Network, names: Sequence[str], measured: Collection[str]
) -> set[str]:
    layers = {n for r in network.layers.layers for n in (r.linear, r.preactivation)}
    groups = {
        "all": set(names),
        "layers": layers.intersection(names),
        RESIDUAL: set(network.layers.residual).intersection(names),
    }
    full = [p if p in groups else complete_name(names, p) for p in patterns]
    chosen, unmatched = match_names(names, full, groups)
    if unmatched:
        raise UsageError(
            f"`units_tensors={unmatched[0]!r}`: no tensor of the store has this name. Units are "
            "measured of tensors that `tensors` selects. "
            f"{advise_on_name(unmatched[0], names, network.graph.path)}"
        )
    asked = find_named(names, [pattern for pattern in full if pattern not in groups])
    return set(chosen) - (set(measured) - asked)


def _check_size(units: UnitsRecord) -> None:
    """Refuse more units than memory has room for."""
    size, available = units.units * UNIT_BYTES, available_memory()
    if available is not None and size > available:
        raise UsageError(
            f"{units.units:,} units take about {bytes_text(size)} while they are measured, and "
            f"{bytes_text(available)} of memory are available. Use `units_tensors` to measure "
            "fewer, or `units_axis` where each element is a unit."
        )
