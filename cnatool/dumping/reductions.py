"""Which tensors a dump reduces, and to what; what cannot be reduced, with the reason."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from cnatool._util.names import advise_on_name, complete_name, match_names
from cnatool._util.text import count_text
from cnatool.backend.graph.tensor_sources import find_sources
from cnatool.backend.select import INNER, RESIDUAL, stored_dtype
from cnatool.backend.statistics.reduced_tensors import ReducedTensor
from cnatool.errors import UsageError
from cnatool.metrics.projection import (
    LARGEST_DENSE,
    LARGEST_SPARSE,
    DenseProjection,
    SparseProjection,
    make_projection,
    spread_positions,
)
from cnatool.records.layout import ragged_axis
from cnatool.records.reductions import Reduction, ReductionRecord
from cnatool.records.store import TensorRecord
from cnatool.records.unit_axis import find_unit_axis

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


class _Source(NamedTuple):
    """A tensor that is to be reduced, and the axis of its units; None if it has none."""

    tensor: TensorRecord
    units: int | None

    @property
    def position_axes(self) -> tuple[int, ...]:
        """The axes of a sample along which positions lie."""
        return tuple(axis for axis in range(len(self.tensor.shape)) if axis != self.units)

    @property
    def size(self) -> int:
        """How many units it has."""
        return 1 if self.units is None else self.tensor.shape[self.units]

    def count_elements(self, form: Reduction) -> int:
        """Count the numbers of a sample that are projected."""
        if form.positions is None:
            return math.prod(self.tensor.shape)
        return self.size * (form.place if form.positions == "sample" else 1)


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
    by_name = {tensor.name: tensor for tensor in probed}
    for asked in map(Asked._make, options.reductions):
        refused: dict[str, str] = {}
        sources = _match_sources(asked, network, probed, skipped)
        for tensor in sources:
            name = asked.form.name(tensor.name)
            source = _Source(tensor, find_unit_axis(tensor))
            obstacle = next(_find_obstacles(source, asked.form, network), None)
            if obstacle is None and name in by_name:
                obstacle = f"the network has a tensor {name!r} of its own"
            if obstacle is not None:
                refused[tensor.name] = obstacle
            elif name not in planned:
                number = len(selected) + len(planned)
                planned[name] = _plan(source, asked.form, number, network, selected, options)
        if len(refused) == len(sources):
            name, obstacle = next(iter(refused.items()))
            raise UsageError(f"{asked}: tensor {name!r} cannot be reduced like that: {obstacle}.")
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
            f"{advise_on_name(full, every, network.graph.path)}"
        )
    chosen = set(names)
    return [tensor for tensor in probed if tensor.name in chosen]


def _find_obstacles(source: _Source, form: Reduction, network: Network) -> Iterator[str]:
    """Find reasons why a tensor cannot be reduced to a form."""
    tensor = source.tensor
    if tensor.index:
        yield "its rows are found in the data, such as detections"
    if tensor.name in network.graph.inner or tensor.conditional:
        yield "it lies in a loop or a branch"
    if 0 in tensor.shape:
        yield "it has no elements"
    open_ = tensor.varies and not tensor.positions
    if open_ and tensor.merged and (tensor.merged, tensor.batch_axis) != ("NT", 0):
        yield "its samples are merged with positions of which each has another number"
    if form.positions is None and tensor.varies:
        yield (
            "samples have other shapes, and one projection does not fit all: reduce positions "
            f"first, as in mean+{form}"
        )
    if open_ and ragged_axis(tensor) is None:
        yield "its shape depends on the data, along more than one axis"
    if form.positions is not None:
        yield from _find_position_obstacles(source, form, network)
    if form.projected is not None:
        yield from _find_projection_obstacles(source, form)


def _find_position_obstacles(source: _Source, form: Reduction, network: Network) -> Iterator[str]:
    tensor, axes = source.tensor, source.position_axes
    if not axes:
        yield "it has no positions: a sample is a vector of units, and so reduced already"
    if source.units is None:
        yield "a sample has one number at each position, and no units"
    if form.positions == "max" and tensor.dtype == "uint64":
        yield "no operator takes the maximum of uint64"
    if form.positions in ("mean", "max"):
        return
    if tensor.varies and network.graph.opset < _FIRST_OPSET:
        yield (
            "samples differ in length, and their positions can be told in models of opset "
            f"{_FIRST_OPSET} and later; this is one of {network.graph.opset}"
        )
    if len(axes) > 1 and (tensor.varies or form.positions != "sample"):
        sizes = "×".join(str(tensor.shape[axis]) for axis in axes)
        also = "" if tensor.varies else ", or sample:K"
        yield f"its positions lie along {len(axes)} axes ({sizes}): take mean or max{also}"
    if tensor.varies and form.positions == "index" and form.place > 0:
        yield (
            f"samples differ in length, and not each has a position {form.place}: take cls, last "
            "or sample:K"
        )
    count = math.prod(tensor.shape[axis] for axis in axes)
    if not tensor.varies and form.positions == "index" and form.place >= count:
        yield f"it has the positions 0 to {count - 1}"
    if not tensor.varies and form.positions == "sample" and form.place >= count:
        yield f"it has {count_text(count, 'position')}: take fewer"


def _find_projection_obstacles(source: _Source, form: Reduction) -> Iterator[str]:
    elements = source.count_elements(form)
    if elements <= form.size:
        yield f"it has {count_text(elements, 'number')} a sample: take fewer than that"
    first = "" if form.positions else f". Reduce positions first, as in mean+{form}"
    sparse = form.projected == "project" and elements <= LARGEST_SPARSE
    most = LARGEST_DENSE if form.projected == "project" else _LARGEST_COMPONENTS
    if elements * form.size > most and not sparse:
        yield f"{elements:,} numbers a sample are too many for a matrix to {form.size}{first}"


def _plan(
    source: _Source,
    form: Reduction,
    number: int,
    network: Network,
    selected: Sequence[TensorRecord],
    options: DumpOptions,
) -> ReducedTensor:
    """Plan a tensor that can be reduced, number ``number`` of the store."""
    tensor = source.tensor
    units = None if form.positions is None else source.units
    kept: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    shape: tuple[int, ...] = (math.prod(tensor.shape),) if units is None else (source.size,)
    ragged = form.positions == "sample" and tensor.varies
    if form.positions == "sample":
        count = math.prod(tensor.shape[axis] for axis in source.position_axes)
        places = spread_positions(count, form.place, options.seed)
        shape = (len(places), source.size)
        kept = msgspec.UNSET if ragged else tuple(map(int, places))
    matrix = None
    if form.projected == "project":
        matrix = make_projection(source.count_elements(form), form.size, options.seed)
    dtype = _result_dtype(tensor.dtype, form)
    record = TensorRecord(
        number=number,
        name=form.name(tensor.name),
        operator=_OPERATOR,
        role="other",
        dtype=dtype,
        onnx_type=tensor.onnx_type if _keeps_type(form) else None,
        shape=shape if form.projected is None else (form.size,),
        batch_axis=0,
        kept="full",
        varies=ragged,
        ragged_axis=0 if ragged else msgspec.UNSET,
        sources=_find_stored_sources(tensor, network, selected),
        padding=tensor.padding,
        reduction=ReductionRecord(
            source=tensor.name,
            form=str(form),
            shape=tensor.shape,
            unit_axis=msgspec.UNSET if units is None else units,
            seed=options.seed if form.draws else msgspec.UNSET,
            kept_positions=kept,
            method=msgspec.UNSET
            if matrix is None
            else ("gaussian" if isinstance(matrix, DenseProjection) else "sparse"),
            sha256=msgspec.UNSET if matrix is None else matrix.sha256,
        ),
    )
    record = msgspec.structs.replace(record, stored=stored_dtype(record, options.dtype))
    return ReducedTensor(record, tensor, form, units, options.seed, matrix)


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
    if _keeps_type(form):
        return dtype
    if dtype == "float64" or (integer and form.projected is None):
        return "float64"
    return "float32"


def _keeps_type(form: Reduction) -> bool:
    """Whether values of a form are values of the tensor."""
    return form.projected is None and form.positions != "mean"


def _check_bytes(planned: Sequence[ReducedTensor]) -> None:
    """Refuse matrices that are too large together for the model that runs."""
    total = 0
    shared: set[str] = set()
    for each in planned:
        form = each.reduction
        if form.projected == "pca":
            item = np.dtype(each.tensor.dtype).itemsize
            total += _Source(each.source, each.unit_axis).count_elements(form) * form.size * item
        elif isinstance(each.matrix, DenseProjection | SparseProjection):
            total += 0 if each.matrix.sha256 in shared else each.matrix.nbytes
            shared.add(each.matrix.sha256)
        if total > _MATRIX_BYTES:
            raise UsageError(
                f"`reduce`: the matrices of {count_text(len(planned), 'tensor')} take more than "
                f"{_MATRIX_BYTES >> 20} MiB together. Name fewer tensors, or reduce positions "
                f"first, as in mean+{Reduction(projected=form.projected, size=form.size)}."
            )


def without_matrix(reduced: ReducedTensor) -> ReducedTensor:
    """Return what a reduced tensor is projected from, flattened: its positions reduced alone."""
    form = reduced.reduction
    source = _Source(reduced.source, reduced.unit_axis)
    shape: tuple[int, ...] = (source.count_elements(form),)
    if form.positions == "sample":
        shape = (form.place, source.size)
    tensor = msgspec.structs.replace(
        reduced.tensor,
        name=f"{reduced.tensor.name} unprojected",
        shape=shape,
        stored=reduced.tensor.dtype,
        sources=msgspec.UNSET,
    )
    positions = Reduction(form.positions, form.place)
    return replace(reduced, tensor=tensor, reduction=positions, matrix=None)
