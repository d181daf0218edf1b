"""What a dump's reductions need before its first row: principal components, and distortions.

Components are computed from a seeded sample of the samples of the first split, the same for every
part of a dump. Values of so many samples are held in memory at a time, `_HELD_BYTES` of them.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from cnatool._util.text import count_text
from cnatool._util.threads import Stages
from cnatool.backend.statistics.exposed_model import ExposedModel
from cnatool.backend.statistics.reduced_tensors import ProjectedAxes
from cnatool.data.wrappers import ReadableSamples, RowRange, RowSubset, SourceWrapper
from cnatool.dumping.reductions import without_matrix
from cnatool.dumping.run import run_blocks
from cnatool.errors import DataError, UsageError
from cnatool.metrics.principal_components import fit_components
from cnatool.metrics.projection import measure_distortion, spread_positions
from cnatool.records.layout import reduction_key
from cnatool.records.reductions import Distortion, PrincipalComponents
from cnatool.store.integrity import digest_components

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.data.source import Block, Source
    from cnatool.dumping.plan import DumpPlan
    from cnatool.records.store import TensorRecord

# Samples from which components are computed: so many at least, and so many for each component.
_FEWEST_SAMPLES: Final = 1024
_TIMES_COMPONENTS: Final = 10
# Bytes of the values that are held at a time, and of a block of them.
_HELD_BYTES: Final = 512 << 20
_BLOCK_BYTES: Final = 64 << 20
# Samples whose distances are compared, and the fewest where they are large.
_COMPARED: Final = 64
_FEWEST_COMPARED: Final = 8
# Rows between two samples from which on they are read one by one, where a source can.
_FAR_APART: Final = 64


def fit_reductions(plan: DumpPlan) -> DumpPlan:
    """Compute the components of a dump's reductions, and measure the distortion of projections.

    Those of a store that is resumed are read there.
    """
    if not plan.reduced:
        return plan
    if plan.past is not None:
        stored = plan.past.record.tensors
        reduced = tuple(_read_fitted(plan, each, stored) for each in plan.reduced)
        return _with_reduced(plan, reduced)
    fitted = _fit_all(plan, [each for each in plan.reduced if each.reduction.projected == "pca"])
    reduced = tuple(fitted.get(each.tensor.name, each) for each in plan.reduced)
    random = [each for each in reduced if each.reduction.projected == "project"]
    measured = _measure_all(plan, random)
    reduced = tuple(measured.get(each.tensor.name, each) for each in reduced)
    for line in _describe(reduced):
        plan.observer.note(line)
    return _with_reduced(plan, reduced)


def component_arrays(plan: DumpPlan) -> dict[str, NDArray[Any]]:
    """Return the means and components of a plan's reductions by their keys in the store."""
    arrays = {}
    for each in plan.reduced:
        if isinstance(each.matrix, ProjectedAxes):
            number = each.tensor.number
            arrays[reduction_key(number, "mean")] = each.matrix.mean
            arrays[reduction_key(number, "components")] = each.matrix.components
    return arrays


def _with_reduced(plan: DumpPlan, reduced: tuple[ReducedTensor, ...]) -> DumpPlan:
    records = {each.tensor.number: each.tensor for each in reduced}
    tensors = tuple(records.get(tensor.number, tensor) for tensor in plan.record.tensors)
    record = msgspec.structs.replace(plan.record, tensors=tensors)
    return replace(plan, reduced=reduced, record=record)


def _read_fitted(
    plan: DumpPlan, reduced: ReducedTensor, stored: Sequence[TensorRecord]
) -> ReducedTensor:
    """Return a reduced tensor with what the store that is resumed holds of it."""
    number = reduced.tensor.number
    tensor = msgspec.structs.replace(reduced.tensor, reduction=stored[number].reduction)
    matrix = reduced.matrix
    if reduced.reduction.projected == "pca" and plan.past is not None:
        matrix = ProjectedAxes(*plan.past.components(tensor.name))
    return replace(reduced, tensor=tensor, matrix=matrix)


class _Sample(NamedTuple):
    """The samples of a split from which components are computed."""

    split: str
    source: Source


def _fit_all(plan: DumpPlan, reduced: Sequence[ReducedTensor]) -> dict[str, ReducedTensor]:
    """Compute the components of reduced tensors, as many at a time as memory has room for."""
    if not reduced:
        return {}
    fitted = {}
    for group, count in _group_by_bytes(reduced, _count_samples(plan, reduced)):
        sample = _choose_samples(plan, count)
        values = _collect(plan, [without_matrix(each) for each in group], sample)
        for each in group:
            rows = values.pop(without_matrix(each).tensor.name)
            fitted[each.tensor.name] = _fit(each, rows, sample.split)
    return fitted


