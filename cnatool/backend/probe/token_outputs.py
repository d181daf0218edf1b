"""Which output of a model scores the next token, as its shape, its graph and two runs show.

A language model takes ids (N, T) and gives scores (N, T, V), or the same as rows (N·T, V), V the
size of its vocabulary. Those of a token predict the next one only if they do not depend on it: a
masked language model reads a text in both directions, and has no loss of the next token. So one
run has another last token, and scores before it must stay as they are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnatool.backend.graph.linear_operators import linear_operator
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.graph.preactivation_walk import NORMALIZATIONS
from cnatool.backend.session import Session
from cnatool.backend.statistics.token_nodes import LEAST_OPSET
from cnatool.backend.token_tables import find_token_table
from cnatool.errors import BackendError
from cnatool.metrics.margin import detect_output_kind
from cnatool.metrics.tokens import NOT_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.backend.token_tables import Table
    from cnatool.metrics.performance import OutputKind
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord

# Exporters and optimisers round the size of a vocabulary up to a multiple of these.
_ROUNDED = (64, 128, 256)
_LARGE = 1000
# Of the largest score: what rounding may change in a float, in multiples of its precision.
_ROUNDING = 4
# With activations that are quantised by their range, one token changes the rounding of all others;
# by this share of what it changes at its own place.
_QUANTISED = 0.05

# Other last tokens that are tried, as some may change nothing.
_TRIES = 3

Direction = Literal["next", "both", "unknown"]


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """An output with a score for each token of the vocabulary at each token of a sample."""

    name: str
    onnx_type: str
    shape: tuple[int, ...]  # of a sample: tokens, vocabulary
    dtype: str
    kind: OutputKind
    ids: str  # the model input that has the ids of these tokens
    mask: str | None  # the input that is 0 for padding, if there is one
    # What scores depend on: the tokens up to their own, or later ones as well
    direction: Direction
    # Outputs that have such scores of the same tokens as well
    others: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Size of the vocabulary."""
        return self.shape[1]


def find_token_output(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    samples: Samples,
    mask: MaskRecord | None,
    run: RunOptions,
    *,
    named: bool = True,
) -> TokenOutput | None:
    """Find the output of a model that scores tokens of the vocabulary; None if there is none.

    ``samples`` are those of a run of the probe, which described the ``tensors``, and ``mask`` is
    what says where samples are padded, if anything does; else an input that is called a mask may,
    if it is ``named``.
    """
    if graph.opset < LEAST_OPSET:
        return None
    found: TokenOutput | None = None
    candidates = list(_pair_candidates(graph, tensors, samples))
    for ids, tensor in candidates:
        output = _examine(graph, tensor, samples, ids, mask, run, named=named)
        # The encoder of two reads a text in both directions; the ids of the decoder decide.
        if found is None or output.direction == "next":
            found = output
        if output.direction == "next":
            break
    if found is None:
        return None
    others = [t.name for ids, t in candidates if ids == found.ids and t.name != found.name]
    return replace(found, others=tuple(others))


def _pair_candidates(
    graph: Graph, tensors: Sequence[TensorRecord], samples: Samples
) -> Iterator[tuple[str, TensorRecord]]:
    """Yield inputs of ids with the outputs that may score their tokens."""
    outputs = [
        tensor
        for tensor in tensors
        if tensor.name in graph.output_names
        and np.dtype(tensor.dtype).kind == "f"
        and len(tensor.shape) == 2
        and tensor.batch_axis == 0
        and tensor.merged in (None, "NT")
    ]
    # The first output is the main one.
    outputs.sort(key=lambda tensor: graph.output_names.index(tensor.name))
    for name, values in samples.values.items():
        if values.dtype.kind not in "iu" or values.ndim != 2 or values.shape[1] < 2:
            continue
        if any(word in name.lower() for word in NOT_IDS):
            continue
        table = find_token_table(graph, name)
        for tensor in outputs:
            length, classes = tensor.shape
            if length != values.shape[1] or not _fits(table, classes, values):
                continue
            # The hidden state may be as wide as the vocabulary is large.
            if table is None or table.width != classes or _are_scores(graph, tensor.name):
                yield name, tensor


def _are_scores(graph: Graph, name: str) -> bool:
    """Whether a tensor is the result of a linear operator, but for what has no other operand."""
    node = graph.producer.get(name)
    while node is not None and node.op_type not in NORMALIZATIONS:
        if linear_operator(graph, node) is not None:
            return True
        moving = [operand for operand in node.input if operand in graph.dynamic]
        if len(moving) != 1:
            return False
        node = graph.producer.get(moving[0])
    return False


def _fits(table: Table | None, classes: int, ids: NDArray[Any]) -> bool:
    """Whether there is a score for each id: as many as the embedding has rows, if it is known."""
    if table is None:
        return classes > 1 and int(ids.min()) >= 0 and int(ids.max()) < classes
    return _same_vocabulary(table.rows, classes)


