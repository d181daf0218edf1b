"""Batch sizes that a model runs with, where it declares a free batch and some sizes fail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from cnatool.backend.session import Session
from cnatool.backend.tensor_sizes import check_bytes
from cnatool.errors import BackendError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic

# Tried where nothing in the graph names a number; runs of the first ones are cheap.
_LADDER = (1, 8, 4, 2, 3, 16, 6, 5, 10, 12, 32, 64)
# Larger batches than this are not tried.
_LADDER_BYTES = 1 << 28
# Larger numbers in a graph are rather lengths of something else.
_LARGEST = 1024
# Numbers taken from a graph; each costs a run.
_MOST_BAKED = 8
_MOST_LENGTHS = 16
# Inputs with initial states, whose second axis is the batch, of recurrent operators.
_STATES = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
_ELEMENTWISE = {"Add", "Concat", "Div", "Mul", "Sub", "Where"}


@dataclass(frozen=True, slots=True)
class SizedProbe:
    """A probe, and the number of samples of its runs."""

    probed: ProbedNetwork
    # The number of samples that each run takes; None where it is free.
    bound: int | None
    # Each run takes one sample because no tensor has rows of samples in a run of several.
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

    A graph may declare a free batch and have a fixed one in a reshape or a state. Where it fails
    with the number of samples that a probe takes, the user's number is tried, then those in the
    graph, then a few others; all later runs take the first that works. Where no tensor has rows
    of samples, each sample has a run of its own.
    """
    if bound is None and asked == 1:
        bound = 1

    def probe_with(bound: int | None) -> ProbedNetwork:
        return network.probe(
            samples(bound), bound=bound, run=run, statistics=statistics, shapes_only=shapes_only
        )

    try:
        probed = probe_with(bound)
    except BackendError:
        if bound is not None and bound == network.fixed_batch(samples(bound).values):
            raise
        first = _find_first(network, samples, asked, run, probe_with)
        if first is None:
            raise
        probed, size = first
        if asked not in (None, size):
            raise UsageError(
                f"`batch_size={asked}`: {network.graph.path} fails with that many samples per "
                f"run; it runs with {size}. Omit it, or use that number."
            ) from None
        return SizedProbe(probed, size)
    if bound is None and asked is None and not probed.tensors:
        alone = probe_with(1)
        if alone.tensors:
            return SizedProbe(alone, 1, rowless=True)
    return SizedProbe(probed, bound)


def _find_first(
    network: Network,
    samples: Callable[[int | None], Samples],
    asked: int | None,
    run: RunOptions,
    probe_with: Callable[[int], ProbedNetwork],
) -> tuple[ProbedNetwork, int] | None:
    session = Session(network.graph.model, network.graph, run)
    sample = sum(value[:1].nbytes for value in samples(1).values.values())
    if asked is not None:
        subject = f"`batch_size={asked}`: the samples of one batch take"
        check_bytes(subject, asked * sample, "Choose a smaller number.")
    ladder = [size for size in _LADDER if size == 1 or size * sample <= _LADDER_BYTES]
    sizes = [*([asked] if asked else []), *find_batch_sizes(network.graph), *ladder]
    refusal: ModelError | None = None
    for size in dict.fromkeys(sizes):
        try:
            session.run(network.graph.output_names, samples(size).first(size).feeds())
            return probe_with(size), size
        except BackendError:
            continue
        except ModelError as error:  # it runs, but takes too much memory, for example
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    return None


def find_batch_sizes(graph: Graph) -> list[int]:
    """List the numbers in a graph that may be its batch size.

    They are the first length of a declared output, of the constant shape of a Reshape or Expand,
    and of a constant operand of an Add or the like; and the second one of a recurrent operator's
    initial state.
    """
    numbers = [
        output.type.tensor_type.shape.dim[0].dim_value
        for output in graph.model.graph.output
        if output.type.tensor_type.shape.dim
    ]
    for node in graph.nodes:
        numbers.extend(_sizes(node, graph.constants))
    sizes = dict.fromkeys(size for size in numbers if 0 < size <= _LARGEST)
    # One sample may run by broadcasting where several are meant: it is tried after them.
    return sorted(list(sizes)[:_MOST_BAKED], key=lambda size: size == 1)


def list_sizes(graph: Graph) -> list[int]:
    """List the numbers in the constant shapes of a graph that may be a length, small ones first."""
    numbers: set[int] = set()
    for node in graph.nodes:
        if node.op_type in ("Reshape", "Expand") and len(node.input) > 1:
            numbers.update(_read_shape(graph.constants.get(node.input[1])))
    return sorted(size for size in numbers if 1 < size <= _LARGEST)[:_MOST_LENGTHS]


def _read_shape(shape: onnx.TensorProto | None) -> list[int]:
    """Read a constant shape; empty if there is none in the model's file."""
    external = onnx.TensorProto.EXTERNAL
    if shape is None or shape.data_location == external or not math.prod(shape.dims):
        return []
    return [int(size) for size in numpy_helper.to_array(shape).flat]


def _sizes(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[int]:
    if node.op_type in ("Reshape", "Expand") and len(node.input) > 1:
        yield from _read_shape(constants.get(node.input[1]))[:1]
    elif node.op_type in _ELEMENTWISE:
        operands = [constants[name] for name in node.input if name in constants]
        yield from (tensor.dims[0] for tensor in operands if len(tensor.dims) > 1)
    for place in _STATES.get(node.op_type, ()):
        state = constants.get(node.input[place]) if place < len(node.input) else None
        if state is not None and len(state.dims) == 3:
            yield state.dims[1]
