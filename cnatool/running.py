"""Blocks of samples through the model: read ahead, run side by side, given in order, timed."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError
from cnatool.notfinite import broken_rows
from cnatool.pipeline import computed, prefetched
from cnatool.store.layout import keyed_rows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.backend.exposed import ExposedModel, Results
    from cnatool.data.source import Block
    from cnatool.planning import Plan
    from cnatool.store.records import TensorRecord

__all__ = ["RanBlock", "ran_blocks"]


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
    reading, running : float
        Seconds that one sample took in its stage, where it had a thread to itself. The first run
        of a block with several is left out: memory is found and filled in it.
    """

    block: Block
    results: Results
    broken: NDArray[np.bool_]
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


def ran_blocks(plan: Plan, exposed: ExposedModel, split: str) -> Generator[RanBlock]:
    """Run the samples of a split through the model, a block at a time.

    Closing the generator ends its threads.

    Parameters
    ----------
    plan : Plan
    exposed : ExposedModel
        The plan's model, ready to run.
    split : str
        Name of the split.

    Raises
    ------
    DataError
        If the samples cannot be read, or a value does not fit the type that it is stored in.
    BackendError
        If the runtime fails.
    """
    stored = {tensor.number: tensor for tensor in plan.record.tensors}
    schedule = plan.schedule

    def run(read: tuple[Block, float]) -> RanBlock:
        block, reading = read
        watch = _Watch(plan.feed.batches(block, schedule.batch))
        results = exposed.run(watch, len(block.ids))
        narrowed = {n: _narrowed(stored[n], values) for n, values in results.activations.items()}
        count = len(block.ids)
        return RanBlock(
            block,
            replace(results, activations=narrowed),
            broken_rows(block.inputs, count),
            reading / count,
            watch.seconds(count, schedule.batch),
        )

    blocks = prefetched(_timed(plan.sources[split].blocks(schedule.block, plan.rows[split])))
    with closing(blocks), closing(computed(run, blocks, schedule.runs)) as finished:
        yield from finished


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


def _timed(blocks: Iterator[Block]) -> Generator[tuple[Block, float]]:
    start = time.perf_counter()
    for block in blocks:
        yield block, time.perf_counter() - start
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
                f"Use --dtype float32, or leave the tensor out with --tensors."
            ) from None
