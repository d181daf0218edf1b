"""The batch size of a dump: one that the model runs with, and a larger one where it can.

The model is probed at that size, so that the decision rests on runs that succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cnatool.backend.batch_sizes import probe_network
from cnatool.backend.schedule import choose_batch_size
from cnatool.backend.tensor_sizes import check_sizes
from cnatool.dumping.feed import PROBE_SAMPLES
from cnatool.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cnatool.backend.inputs import Samples
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.session import RunOptions
    from cnatool.data.source import Source
    from cnatool.dumping.feed import Feed
    from cnatool.records.choices import Statistic


@dataclass(frozen=True, slots=True)
class Batched:
    """A network, how it is fed, and what a probe found of it.

    Attributes
    ----------
    network : Network
        The model, its batch axis freed where that changes nothing.
    feed : Feed
        How it is fed; its ``batch`` is the number of samples of every run, None where any runs.
    probed : ProbedNetwork
        Shapes, dtypes and sample axes from runs on a few samples.
    """

    network: Network
    feed: Feed
    probed: ProbedNetwork


def batched(
    network: Network,
    feed: Feed,
    source: Source,
    *,
    asked: int | None,
    run: RunOptions,
    statistics: Sequence[Statistic],
    note: Callable[[str], None],
) -> Batched:
    """Find out how many samples a run can take."""

    def samples(count: int | None) -> Samples:
        return feed.probe(source, None if count == 1 else count)

    declared = feed.batch
    check_sizes(
        network.graph,
        {step.input: step.shape for step in feed.preprocessing},
        count=declared or (1 if asked == 1 else PROBE_SAMPLES),
        bound=declared,
        together=True,
    )
    for line in feed.doubts(samples(declared)):
        note(line)
    found = probe_network(
        network, samples, bound=declared, asked=asked, run=run, statistics=statistics
    )
    probed, bound = found.probed, found.bound
    if found.rowless:
        note(
            "no tensor has one row per sample when several samples are run together: the model is "
            "run on one sample at a time, and all results of a run belong to its sample"
        )
        return Batched(network, replace(feed, batch=1), probed)
    feed = replace(feed, batch=bound)
    if bound is None or asked == bound or not probed.tensors:
        return Batched(network, feed, probed)
    better = asked or choose_batch_size(probed.tensors, run.provider)
    freed = None
    if asked is not None or better > bound:
        freed = _freed(network, feed, source, bound, probed, asked, run, statistics)
        note(_text(bound, declared=declared is not None, freed=freed))
    return freed or Batched(network, feed, probed)


def _freed(
    network: Network,
    feed: Feed,
    source: Source,
    bound: int,
    probed: ProbedNetwork,
    asked: int | None,
    run: RunOptions,
    statistics: Sequence[Statistic],
) -> Batched | None:
    """Free the batch axis; None where that fails, or tensors lose their samples."""
    names = {tensor.name for tensor in probed.tensors}
    free = network.free_batch(bound, feed.probe(source, 3 * bound), run, names)
    if free is None:
        return None
    feed = replace(feed, batch=1 if asked == 1 else None)
    try:
        found = free.probe(feed.probe(source), bound=feed.batch, run=run, statistics=statistics)
    except (BackendError, ModelError):
        return None
    if not names.issubset(tensor.name for tensor in found.tensors):
        return None
    return Batched(free, feed, found)


def _text(bound: int, *, declared: bool, freed: Batched | None) -> str:
    count = f"{bound} sample{'s' * (bound > 1)}"
    said = f"the model {'is bound to' if declared else 'only runs with'} {count} a run"
    if not declared:
        said += ", though it declares any number"
    if freed is None:
        return f"{said}; exported with a dynamic batch axis it would run faster"
    if freed.feed.batch == 1:
        return f"{said}; it is run with 1, which gives the same values for every tensor"
    return f"{said}; it is run with more, which gives the same values for every tensor"
