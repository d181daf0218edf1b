"""What a store records of the model itself: magnitudes, norms of weights, and flatness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool.backend.weights.weights import measure_weights
from cnatool.dumping.flatness import measure_flatness
from cnatool.store.statistics import magnitude

if TYPE_CHECKING:
    from cnatool.dumping.plan import DumpPlan
    from cnatool.records.store import StoreRecord
    from cnatool.records.weights import WeightsRecord

# A hundred megabytes of weights take some seconds.
_LARGE = 100_000_000


def measure_model(plan: DumpPlan) -> StoreRecord:
    """Complete the record of a plan's store with what is measured of the model."""
    reference = plan.probed.reference
    magnitudes = tuple(
        # From the samples of the probe, which costs nothing more.
        magnitude(reference[tensor.name]["abs_sum"]) if tensor.name in reference else None
        for tensor in plan.record.tensors
    )
    weights = _measure_weights(plan)
    return msgspec.structs.replace(
        plan.record, magnitudes=magnitudes, weights=weights, flatness=measure_flatness(plan)
    )


def _measure_weights(plan: DumpPlan) -> WeightsRecord:
    # The path norm is defined for networks with one input; others record that it is not.
    samples = next(iter(plan.probed.samples.values.values()))
    if sum(file.size for file in plan.network.graph.files) > _LARGE:
        plan.observer.note(f"measuring the weights of {len(plan.record.layers)} layers")
    return measure_weights(
        plan.network,
        plan.probed.tensors,
        (plan.bound or 1, *samples.shape[1:]),
        plan.initial,
        plan.run.custom_ops,
    )