def _same_vocabulary(rows: int, classes: int) -> bool:
    if rows == classes:
        return True
    low, high = sorted((rows, classes))
    return low >= _LARGE and any(-(-low // size) * size == high for size in _ROUNDED)


def _find_named_mask(samples: Samples, ids: str) -> str | None:
    """Find the input that is 0 for padding: a number for each id, and called a mask."""
    shape = samples.values[ids].shape
    names = [
        name
        for name, values in samples.feeds().items()
        if "mask" in name.lower() and values.shape == shape and set(np.unique(values)) <= {0, 1}
    ]
    decoder = [name for name in names if "decoder" in name.lower()]
    alike = decoder if "decoder" in ids.lower() else [n for n in names if n not in decoder]
    return alike[0] if len(alike) == 1 else None


def _examine(
    graph: Graph,
    tensor: TensorRecord,
    samples: Samples,
    ids: str,
    padding: MaskRecord | None,
    run: RunOptions,
    *,
    named: bool,
) -> TokenOutput:
    """Run a model with other last tokens, and compare the scores."""
    exposed = make_readable(graph.model, [tensor.name], {tensor.name: tensor.onnx_type or ""})
    session = Session(exposed.model, graph, run)
    feeds = samples.feeds()
    shape = feeds[ids].shape
    mask: str | None
    if padding is not None and ids in padding.axes:
        mask, real = padding.input, padding.find_real(feeds)
    else:
        mask = _find_named_mask(samples, ids) if named else None
        real = np.ones(shape, np.bool_) if mask is None else feeds[mask] != 0
    (before,) = session.run(exposed.outputs, feeds)
    # Tokens of all samples may be rows behind one another.
    sizes = (*shape, tensor.shape[1])
    before = before.reshape(sizes)
    direction: Direction = "unknown"
    for step in range(1, _TRIES + 1):
        changed, last = _change_last(feeds[ids], real, step, tensor.shape[1])
        with suppress(BackendError):
            (after,) = session.run(exposed.outputs, {**feeds, ids: changed})
            direction = _compare(graph, before, after.reshape(sizes), last, real)
        if direction != "unknown":
            break
    operator = graph.operator(tensor.name)
    return TokenOutput(
        name=tensor.name,
        onnx_type=tensor.onnx_type or "",
        shape=tensor.shape,
        dtype=tensor.dtype,
        kind="probabilities"
        if operator == "Softmax"
        else detect_output_kind(before.reshape(-1, before.shape[-1])),
        ids=ids,
        mask=mask,
        direction=direction,
    )


def _change_last(
    ids: NDArray[Any], real: NDArray[np.bool_], step: int, classes: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Replace the last token of each sample that is no padding; return its place as well."""
    length = ids.shape[1]
    last = np.where(real.any(axis=1), length - 1 - real[:, ::-1].argmax(axis=1), 0)
    changed, rows = ids.copy(), np.arange(len(ids))
    known = np.unique(ids)
    # One of the ids that occur: all of them are in the vocabulary.
    places = np.searchsorted(known, ids[rows, last])
    changed[rows, last] = known[(places + step) % len(known)]
    if len(known) == 1:
        changed[rows, last] = (known[0] + step) % classes
    return changed, last


def _compare(
    graph: Graph,
    before: NDArray[Any],
    after: NDArray[Any],
    last: NDArray[np.int64],
    real: NDArray[np.bool_],
) -> Direction:
    """Find out whether scores of real tokens before the last one depend on it.

    Padding in front has no token that it may attend to, and so attends to all.
    """
    finite = np.isfinite(before) & np.isfinite(after)
    first, second = (np.where(finite, x, 0).astype(np.float64) for x in (before, after))
    same = finite | (before == after) | (np.isnan(before) & np.isnan(after))
    differences = np.where(same, np.abs(first - second), np.inf).max(axis=2)
    rows, places = np.arange(len(last)), np.arange(before.shape[1])
    own = differences[rows, last]
    earlier = np.where(real & (places < last[:, None]), differences, 0.0).max(axis=1)
    told = (last > 0) & (own > 0)
    if not told.any():
        return "unknown"
    # Not the largest score, which may be the -1e9 of a token that never comes.
    sizes = np.abs(first[finite])
    scale = min(float(sizes.max()), 100 * float(np.median(sizes)))
    rounding = _ROUNDING * float(np.finfo(before.dtype).eps) * scale
    if (earlier[told] <= rounding).all():
        return "next"
    quantised = any(node.op_type == "DynamicQuantizeLinear" for node in graph.nodes)
    if quantised and (earlier[told] <= _QUANTISED * own[told]).all():
        return "next"
    return "both"
