"""Blocks of samples through the model: read ahead, run in parallel, yielded in order, timed."""

from __future__ import annotations

import re
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cnatool._util.bfloat16 import storage_dtype
from cnatool._util.threads import map_ordered, prefetch
from cnatool.backend.token_tables import find_token_table
from cnatool.data.blocks import take_rows
from cnatool.dumping.lengths import restore_order
from cnatool.dumping.sample_checks import examine_samples
from cnatool.errors import BackendError, CnatoolError, DataError
from cnatool.records.layout import StoreRows
from cnatool.store.narrow import round_rows
from cnatool.store.shared_inputs import SampleComparison

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool._util.threads import Stages
    from cnatool.backend.statistics.exposed_model import ExposedModel, Results
    from cnatool.data.source import Block, SkippedRow
    from cnatool.dumping.lengths import RunRows
    from cnatool.dumping.plan import DumpPlan
    from cnatool.dumping.resume import Past
    from cnatool.dumping.sample_checks import SampleFacts
    from cnatool.records.ragged import Rows
    from cnatool.records.store import StoreRecord
    from cnatool.store.shared_inputs import SharedInputs


# ONNX Runtime's words for a lookup in a table, such as that of token embeddings.
_OUT_OF_TABLE = re.compile(r"idx=-?\d+ must be within the inclusive range \[-?\d+,(\d+)\]")


@dataclass(frozen=True, slots=True)
class BlockUnits:
    """The values of units of a block, as far as they are measured."""

    values: Mapping[int, Rows]  # by number of the tensor, in the type that the store would hold
    labels: Rows | None
    first: int = 0  # row of the first sample in its split


@dataclass(frozen=True, slots=True)
class ProcessedBlock:
    """A block of samples that went through the model."""

    rows: StoreRows
    skipped: tuple[SkippedRow, ...]
    facts: SampleFacts
    # Seconds per sample of a stage that has a thread to itself. The first run of a block with
    # several is left out: it also allocates memory.
    reading: float
    running: float
    # Of the whole block; None if units are not measured.
    units: BlockUnits | None = None

    def after(self, count: int) -> ProcessedBlock:
        """Leave out the first ``count`` samples, and what was skipped before the others."""
        rest = slice(count, None)
        return replace(self, rows=self.rows[rest], skipped=(), facts=self.facts.rows(rest))


def run_blocks(
    plan: DumpPlan, exposed: ExposedModel, split: str, stages: Stages, past: Past | None = None
) -> Generator[ProcessedBlock]:
    """Run the samples of a split through the model, a block at a time.

    Committed rows are compared with the data and not run again, but for three cases: values may
    depend on the batch that a sample is in, so runs begin at the same samples as in an
    uninterrupted dump; a stateful model runs from its first sample; and statistics of units may
    cover fewer rows. Closing the generator ends its threads.
    """
    schedule = plan.schedule
    rows, committed = plan.rows[split], 0 if past is None else past.rows
    measured = committed if past is None else past.measured
    if past is not None and past.samples == rows:
        return
    samples = plan.sources[split].blocks(schedule.block, rows)
    if plan.shared is not None:
        samples = _compare_blocks(samples, _compare_with_store(plan, plan.shared, split))
    first = 0
    with closing(prefetch(_time_blocks(samples, stages))) as blocks:
        if past is not None and not schedule.stateful:
            while first < measured and min(first + schedule.block, rows) <= measured:
                block, _ = next(blocks, (None, 0))
                if block is None:
                    return
                past.compare(block)
                first += len(block.ids)
        run = partial(_run_block, plan, exposed, plan.sources[split].name, stages)
        with closing(map_ordered(run, blocks, schedule.runs)) as processed:
            for block, result in processed:
                kept = min(committed - first, len(block.ids))
                if result.units is not None:
                    result = replace(result, units=replace(result.units, first=first))
                first += len(block.ids)
                if past is None or kept <= 0:
                    yield result
                    continue
                past.compare(replace(take_rows(block, slice(kept)), skipped=block.skipped))
                if kept < len(block.ids) or first > measured:
                    yield result.after(kept)


