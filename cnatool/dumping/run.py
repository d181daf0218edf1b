"""Blocks of samples through the model: read ahead, run side by side, given in order, timed."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.names import exclusion
from cnatool._util.threads import map_ordered, prefetch
from cnatool.data.blocks import taken
from cnatool.dumping.sample_checks import broken_rows, content_hashes
from cnatool.errors import BackendError, DataError
from cnatool.records.layout import keyed_rows
from cnatool.store.shared_inputs import SampleComparison

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool._util.threads import Stages
    from cnatool.backend.statistics.exposed_model import ExposedModel, Results
    from cnatool.data.source import Block
    from cnatool.dumping.plan import Plan
    from cnatool.dumping.resume import Past
    from cnatool.records.store import TensorRecord


@dataclass(frozen=True, slots=True)
class RanBlock:
    """A block of samples and what the model gave for it, as it goes into the store.

    Attributes
    ----------
    block : Block
        The raw samples.
    results : Results
        What the model gave; tensors kept whole in the type that they are stored in.
    broken : ndarray of bool, shape (n,)
        Which samples hold a raw input that is no finite number.
    contents : ndarray of int64, shape (n,)
        By which equal raw inputs are found.
    reading, running : float
        Seconds that one sample took in its stage, where it had a thread to itself. The first run
        of a block with several is left out: memory is found and filled in it.
    """

    block: Block
    results: Results
    broken: NDArray[np.bool_]
    contents: NDArray[np.int64]
    reading: float
    running: float

    @property
    def rows(self) -> dict[str, NDArray[Any]]:
        """The rows by the keys of their arrays in the store."""
        return keyed_rows(
            ids=self.block.ids,
            inputs=self.block.inputs,
            labels=self.block.labels,
            outputs=self.results.outputs,
            activations=self.results.activations,
            statistics=self.results.statistics,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(array.nbytes for array in self.rows.values())


def ran_blocks(
    plan: Plan, exposed: ExposedModel, split: str, stages: Stages, past: Past | None = None
) -> Generator[RanBlock]:
    """Run the samples of a split through the model, a block at a time.

    Closing the generator ends its threads. What is committed already is compared and left out.
    Values may depend on the batch that a sample is in, so runs begin where those of a dump that
    was never cut off do, and some samples may run once more; all do if results depend on the runs
    before.
    """
    stored = {tensor.number: tensor for tensor in plan.record.tensors}
    schedule = plan.schedule

    def run(read: tuple[Block, float]) -> RanBlock:
        block, reading = read
        start = time.perf_counter()
        watch = _Watch(plan.feed.batches(block, schedule.batch))
        try:
            results = exposed.run(watch, len(block.ids))
        except BackendError as error:
            filled = _filled(plan, block)
            if filled is None:
                raise _with_advice(error, plan) from error
            watch = _Watch(filled)
            try:
                results = exposed.run(watch, len(block.ids))
            except BackendError:
                raise _with_advice(error, plan) from error
        narrowed = {n: _narrowed(stored[n], values) for n, values in results.activations.items()}
        count = len(block.ids)
        stages.add("model", (time.perf_counter() - start) / schedule.runs)
        return RanBlock(
            # What the model was fed from is not needed any more.
            replace(block, made=()),
            replace(results, activations=narrowed),
            broken_rows(block.inputs, count),
            content_hashes(block.inputs, count),
            reading / count,
            watch.seconds(count, schedule.batch),
        )

    rows, committed = plan.rows[split], 0 if past is None else past.rows
    if past is not None and past.samples == rows:
        return
    first = 0
    samples = plan.sources[split].blocks(schedule.block, rows)
    if plan.shared is not None:
        samples = _compared(samples, SampleComparison(plan.shared.held(split)))
    blocks = prefetch(_timed(samples, stages))
    with closing(blocks):
        if past is not None and not schedule.stateful:
            while first < committed and min(first + schedule.block, rows) <= committed:
                block, _ = next(blocks, (None, 0))
                if block is None:
                    return
                past.take(block)
                first += len(block.ids)
        with closing(map_ordered(run, blocks, schedule.runs)) as finished:
            for ran in finished:
                there = min(committed - first, len(ran.block.ids))
                first += len(ran.block.ids)
                if past is None or there <= 0:
                    yield ran
                    continue
                past.take(_part(ran.block, slice(there)))
                if there < len(ran.block.ids):
                    yield _rest(ran, there)


def _filled(plan: Plan, block: Block) -> Iterator[Mapping[str, NDArray[Any]]] | None:
    """Give the batches of a block with the last one filled up, as not every model takes fewer.

    None where all are full, or a sample's values depend on what is beside it.
    """
    batch = plan.schedule.batch
    if plan.feed.batch is not None or len(block.ids) % batch == 0 or plan.probed.mixed:
        return None
    return replace(plan.feed, batch=batch).batches(block, batch)


def _with_advice(error: BackendError, plan: Plan) -> BackendError:
    """Add to what the runtime says of a batch how many samples it ran with before."""
    ran = len(plan.probed.samples)
    if plan.feed.batch is not None or plan.schedule.batch <= ran or "--batch-size" in str(error):
        return error
    return BackendError(f"{error} It ran with {ran} samples, so --batch-size {ran} may do.")


def _compared(blocks: Iterable[Block], same: SampleComparison) -> Generator[Block]:
    """Give blocks, each after its ids and inputs were found to be those of another store."""
    for block in blocks:
        same.compare(block.ids, block.inputs)
        same.accept(len(block.ids))
        yield block
    same.finish()


def _part(block: Block, rows: slice) -> Block:
    return replace(taken(block, rows), skipped=block.skipped)


def _rest(ran: RanBlock, start: int) -> RanBlock:
    """Leave out the first samples of a block."""
    rows = slice(start, None)
    results = ran.results
    return replace(
        ran,
        block=taken(ran.block, rows),
        results=replace(
            results,
            outputs=tuple(values[rows] for values in results.outputs),
            activations={n: values[rows] for n, values in results.activations.items()},
            statistics={n: values[rows] for n, values in results.statistics.items()},
        ),
        broken=ran.broken[rows],
        contents=ran.contents[rows],
    )


class _Watch:
    """Gives batches, and sees when each is asked for: after the one before went through."""

    def __init__(self, batches: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._batches = batches
        self._asked = [time.perf_counter()]

    def __iter__(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        for batch in self._batches:
            yield batch
            self._asked.append(time.perf_counter())

    def seconds(self, samples: int, batch: int) -> float:
        """Give the seconds of one of ``samples`` up to now, the first batch left out if it can."""
        first = samples > batch
        since = self._asked[1 if first else 0]
        return (time.perf_counter() - since) / (samples - batch * first)


def _timed(blocks: Iterator[Block], stages: Stages) -> Generator[tuple[Block, float]]:
    start = time.perf_counter()
    for block in blocks:
        seconds = time.perf_counter() - start
        stages.add("reading", seconds)
        yield block, seconds
        start = time.perf_counter()


def _narrowed(tensor: TensorRecord, values: NDArray[Any]) -> NDArray[Any]:
    if tensor.stored == values.dtype.name:
        return values
    with np.errstate(over="raise"):
        try:
            return values.astype(tensor.stored)
        except FloatingPointError:
            largest = np.abs(values).max()
            raise DataError(
                f"tensor {tensor.name!r} reaches {largest:.6g}, which {tensor.stored} cannot hold. "
                f"Use --dtype float32, or leave the tensor out with {exclusion(tensor.name)}."
            ) from None
