"""Which tensors a dump reduces, and to what; what cannot be reduced, with the reason."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from cnatool._util.names import complete_name, match_names
from cnatool._util.text import count_text
from cnatool.backend.graph.tensor_sources import find_sources
from cnatool.backend.select import INNER, RESIDUAL, narrow_dtype
from cnatool.backend.statistics.reduced_tensors import ReducedTensor
from cnatool.errors import UsageError
from cnatool.metrics.projection import (
    LARGEST_DENSE,
    LARGEST_SPARSE,
    DenseProjection,
    make_projection,
    spread_positions,
)
from cnatool.records.layout import ragged_axis
from cnatool.records.reductions import Reduction, ReductionRecord
from cnatool.records.store import TensorRecord
from cnatool.dumping.unit_axes import find_unit_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cnatool.backend.network import Network
    from cnatool.dumping.options import DumpOptions
    from cnatool.records.store import SkippedTensor

# Places of single positions, where samples differ, need GatherElements and Min of integers.
_FIRST_OPSET: Final = 12
# Numbers of the components of one tensor, in float32 64 MB.
_LARGEST_COMPONENTS: Final = 1 << 24
# Bytes of all random matrices and components, which are part of the model that runs.
_MATRIX_BYTES: Final = 512 << 20
# The operator of reduced tensors.
_OPERATOR: Final = "Reduction"


class Asked(NamedTuple):
    """A pattern of tensors, and a form that they are reduced to."""

    pattern: str
    form: Reduction

    def __str__(self) -> str:
        return f"`reduce={{{self.pattern!r}: {str(self.form)!r}}}`"


def plan_reductions(
    options: DumpOptions,
    network: Network,
    probed: Sequence[TensorRecord],
    skipped: Sequence[SkippedTensor],
    selected: Sequence[TensorRecord],
    note: Callable[[str], None],
) -> tuple[ReducedTensor, ...]:
    """Plan the reduced tensors of a dump; those of principal components have no matrix yet.

    ``probed`` are all tensors of the network that could be stored, ``selected`` those that are.
    """
    planned: dict[str, ReducedTensor] = {}
    taken = {tensor.name for tensor in (*probed, *selected)}
    for asked in map(Asked._make, options.reductions):
        refused: dict[str, str] = {}
        sources = _match_sources(asked, network, probed, skipped)
        for source in sources:
            name = asked.form.name(source.name)
            obstacle = _find_obstacle(source, asked.form, network)
            if obstacle is None and name in taken:
                obstacle = f"the network has a tensor {name!r} of its own"
            if obstacle is not None:
                refused[source.name] = obstacle
            elif name not in planned:
                number = len(selected) + len(planned)
                planned[name] = _plan(source, asked.form, number, network, selected, options)
        if len(refused) == len(sources):
            name, obstacle = next(iter(refused.items()))
            raise UsageError(f"{asked}: tensor {name!r} cannot be reduced so: {obstacle}.")
        if refused:
            name, obstacle = next(iter(refused.items()))
            note(
                f"{asked} leaves out {count_text(len(refused), 'tensor')}, first {name!r}: "
                f"{obstacle}"
            )
    _check_bytes(list(planned.values()))
    return tuple(planned.values())


def _match_sources(
    asked: Asked,
    network: Network,
    probed: Sequence[TensorRecord],
    skipped: Sequence[SkippedTensor],
) -> list[TensorRecord]:
    """Find the tensors that a pattern means; UsageError if there are none."""
    every = [tensor.name for tensor in probed]
    groups = {
        "all": every,
        "layers": [n for r in network.layers.layers for n in (r.linear, r.preactivation)],
        INNER: network.inner.intersection(every),
        RESIDUAL: set(network.layers.residual).intersection(every),
    }
    known = [*every, *(tensor.name for tensor in skipped)]
    pattern = asked.pattern
    full = pattern if pattern in groups else complete_name(known, pattern)
    names, unmatched = match_names(every, [full], groups)
    reasons = {tensor.name: tensor.reason for tensor in skipped}
    if full in reasons:
        raise UsageError(f"{asked}: tensor {full!r} is left out: {reasons[full]}.")
    if unmatched or not names:
        raise UsageError(
            f"{asked}: {network.graph.path} has no such tensor with a sample axis. "
            f"`cnatool inspect {network.graph.path}` lists them."
        )
    chosen = set(names)
    return [tensor for tensor in probed if tensor.name in chosen]


def _find_obstacle(source: TensorRecord, form: Reduction, network: Network) -> str | None:
    """Describe why a tensor cannot be reduced to a form; None if it can."""
    return next(_obstacles(source, form, network), None)


def _obstacles(source: TensorRecord, form: Reduction, network: Network) -> Iterator[str]:
    if source.index:
        yield "its rows are found in the data, such as detections"
    if source.name in network.graph.inner or source.conditional:
        yield "it lies in a loop or a branch"
    if 0 in source.shape:
        yield "it has no elements"
    open_ = source.varies and not source.positions
    if open_ and source.merged and (source.merged, source.batch_axis) != ("NT", 0):
        yield "its samples are merged with positions of which each has another number"
    if form.positions is None and source.varies:
        yield (
            "samples have other shapes, and one projection does not fit all: reduce positions "
            f"first, as in mean+{form}"
        )
    if source.varies and ragged_axis(source) is None and not source.positions:
        yield "its shape depends on the data, along more than one axis"
    if form.positions is not None:
        yield from _position_obstacles(source, form, network)
    if form.projected is not None:
        yield from _projection_obstacles(source, form)


def _position_obstacles(
    source: TensorRecord, form: Reduction, network: Network
) -> Iterator[str]:
    units = find_unit_axis(source)
    axes = [axis for axis in range(len(source.shape)) if axis != units]
    if len(source.shape) < 2:
        yield "it has no positions: a sample is a vector of units, and so reduced already"
        return
    if form.positions == "max" and source.dtype == "uint64":
        yield "no operator takes the maximum of uint64"
    if form.positions in ("mean", "max"):
        return
    differ = source.varies
    if differ and network.graph.opset < _FIRST_OPSET:
        yield (
            f"samples differ in length, and their positions can be told in models of opset "
            f"{_FIRST_OPSET} and later; this is one of {network.graph.opset}"
        )
    if len(axes) > 1 and (differ or form.positions != "sample"):
        sizes = "×".join(str(source.shape[axis]) for axis in axes)
        yield (
            f"its positions lie along {len(axes)} axes ({sizes}): take mean or max"
            + ("" if differ else ", or sample:K")
        )
    count = math.prod(source.shape[axis] for axis in axes)
    if form.positions == "index" and differ and form.place > 0:
        yield (
            f"samples differ in length, and not each has a position {form.place}: take cls, last "
            "or sample:K"
        )
    if form.positions == "index" and not differ and form.place >= count:
        yield f"it has the positions 0 to {count - 1}"
    if form.positions == "sample" and not differ and form.place >= count:
        yield f"it has {count_text(count, 'position')}: take fewer"


def _projection_obstacles(source: TensorRecord, form: Reduction) -> Iterator[str]:
    elements = _count_elements(source, form)
    if elements <= form.size:
        yield f"it has {count_text(elements, 'number')} a sample: take fewer than that"
    first = "" if form.positions else f". Reduce positions first, as in mean+{form}"
    sparse = form.projected == "project" and elements <= LARGEST_SPARSE
    most = LARGEST_DENSE if form.projected == "project" else _LARGEST_COMPONENTS
    if elements * form.size > most and not sparse:
        yield (
            f"{elements:,} numbers a sample are too many for a matrix to {form.size}{first}"
        )


def _count_elements(source: TensorRecord, form: Reduction) -> int:
    """Count the numbers of a sample that are projected."""
    if form.positions is None:
        return math.prod(source.shape)
    units = source.shape[find_unit_axis(source)] if source.shape else 1
    return units * (form.place if form.positions == "sample" else 1)


def _plan(
    source: TensorRecord,
    form: Reduction,
    number: int,
    network: Network,
    selected: Sequence[TensorRecord],
    options: DumpOptions,
) -> ReducedTensor:
    """Plan a tensor that can be reduced, number ``number`` of the store."""
    units = None if form.positions is None else find_unit_axis(source)
    kept: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    shape: tuple[int, ...] = (math.prod(source.shape),)
    axis = ragged_axis(source) if source.varies else None
    if units is not None:
        shape = (source.shape[units],)
    if units is not None and form.positions == "sample":
        count = math.prod(source.shape) // max(1, source.shape[units])
        places = spread_positions(count, form.place, options.seed)
        shape = (len(places), source.shape[units])
        kept = tuple(map(int, places)) if axis is None else msgspec.UNSET
    ragged = form.positions == "sample" and axis is not None
    matrix = None
    if form.projected == "project":
        matrix = make_projection(_count_elements(source, form), form.size, options.seed)
    dtype = _result_dtype(source.dtype, form)
    record = TensorRecord(
        number=number,
        name=form.name(source.name),
        operator=_OPERATOR,
        role="other",
        dtype=dtype,
        shape=shape if form.projected is None else (form.size,),
        batch_axis=0,
        kept="full",
        stored=narrow_dtype(dtype, options.dtype),
        varies=ragged,
        ragged_axis=0 if ragged else msgspec.UNSET,
        sources=_find_stored_sources(source, network, selected),
        padding=source.padding,
        reduction=ReductionRecord(
            source=source.name,
            form=str(form),
            shape=source.shape,
            unit_axis=msgspec.UNSET if units is None else units,
            seed=options.seed if form.draws else msgspec.UNSET,
            kept_positions=kept,
            method=msgspec.UNSET
            if matrix is None
            else ("gaussian" if isinstance(matrix, DenseProjection) else "sparse"),
            sha256=msgspec.UNSET if matrix is None else matrix.sha256,
        ),
    )
    return ReducedTensor(record, source, form, units, options.seed, matrix)


def _find_stored_sources(
    source: TensorRecord, network: Network, selected: Sequence[TensorRecord]
) -> tuple[int, ...]:
    """Find the numbers of the stored tensors that a tensor is, or is computed from."""
    numbers = {tensor.name: tensor.number for tensor in selected}
    if source.name in numbers:
        return (numbers[source.name],)
    names = {**numbers, source.name: -1}
    found = find_sources(network.graph, names).get(source.name, [])
    return tuple(numbers[name] for name in found)


def _result_dtype(dtype: str, form: Reduction) -> str:
    """Return the element type of a reduced tensor."""
    integer = np.dtype(dtype).kind in "iub"
    if form.projected is None and form.positions != "mean":
        return dtype
    if dtype == "float64" or (integer and form.projected is None):
        return "float64"
    return "float32"


def _check_bytes(planned: Sequence[ReducedTensor]) -> None:
    """Refuse matrices that are too large together for the model that runs."""
    total = 0
    shared: set[str] = set()
    for each in planned:
        form, digest = each.reduction, each.tensor.reduction and each.tensor.reduction.sha256
        item = np.dtype(each.tensor.dtype).itemsize
        elements = _count_elements(each.source, form)
        if form.projected == "pca":
            total += elements * form.size * item
        elif isinstance(each.matrix, DenseProjection) and digest not in shared:
            total += elements * form.size * item
        elif each.matrix is not None and digest not in shared:
            total += sum(len(places) for places in each.matrix.places) * (8 + item)  # type: ignore[union-attr]
        shared.add(str(digest))
        if total > _MATRIX_BYTES:
            raise UsageError(
                f"`reduce`: the matrices of {count_text(len(planned), 'tensor')} take more than "
                f"{_MATRIX_BYTES >> 20} MiB together. Name fewer tensors, or reduce positions "
                f"first, as in mean+{Reduction(projected=form.projected, size=form.size)}."
            )


def without_matrix(reduced: ReducedTensor) -> ReducedTensor:
    """Return what a reduced tensor is projected from, flattened: its positions reduced alone."""
    form = reduced.reduction
    units = reduced.source.shape[reduced.unit_axis or 0]
    shape: tuple[int, ...] = (_count_elements(reduced.source, form),)
    if form.positions == "sample":
        shape = (form.place, units)
    tensor = msgspec.structs.replace(
        reduced.tensor,
        name=f"{reduced.tensor.name} unprojected",
        shape=shape,
        stored=reduced.tensor.dtype,
        sources=msgspec.UNSET,
    )
    positions = Reduction(form.positions, form.place)
    return replace(reduced, tensor=tensor, reduction=positions, matrix=None)