def _run_block(
    plan: DumpPlan, exposed: ExposedModel, source: str, stages: Stages, read: tuple[Block, float]
) -> tuple[Block, ProcessedBlock]:
    """Run one block, filling up its last batch where the model refuses a smaller one."""
    block, reading = read
    count = len(block.ids)
    start = time.perf_counter()
    plan.feed.check(source, block)
    groups = plan.group(block)
    watch = _TimedBatches(plan.feeds(block, rows) for rows in groups)
    try:
        results = _run_groups(exposed, watch, groups, count)
    except BackendError as error:
        # Some models refuse fewer samples than in the runs before.
        batch = plan.schedule.batch
        if plan.bound is not None or plan.probed.mixed or min(map(len, groups)) == batch:
            raise _explain(error, plan, block) from error
        groups = plan.group(block, fill=True)
        watch = _TimedBatches(plan.feeds(block, rows) for rows in groups)
        try:
            results = _run_groups(exposed, watch, groups, count)
        except BackendError:
            raise _explain(error, plan, block) from error
    stored = {t.number for t in plan.record.tensors if t.stored is not None}
    units = None
    if plan.record.units:
        units = BlockUnits(_take_units(plan.record, results), block.labels)
    rows = StoreRows(
        ids=block.ids,
        inputs=block.inputs,
        labels=block.labels,
        outputs=results.outputs,
        activations={n: rows for n, rows in results.activations.items() if n in stored},
        statistics=results.statistics,
        tokens={} if results.tokens is None else results.tokens.numbers,
    )
    stages.add("model", (time.perf_counter() - start) / plan.schedule.runs)
    return replace(block, transformed=()), ProcessedBlock(
        rows,
        block.skipped,
        examine_samples(block.inputs, count, 1 if plan.part else len(plan.rows)),
        reading / count,
        watch.seconds(groups),
        units,
    )


def _take_units(record: StoreRecord, results: Results) -> dict[int, Rows]:
    """Return the values of the tensors whose units are measured, as a store would return them."""
    assert record.units
    values: dict[int, Rows] = {}
    for number in (tensor.number for tensor in record.units.tensors):
        tensor = record.tensors[number]
        if tensor.output is not None:
            values[number] = results.outputs[tensor.output]
            continue
        rows = results.activations[number]
        if tensor.stored not in (None, tensor.dtype):
            rows = round_rows(rows, storage_dtype(tensor.stored))
        values[number] = rows
    return values


def _run_groups(
    exposed: ExposedModel,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    groups: Sequence[RunRows],
    count: int,
) -> Results:
    """Run groups of samples, and put the results into the order of the block's samples."""
    order = restore_order(groups)
    if order is None:
        return exposed.run(batches, count)
    return exposed.run(batches, sum(map(len, groups))).take(order)


def _explain(error: BackendError, plan: DumpPlan, block: Block) -> CnatoolError:
    """Name the sample that an error of the runtime is about, or the batch size that may run."""
    found = _OUT_OF_TABLE.search(str(error))
    most = None if found is None else int(found[1])
    for record, rows in zip(plan.record.inputs, block.inputs, strict=True):
        table = None if most is None else find_token_table(plan.network.graph, record.name)
        if table is None or table.rows - 1 != most:
            continue
        for sample, values in zip(block.ids, rows, strict=True):
            wrong = values[(values >= table.rows) | (values < -table.rows)]
            if wrong.size:
                return DataError(
                    f"input {record.name!r} holds {wrong.flat[0]} in sample {sample}, and the "
                    f"model looks it up in a table from 0 to {most}. Correct the data: ids have to "
                    "come from the tokenizer, or the classes, of this model."
                )
    return _add_advice(error, plan)


def _add_advice(error: BackendError, plan: DumpPlan) -> BackendError:
    """Add the batch size that may run to an error of the runtime."""
    probed = len(plan.probed.samples)
    if plan.bound is not None or re.search("batch[-_]size", str(error)):
        return error
    if plan.schedule.batch > 1 and plan.network.graph.controlled:
        return BackendError(
            f"{error} The values of a whole batch decide about branches or loops of the model; "
            "`batch_size=1` decides for each sample."
        )
    if plan.schedule.batch <= probed:
        return error
    return BackendError(f"{error} It ran with {probed} samples, so `batch_size={probed}` may do.")


def _compare_with_store(plan: DumpPlan, shared: SharedInputs, split: str) -> SampleComparison:
    there = shared.split(split)
    if plan.part is None:
        return SampleComparison(there)
    first = plan.part.first[split]
    return SampleComparison(there, first, first + plan.rows[split])


def _compare_blocks(blocks: Iterable[Block], same: SampleComparison) -> Generator[Block]:
    """Yield blocks after comparing their ids and inputs with those of another store."""
    for block in blocks:
        same.compare(block.ids, block.inputs)
        same.accept(len(block.ids))
        yield block
    same.finish()


class _TimedBatches:
    """Batches, and the times at which they are taken: each when the one before is done."""

    def __init__(self, batches: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._batches = batches
        self._asked = [time.perf_counter()]

    def __iter__(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        for batch in self._batches:
            yield batch
            self._asked.append(time.perf_counter())

    def seconds(self, groups: Sequence[RunRows]) -> float:
        """Compute the seconds per sample up to now, without the first batch if there are others."""
        counted = groups[1:] or groups
        since = self._asked[len(groups) - len(counted)]
        return (time.perf_counter() - since) / sum(map(len, counted))


def _time_blocks(blocks: Iterator[Block], stages: Stages) -> Generator[tuple[Block, float]]:
    start = time.perf_counter()
    for block in blocks:
        seconds = time.perf_counter() - start
        stages.add("reading", seconds)
        yield block, seconds
        start = time.perf_counter()
