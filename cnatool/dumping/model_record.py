"""What a store records of the model itself: magnitudes, norms of weights, and flatness."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.text import count_text
from cnatool.backend.weights.weights import measure_weights
from cnatool.dumping.flatness import measure_flatness
from cnatool.store.statistics import magnitude

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future

    from cnatool.dumping.plan import DumpPlan
    from cnatool.records.store import StoreRecord
    from cnatool.records.weights import WeightsRecord
    from cnatool.store.writer import StoreWriter

# Seconds after which a dump explains what it waits for.
_PATIENCE = 1.0


def measure_model(plan: DumpPlan) -> StoreRecord:
    """Complete the record of a plan's store with what is measured of the model in its runs."""
    reference = plan.probed.reference
    magnitudes = tuple(
        # From the samples of the probe, which costs nothing more.
        magnitude(reference[tensor.name]["abs_sum"]) if tensor.name in reference else None
        for tensor in plan.record.tensors
    )
    return msgspec.structs.replace(
        plan.record, magnitudes=magnitudes, flatness=measure_flatness(plan)
    )


class MeasuredWeights:
    """Norms of a model's weights that may still be being measured."""

    def __init__(self, plan: DumpPlan, measured: Future[WeightsRecord] | None) -> None:
        self._plan = plan
        self._measured = measured

    def add_if_ready(self, writer: StoreWriter) -> None:
        """Add the norms to the store, with its next commit, once they are there."""
        if self._measured is not None and self._measured.done():
            writer.set_weights(self._measured.result())
            self._measured = None

    def add_before_finish(self, writer: StoreWriter) -> None:
        """Add the norms before a split is finished; before the last one, wait for them."""
        unfinished = sum(not split.complete for split in writer.record.splits.values())
        if self._measured is not None and unfinished == 1:
            if wait([self._measured], _PATIENCE).not_done:
                layers = len(self._plan.record.layers)
                self._plan.observer.note(f"measuring the weights of {count_text(layers, 'layer')}")
            wait([self._measured])
        self.add_if_ready(writer)


@contextmanager
def measure_beside(plan: DumpPlan) -> Generator[MeasuredWeights]:
    """Measure the weights of a plan's model in a thread, unless a store has or will have them.

    Leaving the context ends the measurement, after the layer that it is at. Initial weights can be
    those of another network, which is an error before anything is written: they are waited for.
    """
    measured_before = plan.past is not None and plan.past.record.weights is not None
    if measured_before or not plan.measures_model:
        yield MeasuredWeights(plan, None)
        return
    # The path norm is defined for networks with one input; others record that it is not.
    samples = next(iter(plan.probed.samples.values.values()))
    shape = (plan.bound or 1, *samples.shape[1:])
    ended = Event()

    def check() -> None:
        if ended.is_set():
            raise _EndedError

    with ThreadPoolExecutor(1, "cnatool-weights") as pool:
        try:
            measured = pool.submit(
                measure_weights,
                plan.network,
                plan.probed.tensors,
                shape,
                plan.initial,
                plan.run.custom_ops,
                check,
            )
            if plan.initial is not None:
                measured.result()
            yield MeasuredWeights(plan, measured)
        finally:
            ended.set()


class _EndedError(BaseException):
    """The norms are no longer wanted; no error of the weights, which would be recorded."""