def _count_samples(plan: DumpPlan, reduced: Sequence[ReducedTensor]) -> int:
    """Choose how many samples components are computed from."""
    split = _first_split(plan)
    largest = max(each.reduction.size for each in reduced)
    wanted = max(_FEWEST_SAMPLES, _TIMES_COMPONENTS * largest)
    return min(plan.whole.rows[split], wanted)


def _first_split(plan: DumpPlan) -> str:
    return next(name for name, rows in plan.whole.rows.items() if rows)


def _group_by_bytes(
    reduced: Sequence[ReducedTensor], samples: int
) -> Iterator[tuple[list[ReducedTensor], int]]:
    """Divide reduced tensors in groups whose values fit into memory, with the samples of each.

    UsageError if so few samples of a tensor would fit that they determine no components.
    """
    group: list[ReducedTensor] = []
    held = 0
    for each in reduced:
        size = _row_bytes(each)
        fitting = min(samples, _HELD_BYTES // size)
        if fitting <= each.reduction.size:
            few = fitting if fitting < samples else samples
            raise UsageError(
                f"`reduce={{{each.source.name!r}: {str(each.reduction)!r}}}`: "
                f"{count_text(each.reduction.size, 'component')} need more than "
                f"{count_text(few, 'sample')}, "
                + (
                    "as many as memory is used for. Reduce positions first, as in "
                    f"mean+{each.reduction}."
                    if fitting < samples
                    else "as many as the first split has. Take fewer components."
                )
            )
        if fitting < samples:
            yield [each], fitting
            continue
        if group and held + size * samples > _HELD_BYTES:
            yield group, samples
            group, held = [], 0
        group.append(each)
        held += size * samples
    if group:
        yield group, samples


def _row_bytes(reduced: ReducedTensor) -> int:
    tensor = without_matrix(reduced).tensor
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize


@dataclass(frozen=True, slots=True)
class _ScatteredRows(SourceWrapper):
    """Rows of a source that lie far apart, each read on its own."""

    indices: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many these are."""
        return len(self.indices)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of the rows from ``start`` on, ``limit`` in all."""
        from cnatool.data.blocks import regroup_blocks
        from cnatool.data.source import row_ranges

        ranges = list(row_ranges(self.rows, rows, limit, start))
        end = ranges[-1][1] if ranges else start
        pieces = (
            block for row in self.indices[start:end] for block in self.source.blocks(1, 1, row)
        )
        yield from regroup_blocks(pieces, [(a - start, b - start) for a, b in ranges])


def _choose_samples(plan: DumpPlan, count: int) -> _Sample:
    """Choose samples of the whole dump: one at random in each of as many stretches of rows."""
    split = _first_split(plan)
    source, rows = plan.whole.sources[split], plan.whole.rows[split]
    seed = next(each.seed for each in plan.reduced)
    indices = spread_positions(rows, count, seed)
    skips = isinstance(source, ReadableSamples)
    inner = source.source if isinstance(source, ReadableSamples) else source
    chosen: Source
    if rows > _FAR_APART * count and not inner.outline:
        chosen = _ScatteredRows(inner, tuple(map(int, indices)))
    else:
        chosen = RowSubset(inner, inner.name, indices)
    return _Sample(split, ReadableSamples(chosen) if skips else chosen)


def _collect(
    plan: DumpPlan, reduced: Sequence[ReducedTensor], sample: _Sample
) -> dict[str, NDArray[Any]]:
    """Run samples through the model; return reduced tensors by name, (n, D) each."""
    numbered = [
        replace(each, tensor=msgspec.structs.replace(each.tensor, number=number))
        for number, each in enumerate(reduced)
    ]
    tensors = tuple(each.tensor for each in numbered)
    size = sum(int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in tensors)
    batch = plan.schedule.batch
    batches = max(1, min(plan.schedule.block, _BLOCK_BYTES // max(1, size)) // batch)
    rows = {sample.split: sample.source.rows}
    run = replace(
        plan,
        sources={sample.split: sample.source},
        rows=rows,
        shared=None,
        past=None,
        schedule=replace(plan.schedule, block=batch * batches),
        record=msgspec.structs.replace(
            plan.record,
            tensors=tensors,
            tokens=msgspec.UNSET,
            units=msgspec.UNSET,
            statistics=("sum",),
        ),
    )
    exposed = ExposedModel(
        plan.network.graph,
        tensors,
        (),
        plan.probed.tensors,
        next(iter(plan.probed.samples.values)),
        plan.run,
        mask=plan.feed.mask,
        reduced=numbered,
    )
    whole = {
        tensor.name: np.empty((sample.source.rows, int(np.prod(tensor.shape))), tensor.dtype)
        for tensor in tensors
    }
    done = 0
    with closing(run_blocks(run, exposed, sample.split, Stages())) as blocks:
        for block in blocks:
            stop = done + len(block.rows)
            for tensor in tensors:
                values = np.asarray(block.rows.activations[tensor.number])
                whole[tensor.name][done:stop] = values.reshape(len(values), -1)
            done = stop
    return {name: values[:done] for name, values in whole.items()}


def _fit(reduced: ReducedTensor, rows: NDArray[Any], split: str) -> ReducedTensor:
    """Compute the components of a reduced tensor from rows, (n, D)."""
    size = reduced.reduction.size
    try:
        fitted = fit_components(rows, size)
    except DataError as error:
        raise DataError(
            f"`reduce={{{reduced.source.name!r}: {str(reduced.reduction)!r}}}`: of this tensor, "
            f"{error} Or take another form, such as project:{size}."
        ) from None
    dtype = np.dtype(reduced.tensor.dtype)
    axes = ProjectedAxes(fitted.mean.astype(dtype), fitted.components.astype(dtype))
    components = PrincipalComponents(
        split=split,
        samples=len(rows),
        explained=tuple(map(float, fitted.explained)),
        variance=fitted.variance,
        sha256=digest_components(axes.mean, axes.components),
    )
    return replace(reduced, matrix=axes, tensor=_add(reduced.tensor, components=components))


def _measure_all(plan: DumpPlan, reduced: Sequence[ReducedTensor]) -> dict[str, ReducedTensor]:
    """Measure what random projections do to the distances of the first samples."""
    measured = {}
    split = _first_split(plan) if reduced else ""
    for group in _group_compared(reduced):
        fitting = max(_FEWEST_COMPARED, _HELD_BYTES // 2 // _row_bytes(group[0]))
        count = min(_COMPARED, plan.whole.rows[split], fitting)
        sample = _Sample(split, RowRange(plan.whole.sources[split], 0, count))
        before = {each.tensor.name: without_matrix(each) for each in group}
        values = _collect(plan, [*before.values(), *group], sample)
        for each in group:
            name = each.tensor.name
            found = measure_distortion(values.pop(before[name].tensor.name), values[name])
            tensor = _add(each.tensor, distortion=Distortion(*found))
            measured[name] = replace(each, tensor=tensor)
    return measured


def _group_compared(reduced: Sequence[ReducedTensor]) -> Iterator[list[ReducedTensor]]:
    """Divide reduced tensors in groups whose values fit into memory; large ones are alone."""
    group: list[ReducedTensor] = []
    held = 0
    for each in reduced:
        size = _COMPARED * _row_bytes(each)
        if group and held + size > _HELD_BYTES // 2:
            yield group
            group, held = [], 0
        group.append(each)
        held += size
    if group:
        yield group


def _add(tensor: TensorRecord, **found: Any) -> TensorRecord:
    """Add what was measured to the record of a reduced tensor."""
    assert tensor.reduction
    reduction = msgspec.structs.replace(tensor.reduction, **found)
    return msgspec.structs.replace(tensor, reduction=reduction)


def _describe(reduced: Sequence[ReducedTensor]) -> Iterator[str]:
    """Describe what components keep and what projections change, the worst of each."""
    records = {each.tensor.name: each.tensor.reduction for each in reduced}
    shares: Mapping[str, PrincipalComponents] = {
        name: record.components for name, record in records.items() if record and record.components
    }
    if shares:
        name = min(shares, key=lambda each: shares[each].share)
        least = shares[name]
        yield (
            f"principal components: {name!r} keeps {least.share:.1%} of the variance of "
            f"{least.samples:,} samples of {least.split}"
            + (f", the least of {count_text(len(shares), 'tensor')}" * (len(shares) > 1))
        )
    bent: Mapping[str, Distortion] = {
        name: record.distortion for name, record in records.items() if record and record.distortion
    }
    if bent:
        name = max(bent, key=lambda each: bent[each].mean)
        worst = bent[name]
        yield (
            f"random projections: {name!r} changes the distances of {worst.samples} samples by "
            f"{worst.mean:.1%} on average, {worst.largest:.1%} at most"
            + (f", the most of {count_text(len(bent), 'tensor')}" * (len(bent) > 1))
        )
