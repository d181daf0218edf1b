"""Batch sizes that a model runs with, where it declares a free batch and some sizes fail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from cnatool.backend.session import Session
from cnatool.backend.tensor_sizes import check_bytes
from cnatool.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic

# Tried where nothing in the graph names a number: small ones first, a run of which is cheap.
_LADDER = (1, 8, 4, 2, 3, 16, 6, 5, 10, 12, 32, 64)
# ... and of large samples only as many as take this much.
_LADDER_BYTES = 1 << 28
# Larger ones are rather lengths of something else.
_LARGEST = 1024
# So many are taken from a graph; each costs a run.
_MOST_BAKED = 8
# Where recurrent operators take their initial states, whose second axis is the batch.
_STATES = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
_ELEMENTWISE = {"Add", "Concat", "Div", "Mul", "Sub", "Where"}


@dataclass(frozen=True, slots=True)
class SizedProbe:
    """What a probe found, and with how many samples.

    Attributes
    ----------
    probed : ProbedNetwork
    bound : int or None
        The number of samples that each run takes; None where any number does.
    rowless : bool
        It is one because no tensor has rows of samples in a run of several.
    """

    probed: ProbedNetwork
    bound: int | None
    rowless: bool = False


def probe_network(
    network: Network,
    samples: Callable[[int | None], Samples],
    *,
    bound: int | None,
    asked: int | None,
    run: RunOptions,
    statistics: Sequence[Statistic] = (),
    shapes_only: bool = False,
) -> SizedProbe:
    """Probe a network with a number of samples that it runs with.

    A graph may declare any number and have one written into a reshape or a state. Where it fails
    with the number that a probe takes, the user's is tried, then those that the graph holds, then
    a few others. The first that runs is the only one from then on. Where it runs and no tensor has
    rows of samples, each sample has a run of its own.
    """
    if bound is None and asked == 1:
        bound = 1

    def probed_with(bound: int | None) -> ProbedNetwork:
        return network.probe(
            samples(bound), bound=bound, run=run, statistics=statistics, shapes_only=shapes_only
        )

    try:
        probed = probed_with(bound)
    except BackendError:
        if bound is not None and bound == network.fixed_batch(samples(bound).values):
            raise
        found = _first_that_runs(network, samples, asked, run, probed_with)
        if found is None:
            raise
        probed, size = found
        if asked not in (None, size):
            raise UsageError(
                f"--batch-size {asked}: {network.graph.path} fails with so many samples a run; "
                f"it runs with {size}. Leave the option out, or choose that number."
            ) from None
        return SizedProbe(probed, size)
    if bound is None and asked is None and not probed.tensors:
        alone = probed_with(1)
        if alone.tensors:
            return SizedProbe(alone, 1, rowless=True)
    return SizedProbe(probed, bound)


def _first_that_runs(
    network: Network,
    samples: Callable[[int | None], Samples],
    asked: int | None,
    run: RunOptions,
    probed_with: Callable[[int], ProbedNetwork],
) -> tuple[ProbedNetwork, int] | None:
    session = Session(network.graph.model, network.graph.path, run)
    sample = sum(value[0].nbytes for value in samples(1).values.values())
    if asked is not None:
        said = f"--batch-size {asked}: the samples of one batch take"
        check_bytes(said, asked * sample, "Choose a smaller number.")
    ladder = [size for size in _LADDER if size == 1 or size * sample <= _LADDER_BYTES]
    sizes = [*([asked] if asked else []), *find_batch_sizes(network.graph), *ladder]
    for size in dict.fromkeys(sizes):
        try:
            session.run(network.graph.output_names, samples(size).first(size).feeds())
            return probed_with(size), size
        except BackendError:
            continue
    return None


def find_batch_sizes(graph: Graph) -> list[int]:
    """Return the numbers of samples that a graph may hold.

    They are the first length of a declared output, of the constant shape of a Reshape or Expand,
    or of a constant that is added to something or the like; and the second one of a recurrent
    operator's initial state.
    """
    constants = {tensor.name: tensor for tensor in graph.model.graph.initializer}
    for node in graph.nodes:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    found = [
        output.type.tensor_type.shape.dim[0].dim_value
        for output in graph.model.graph.output
        if output.type.tensor_type.shape.dim
    ]
    for node in graph.nodes:
        found.extend(_sizes(node, constants))
    sizes = dict.fromkeys(size for size in found if 0 < size <= _LARGEST)
    # One sample runs by broadcasting where more are meant, so that it is tried behind them.
    return sorted(list(sizes)[:_MOST_BAKED], key=lambda size: size == 1)


def _sizes(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[int]:
    if node.op_type in ("Reshape", "Expand") and len(node.input) > 1:
        shape = constants.get(node.input[1])
        external = onnx.TensorProto.EXTERNAL
        if shape is not None and shape.data_location != external and math.prod(shape.dims):
            yield int(numpy_helper.to_array(shape).flat[0])
    elif node.op_type in _ELEMENTWISE:
        given = [constants[name] for name in node.input if name in constants]
        yield from (tensor.dims[0] for tensor in given if len(tensor.dims) > 1)
    for place in _STATES.get(node.op_type, ()):
        state = constants.get(node.input[place]) if place < len(node.input) else None
        if state is not None and len(state.dims) == 3:
            yield state.dims[1]
