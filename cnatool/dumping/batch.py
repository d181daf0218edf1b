"""The batch size of a dump, chosen by runs of the model that succeed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from cnatool._util.text import count_text
from cnatool.backend.batch_sizes import list_sizes, probe_network
from cnatool.backend.schedule import choose_batch_size
from cnatool.backend.session import Session
from cnatool.backend.tensor_sizes import check_sizes
from cnatool.dumping.feed import PROBE_SAMPLES, probe_count
from cnatool.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cnatool.backend.inputs import ConstantInput, Samples
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.session import RunOptions
    from cnatool.data.source import Source
    from cnatool.dumping.feed import Feed
    from cnatool.records.choices import Statistic


class BatchChoice(NamedTuple):
    """The batch size that a network runs with, and what a probe with it found."""

    network: Network  # with a free batch axis if that changes no value
    bound: int | None  # samples of every run; None if any number runs
    probed: ProbedNetwork


def choose_batch(
    network: Network,
    feed: Feed,
    source: Source,
    asked: int | None,
    run: RunOptions,
    statistics: Sequence[Statistic],
    note: Callable[[str], None],
) -> BatchChoice:
    """Find out how many samples of typical lengths a run can take."""
    declared = network.fixed_batch(tuple(step.input for step in feed.preprocessing))

    def samples(count: int | None) -> Samples:
        return feed.probe(source, probe_count(declared) if count in (None, 1) else count)

    check_sizes(
        network.graph,
        {step.input: step.shape for step in feed.preprocessing},
        count=declared or (1 if asked == 1 else PROBE_SAMPLES),
        bound=declared,
    )
    for line in feed.doubts(samples(declared)):
        note(line)
    try:
        probe = probe_network(
            network, samples, bound=declared, asked=asked, run=run, statistics=statistics
        )
    except BackendError as error:
        length = _find_baked_length(network, feed, source, declared, run)
        if length is None:
            raise
        typical = feed.probe_lengths(source).typical
        raise _length_error(network, (length,), typical, error) from error
    probed, bound = probe.probed, probe.bound
    if probe.rowless:
        note(
            "no tensor has one row per sample when several samples are run together: the model is "
            "run on one sample at a time, and all results of a run belong to its sample"
        )
        return BatchChoice(network, 1, probed)
    choice = BatchChoice(network, bound, probed)
    if bound is None or asked == bound or not probed.tensors:
        return choice
    if asked is None and choose_batch_size(network.graph, probed.tensors, run.provider) <= bound:
        return choice
    freed = _free_batch(choice, bound, feed, source, asked, run, statistics)
    constant = None if declared is not None else _find_constant(network, feed, bound)
    if constant is not None and freed is None:
        note(
            f"constant {constant.name!r} holds {count_text(bound, 'sample')} along an axis that "
            f"the model leaves open, so each run takes {bound}; exported with names for the batch "
            "axes, the model would run with more"
        )
    else:
        note(_describe(bound, declared=declared is not None, freed=freed))
    return freed or choice


def follow_lengths(choice: BatchChoice, feed: Feed, source: Source) -> BatchChoice:
    """Find what follows the length of samples, by probes of other lengths where these differ."""
    if not feed.is_ragged:
        return choice
    network, bound, probed = choice
    lengths = feed.probe_lengths(source)
    count = len(probed.samples) if bound is None else max(bound, PROBE_SAMPLES)
    others = []

    def add_probe(length: Sequence[int]) -> None:
        samples = feed.probe(source, count, length)
        others.append(network.probe(samples, bound=bound, run=probed.run, shapes_only=True))

    for other in lengths.others:
        try:
            add_probe(other)
        except BackendError as error:
            raise _length_error(network, lengths.typical, other, error) from error
    for other in lengths.invented:
        # The data may have samples of one length because the model takes no other.
        with suppress(BackendError):
            add_probe(other)
    return choice._replace(probed=network.follow_lengths(probed, others)) if others else choice


def _find_baked_length(
    network: Network, feed: Feed, source: Source, declared: int | None, run: RunOptions
) -> int | None:
    """Find a length that a network runs with, among the numbers in it, where it fails with others.

    An exporter may write the length of its example into a model that declares any.
    """
    if not feed.is_ragged:
        return None
    session = Session(network.graph.model, network.graph, run)
    inputs = len(feed.probe_lengths(source).typical)
    for length in list_sizes(network.graph):
        samples = feed.probe(source, probe_count(declared), (length,) * inputs)
        with suppress(BackendError):
            session.run(network.graph.output_names, samples.feeds())
            return length
    return None


def _length_error(
    network: Network, length: Sequence[int], other: Sequence[int], error: BackendError
) -> ModelError:
    """Return the error that a network runs with samples of one length alone."""
    return ModelError(
        f"{network.graph.path} runs with samples of length {_sizes_text(length)} and fails with "
        f"others, as of {_sizes_text(other)}, though it declares any length. Export it with a "
        "dynamic axis for the length (PyTorch's older exporter writes the length of its example "
        "into some networks, such as nn.TransformerEncoder; with `dynamo=True` it stays free), or "
        f"cut or pad all samples to {_sizes_text(length)}. ({error})"
    )


def _sizes_text(lengths: Sequence[int]) -> str:
    return " and ".join(map(str, lengths))


def _find_constant(network: Network, feed: Feed, bound: int) -> ConstantInput | None:
    """Find a constant that is as long along an open axis as there are samples in a run."""
    dims = {target.name: target.dims or () for target in network.inputs}
    for constant in feed.constants:
        sizes = zip(dims[constant.name], constant.value.shape, strict=False)
        if constant.batch_axis is None and any(
            not isinstance(declared, int) and length == bound for declared, length in sizes
        ):
            return constant
    return None


def _free_batch(
    choice: BatchChoice,
    bound: int,
    feed: Feed,
    source: Source,
    asked: int | None,
    run: RunOptions,
    statistics: Sequence[Statistic],
) -> BatchChoice | None:
    """Free the batch axis; None if that fails, or if tensors lose their samples."""
    names = {tensor.name for tensor in choice.probed.tensors}
    network = choice.network.free_batch(bound, feed.probe(source, 3 * bound), run, names)
    if network is None:
        return None
    size = 1 if asked == 1 else None
    try:
        samples = feed.probe(source, PROBE_SAMPLES)
        probed = network.probe(samples, bound=size, run=run, statistics=statistics)
    except (BackendError, ModelError):
        return None
    if not names.issubset(tensor.name for tensor in probed.tensors):
        return None
    return BatchChoice(network, size, probed)


def _describe(bound: int, *, declared: bool, freed: BatchChoice | None) -> str:
    count = count_text(bound, "sample")
    text = f"the model {'is bound to' if declared else 'only runs with'} {count} a run"
    if not declared:
        text += ", though it declares any number"
    if freed is None:
        return f"{text}; exported with a dynamic batch axis it would run faster"
    if freed.bound == 1:
        return f"{text}; it is run with 1, which gives the same values for every tensor"
    return f"{text}; it is run with more, which gives the same values for every tensor"
