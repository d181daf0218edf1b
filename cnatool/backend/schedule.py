"""How a model is run: samples per batch, batches at a time, threads for each."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from cnatool.backend.graph.input_dependence import KNOWN_DOMAINS
from cnatool.backend.graph.random_operators import draws_random
from cnatool.backend.io_binding import BATCHES_IN_FLIGHT, DEVICE_PROVIDERS
from cnatool.backend.session import CPU
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.network import Network
    from cnatool.records.store import TensorRecord

# The intermediate tensors of a batch that fit into a processor's cache.
_CACHED_BYTES = 6 << 20
# With fewer samples a run reads the weights too often.
_EFFICIENT_BATCH = 8
# Each run reads all weights: a batch's tensors are so many times as large, up to so many samples.
_TIMES_WEIGHTS = 2
_LARGEST_FOR_WEIGHTS = 32
_BATCH_BYTES = 256 << 20
_LARGEST_BATCH = 256
# The share of a deep network's tensors that is in memory at one time.
_REUSED = 4
# A block is large enough that work per block costs little beside the runs, and small enough that no
# run waits long for the others at the end. What is stored of a block is held in memory.
_BLOCK_BYTES = 128 << 20
_HELD_BYTES = 8 << 20
_LARGEST_BLOCK = 1024
# Where samples differ in length, those of one length run together, and more of a large block are of
# one. Its bytes held, those of all its tensors, and the products of its numbers with weights bound
# it, the latter two so that the first block, from which the rest is estimated, takes seconds.
_LARGEST_RAGGED_BLOCK = 8192
_RAGGED_HELD_BYTES = 64 << 20
_RAGGED_BLOCK_BYTES = 4 << 30
_RAGGED_PRODUCTS = 1 << 38
# There is a block for each run at a time, unless these would have less than so many samples.
_FEWEST_RAGGED = 64
# Of all runs at one time.
_RUNS_BYTES = 1 << 30
_MOST_RUNS = 8


class LengthRange(NamedTuple):
    """Samples that differ in length, in the data of a dump."""

    typical: int  # length of a typical sample, of all inputs together
    ratio: float  # length of the longest of the first samples, in units of a typical one
    rows: int  # samples of the largest split


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a model is run."""

    # Samples that are read, run and written together: a whole number of batches.
    block: int
    # Samples of one run.
    batch: int
    # Runs at a time, each on a block of its own.
    runs: int
    # Threads of one operator; 0 leaves it to ONNX Runtime.
    threads: int
    # Results depend on earlier runs, or may.
    stateful: bool
    # Where samples differ in length: the bytes of one of typical length that are in memory at one
    # time, by how many axes follow the length, and the most bytes of a run.
    lengths: tuple[int, ...] = ()
    run_bytes: int = 0

    @property
    def unit(self) -> int:
        """Samples that run in the same batches wherever the first of them begins a block."""
        return self.block if self.lengths else self.batch

    def fit(self, ratio: float) -> int:
        """Return the samples of one run that are so many times as long as typical ones."""
        if not self.lengths:
            return self.batch
        size = sum(part * ratio**degree for degree, part in enumerate(self.lengths))
        return max(1, min(self.batch, int(self.run_bytes // max(1.0, size))))


def schedule_runs(
    network: Network,
    tensors: Sequence[TensorRecord],
    held_bytes: int,
    *,
    bound: int | None,
    batch: int | None,
    provider: str,
    threads: int,
    lengths: LengthRange | None = None,
) -> Schedule:
    """Choose how a model is run.

    On a CPU, several batches go through the model side by side with few threads each, instead of
    one batch with all of them: threads that share no operator need not wait for each other, and
    reading and writing in the meantime takes time from only one of them. On a device with memory of
    its own, one batch is copied while another runs.
    """
    if bound is not None and batch not in (None, bound):
        raise UsageError(
            f"`batch_size={batch}`: the model takes batches of exactly {bound} samples. "
            "Export it with a dynamic batch axis to choose."
        )
    sample = _sample_bytes(tensors)
    on_cpu = provider == CPU
    batch = bound or batch or choose_batch_size(network.graph, tensors, provider, held_bytes)
    stateful = any(_keeps_state(node, network.graph) for node in network.graph.nodes)
    runs = 1
    if on_cpu:
        threads = threads or processors()
    if not stateful and (on_cpu or provider in DEVICE_PROVIDERS):
        fitting = _RUNS_BYTES // (batch * _live_bytes(tensors, held_bytes))
        runs = max(1, min(fitting, min(threads, _MOST_RUNS) if on_cpu else BATCHES_IN_FLIGHT))
        threads = threads // runs if on_cpu else threads
    if lengths is None:
        most = min(_LARGEST_BLOCK, _BLOCK_BYTES // sample, _HELD_BYTES // max(1, held_bytes))
        return Schedule(batch * max(1, most // batch), batch, runs, threads, stateful)
    most = _choose_ragged_block(network.graph, sample, held_bytes, lengths)
    parts = _live_parts(tensors, held_bytes)
    return Schedule(
        batch * _power_of_two(most // batch),
        batch,
        runs,
        threads,
        stateful,
        parts,
        max(_BATCH_BYTES, batch * sum(parts)),
    )


def _choose_ragged_block(graph: Graph, sample: int, held_bytes: int, lengths: LengthRange) -> int:
    """Choose the samples of a block where they differ in length; ``sample`` are bytes of one.

    It does not depend on the machine, since batches depend on it.
    """
    looked_up = {
        name
        for node in graph.nodes
        if node.op_type == "Gather"
        for name in node.input[:1]
        if len(graph.consumers.get(name, ())) == 1
    }
    weights = sum(
        int(math.prod(constant.dims))
        for name, constant in graph.constants.items()
        if name not in looked_up
    )
    products: int = max(1, weights * lengths.typical)
    return min(
        _LARGEST_RAGGED_BLOCK,
        int(_RAGGED_HELD_BYTES // max(1.0, held_bytes * lengths.ratio)),
        _RAGGED_BLOCK_BYTES // sample,
        _RAGGED_PRODUCTS // products,
        max(_FEWEST_RAGGED, -(-lengths.rows // _MOST_RUNS)),
    )


def _live_parts(tensors: Sequence[TensorRecord], held_bytes: int) -> tuple[int, ...]:
    """Divide the bytes of a sample that are in memory by how many axes follow its length."""
    parts = [0, 0, 0]
    for tensor in tensors:
        single = tensor.ragged_axis is not msgspec.UNSET
        parts[(1 if single else 2) if tensor.varies else 0] += _bytes(tensor)
    scale = _live_bytes(tensors, held_bytes) / max(1, sum(parts))
    return tuple(int(scale * part) for part in parts)


def _keeps_state(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether results depend on earlier runs, or may: nothing is known of custom operators."""
    return draws_random(node, graph) or node.domain not in KNOWN_DOMAINS


def choose_batch_size(
    graph: Graph, tensors: Sequence[TensorRecord], provider: str, held_bytes: int = 0
) -> int:
    """Choose the samples of one run by the processor and its memory."""
    fitting = _BATCH_BYTES // _live_bytes(tensors, held_bytes)
    if provider == CPU:
        sample = _sample_bytes(tensors)
        enough = min(_LARGEST_FOR_WEIGHTS, _TIMES_WEIGHTS * _weight_bytes(graph) // sample)
        fitting = min(fitting, max(_EFFICIENT_BATCH, enough, _CACHED_BYTES // sample))
    # If all tensors are held, and large, a block is one batch: those of several would be joined.
    joined = held_bytes > max(_sample_bytes(tensors), _HELD_BYTES // _LARGEST_BLOCK)
    return _power_of_two(min(_LARGEST_BLOCK if joined else _LARGEST_BATCH, fitting))


def _live_bytes(tensors: Sequence[TensorRecord], held_bytes: int) -> int:
    """Estimate the bytes of a sample that are in memory at one time.

    The runtime reuses the memory of tensors that are no longer needed.
    """
    sizes = [_bytes(tensor) for tensor in tensors]
    return max(1, held_bytes, sum(sizes) // _REUSED, *sizes)


def _sample_bytes(tensors: Sequence[TensorRecord]) -> int:
    return max(1, sum(map(_bytes, tensors)))


def _weight_bytes(graph: Graph) -> int:
    return sum(4 * math.prod(constant.dims) for constant in graph.constants.values())


def _bytes(tensor: TensorRecord) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def processors() -> int:
    """Count the processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << (max(1, number).bit_length() - 1)
