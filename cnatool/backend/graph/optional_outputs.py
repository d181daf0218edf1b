"""Outputs that nodes can give and the model does not ask for, such as the states of an LSTM.

They are asked for without a change of any other tensor: a node that would compute its results in
another way then, in digits that differ, stays, and a copy of it gives the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.inner_names import label_nodes, walk_graphs
from cnatool.backend.graph.nodes import PREFIX
from cnatool.records.skipped import INSIDE_OPERATOR, NOT_ASKED
from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.backend.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class OptionalOutput:
    """An output that a type of operator offers."""

    place: int  # among the outputs of a node
    name: str  # what it is
    # An attribute that makes the operator give it
    setting: tuple[str, int] | None = None
    # Whether a copy of the node gives it, because its other results would change in their digits
    apart: bool = False
    typed: bool = False  # whether the runtime does not infer its element type, which is float


_STATES = (OptionalOutput(0, "hidden_states"), OptionalOutput(1, "final_hidden_state"))
_LSTM = (*_STATES, OptionalOutput(2, "final_cell_state"))
_SCORES = "attention_scores"  # before the softmax, scaled and masked
_PROBABILITIES = "attention_probabilities"  # after it
# Begins the names of copies and of their results that nothing reads.
_COPY = f"{PREFIX}copy of "
_MICROSOFT = "com.microsoft"
# By domain and type of the operator.
_OFFERED: Mapping[tuple[str, str], tuple[OptionalOutput, ...]] = {
    ("", "LSTM"): _LSTM,
    ("", "GRU"): _STATES,
    ("", "RNN"): _STATES,
    (_MICROSOFT, "DynamicQuantizeLSTM"): _LSTM,
    ("", "Attention"): (
        OptionalOutput(3, _PROBABILITIES, ("qk_matmul_output_mode", 3), apart=True),
    ),
    (_MICROSOFT, "GroupQueryAttention"): (
        OptionalOutput(3, _PROBABILITIES, ("qk_output", 2), apart=True),
    ),
    (_MICROSOFT, "MultiHeadAttention"): (OptionalOutput(3, _SCORES, apart=True, typed=True),),
    (_MICROSOFT, "DecoderMaskedMultiHeadAttention"): (
        OptionalOutput(3, _SCORES, ("output_qk", 1), apart=True, typed=True),
    ),
    (_MICROSOFT, "SkipLayerNormalization"): (OptionalOutput(3, "residual_sum"),),
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): (OptionalOutput(3, "residual_sum"),),
    (_MICROSOFT, "EmbedLayerNormalization"): (OptionalOutput(2, "embedding_sum"),),
}
_INSIDE_ATTENTION = ("attention_probabilities",)
_INSIDE_LSTM = ("gates", "cell_states")
# What operators compute and do not return, by domain and type.
_INSIDE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "LSTM"): _INSIDE_LSTM,
    ("", "GRU"): ("gates",),
    ("", "RNN"): ("preactivations",),
    (_MICROSOFT, "DynamicQuantizeLSTM"): _INSIDE_LSTM,
    **{
        (_MICROSOFT, operator): _INSIDE_ATTENTION
        for operator in (
            "Attention",
            "DecoderAttention",
            "DecoderMaskedSelfAttention",
            "LongformerAttention",
            "PackedAttention",
            "PackedMultiHeadAttention",
            "PagedAttention",
            "QAttention",
            "SparseAttention",
        )
    },
    (_MICROSOFT, "FusedConv"): ("preactivation",),
    (_MICROSOFT, "FusedGemm"): ("preactivation",),
}


class AskedGraph(NamedTuple):
    """A graph whose nodes give every output that they offer, and the names of these outputs."""

    graph: Graph
    names: frozenset[str]


def ask_outputs(graph: Graph) -> AskedGraph:
    """Ask the nodes of a graph for every output that they offer and do not give.

    An output of a node that is called ``lstm`` is named, for instance, ``lstm/hidden_states``.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    names: set[str] = set()
    is_changed = False
    for inside, prefix, used in walk_graphs(model.graph):
        copies: list[tuple[int, onnx.NodeProto]] = []
        for number, label in enumerate(label_nodes(inside.node)):
            node = inside.node[number]
            for output in _OFFERED.get(_kind(node), ()):
                own = _result(node, output.place)
                if not own:
                    own, is_changed = used.add_unused(f"{label}/{output.name}"), True
                    if output.apart:
                        node = _copy(node, label)
                        copies.append((number, node))
                    _ask(inside, node, output, own)
                names.add(prefix + own)
        for number, copy in reversed(copies):
            inside.node.insert(number + 1, copy)
    if is_changed:
        graph = analyse_graph(graph.path, graph.files, model, graph.weights, graph.same)
    return AskedGraph(graph, frozenset(names))


def list_unseen(graph: Graph) -> Iterator[SkippedTensor]:
    """List what nodes offer and the model does not ask for, and what they keep to themselves."""
    if not any(_kind(node) in _OFFERED or _kind(node) in _INSIDE for node in graph.nodes):
        return
    asked = {node.name for node in graph.nodes if node.name.startswith(_COPY)}
    for inside, prefix, _ in walk_graphs(graph.model.graph):
        for label, node in zip(label_nodes(inside.node), inside.node, strict=True):
            if label in asked:
                continue
            missing = () if _COPY + label in asked else _find_missing(node)
            for output in missing:
                yield SkippedTensor(f"{prefix}{label}/{output.name}", node.op_type, NOT_ASKED)
            for name in _INSIDE.get(_kind(node), ()):
                yield SkippedTensor(f"{prefix}{label}/{name}", node.op_type, INSIDE_OPERATOR)


def is_unread(node: onnx.NodeProto, name: str) -> bool:
    """Whether a node is a copy that gives an output, and a tensor another one of its results."""
    return node.name.startswith(_COPY) and name.startswith(_COPY) and _kind(node) in _OFFERED


def _kind(node: onnx.NodeProto) -> tuple[str, str]:
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def _result(node: onnx.NodeProto, place: int) -> str:
    """Return the name of an output; empty where the node does not give it."""
    name: str = node.output[place] if place < len(node.output) else ""
    return name


def _find_missing(node: onnx.NodeProto) -> list[OptionalOutput]:
    """List the outputs that a node offers and does not give."""
    offered = _OFFERED.get(_kind(node), ())
    return [output for output in offered if not _result(node, output.place)]


def _copy(node: onnx.NodeProto, label: str) -> onnx.NodeProto:
    """Copy a node, with results that nothing reads; the runtime may write to all of them."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = _COPY + label
    copy.output[:] = [name and f"{copy.name} {place}" for place, name in enumerate(node.output)]
    return copy


def _ask(graph: onnx.GraphProto, node: onnx.NodeProto, output: OptionalOutput, name: str) -> None:
    """Ask a node of a graph for an output."""
    node.output.extend([""] * (output.place + 1 - len(node.output)))
    node.output[output.place] = name
    if output.setting is not None:
        key, value = output.setting
        kept = [attribute for attribute in node.attribute if attribute.name != key]
        node.ClearField("attribute")
        node.attribute.extend([*kept, helper.make_attribute(key, value)])
    if output.typed:
        kind = onnx.TensorProto.FLOAT
        graph.value_info.append(helper.make_tensor_value_info(name, kind, None))
