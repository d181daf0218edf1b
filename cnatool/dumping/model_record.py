"""The norms of a dump's weights, which go into the store before its first row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import check_initial, measure_weights
from cnatool.store.statistics import magnitude

if TYPE_CHECKING:
    from cnatool._util.observer import Observer
    from cnatool.backend.network import Network
    from cnatool.dumping.plan import Plan
    from cnatool.records.store import StoreRecord

# A hundred megabytes of weights take some seconds.
_LARGE = 100_000_000


def initial_network(path: str | Path | None, network: Network) -> Network | None:
    """Open the model that holds a network's initial weights."""
    if path is None:
        return None
    initial = open_network(Path(path))
    check_initial(network, initial)
    return initial


def with_initial(record: StoreRecord, initial: Network | None) -> StoreRecord:
    """Give a store's description that names the model of the initial weights."""
    return msgspec.structs.replace(record, initial=None if initial is None else initial.record)


def with_weights(plan: Plan, initial: Network | None, observer: Observer) -> StoreRecord:
    """Give the description of a plan's store with the norms of the model's weights.

    The observer is told of it where it takes a while.
    """
    # The path norm is of a network with one input; others say so themselves.
    given = next(iter(plan.probed.samples.values.values()))
    rows = plan.feed.batch or 1
    if sum(file.size for file in plan.network.graph.files) > _LARGE:
        observer.note(f"measuring the weights of {len(plan.record.layers)} layers")
    weights = measure_weights(
        plan.network,
        plan.probed.tensors,
        (rows, *given.shape[1:]),
        initial,
        plan.run.custom_ops,
    )
    return msgspec.structs.replace(plan.record, weights=weights)


def with_magnitudes(plan: Plan) -> StoreRecord:
    """Give the description of a plan's store with the magnitudes of its tensors.

    They are those of the samples that the network was probed with, and cost nothing more.
    """
    reference = plan.probed.reference
    return msgspec.structs.replace(
        plan.record,
        magnitudes=tuple(
            magnitude(reference[tensor.name]["abs_sum"]) if tensor.name in reference else None
            for tensor in plan.record.tensors
        ),
    )
