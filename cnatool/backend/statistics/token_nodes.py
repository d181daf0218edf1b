"""Nodes that compare the scores of each token with a target, so that few numbers leave the graph.

The targets are an input of their own: the next token, or labels. Of scores (N, T, K) the graph
returns two numbers for each token, which are summed outside, where padding is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from cnatool.backend.graph.appended_nodes import AppendedNodes
from cnatool.backend.graph.nodes import PREFIX
from cnatool.metrics.performance import LEAST_PROBABILITY
from cnatool.metrics.tokens import IGNORED, next_tokens, sum_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx
    from numpy.typing import NDArray

    from cnatool.metrics.performance import OutputKind
    from cnatool.metrics.tokens import TokenScores
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TokensRecord

TARGETS = f"{PREFIX}targets"
TOKEN_OUTPUTS = (f"{PREFIX}token loss", f"{PREFIX}token right")
# GatherElements, which looks up the score of each target.
LEAST_OPSET = 11


def append_token_scores(
    model: onnx.ModelProto,
    scores: str,
    dtype: str,
    kind: OutputKind,
    opset: int,
    merged: int | None = None,
) -> None:
    """Make a model take targets, (N, T) int64, and return `TOKEN_OUTPUTS`.

    ``scores`` is the tensor (N, T, K), of the ONNX element type ``dtype``, or (N·T, K) if K is
    given as ``merged``. As a softmax cannot overflow once the greatest score is subtracted, only
    the sum of its exponentials is taken in the type of the scores, at least float32; the rest is
    float64.
    """
    nodes = AppendedNodes(opset, prefix=f"{PREFIX}token ")
    loss, right = TOKEN_OUTPUTS
    if merged is not None:
        shape = [nodes.add("Shape", [TARGETS]), nodes.integers([merged])]
        scores = nodes.add("Reshape", [scores, nodes.add("Concat", shape, axis=0)])
    if dtype not in ("float", "double"):
        scores = nodes.add("Cast", [scores], to=TensorProto.FLOAT)
    places = nodes.unsqueeze(TARGETS, 2)
    target = nodes.add("GatherElements", [scores, places], axis=2)
    target = nodes.add("Cast", [target], to=TensorProto.DOUBLE)
    if kind == "probabilities":
        least = nodes.constant("least probability", np.array(LEAST_PROBABILITY))
        logarithm = nodes.add("Log", [nodes.add("Max", [target, least])])
        nodes.add("Neg", [logarithm], loss)
    else:
        greatest = nodes.reduce_axes("ReduceMax", scores, [2], keep=True)
        exponentials = nodes.add("Exp", [nodes.add("Sub", [scores, greatest])])
        total = nodes.reduce_axes("ReduceSum", exponentials, [2], keep=True)
        logarithm = nodes.add("Log", [nodes.add("Cast", [total], to=TensorProto.DOUBLE)])
        behind = nodes.add("Cast", [greatest], to=TensorProto.DOUBLE)
        behind = nodes.add("Sub", [behind, target])
        nodes.add("Add", [logarithm, behind], loss)
    best = nodes.add("ArgMax", [scores], axis=2, keepdims=0)
    nodes.add("Equal", [best, TARGETS], right)
    model.graph.input.append(
        helper.make_tensor_value_info(TARGETS, TensorProto.INT64, [None, None])
    )
    model.graph.node.extend(nodes.nodes)
    there = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(t for name, t in nodes.constants.items() if name not in there)
    model.graph.output.extend(ValueInfoProto(name=name) for name in TOKEN_OUTPUTS)


class TokenMeasure:
    """Comparison of the scores of tokens with targets, in a model that returns `TOKEN_OUTPUTS`."""

    def __init__(
        self,
        model: onnx.ModelProto,
        tokens: TokensRecord,
        dtype: str,
        opset: int,
        mask: MaskRecord | None = None,
        *,
        merged: bool = False,
    ) -> None:
        self._tokens = tokens
        # A mask may be that of another sequence, which is as long by chance.
        self._is_padded = mask is not None and tokens.input in mask.axes
        classes = tokens.classes if merged else None
        append_token_scores(model, tokens.output, dtype, tokens.kind, opset, classes)

    def run(
        self,
        feeds: Mapping[str, NDArray[Any]],
        real: NDArray[np.bool_],
        run: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]],
    ) -> tuple[list[NDArray[Any]], TokenScores]:
        """Run a batch with targets; return its other results and the sums over tokens.

        ``real`` says which positions are no padding, (N, T), if the mask is that of the ids. The
        loss of a target beyond the classes is not a number.
        """
        targets, counted = self._find_targets(feeds, real)
        known = targets.clip(0, self._tokens.classes - 1)
        *values, losses, right = run({**feeds, TARGETS: known})
        unknown = targets != known
        losses = np.where(unknown, np.nan, losses.reshape(counted.shape))
        return values, sum_tokens(losses, right & ~unknown, counted)

    def _find_targets(
        self, feeds: Mapping[str, NDArray[Any]], real: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the target of each token, (N, T), and which tokens count, (N, T)."""
        tokens = self._tokens
        if tokens.targets == "next":
            ids = feeds[tokens.input]
            mask = None if tokens.mask is None else feeds[tokens.mask]
            return next_tokens(ids, real if self._is_padded else mask)
        labels = feeds.get(TARGETS)
        if labels is None:  # samples of a probe
            labels = np.full(feeds[tokens.input].shape, IGNORED)
        counted = labels != IGNORED
        return labels, counted & real if self._is_padded else counted
