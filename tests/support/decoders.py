"""Small decoders in the layouts in which language models are exported, and their formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_WIDTH, _VOCABULARY, _POSITIONS = 6, 20, 16
_INT, _FLOAT, _BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL


def weights() -> dict[str, NDArray[np.float32]]:
    """Make the weights of a decoder of one head and one layer."""
    rng = np.random.default_rng(3)
    shapes = {"table": (_VOCABULARY, _WIDTH), "places": (_POSITIONS, _WIDTH)}
    shapes |= dict.fromkeys(("wq", "wk", "wv", "wo"), (_WIDTH, _WIDTH))
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def decode(ids: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the result of the decoder for one sample without padding, (T,) to (T, width)."""
    w = {name: value.astype(float) for name, value in weights().items()}
    x = w["table"][ids] + w["places"][np.arange(len(ids))]
    scores = (x @ w["wq"]) @ (x @ w["wk"]).T
    scores[np.triu_indices(len(ids), 1)] = -1e4
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return x + share @ (x @ w["wv"]) @ w["wo"]


def _value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def decoder(*, merged: bool = False, batch: int | str = "batch") -> onnx.ModelProto:
    """Make a decoder with a past, as optimum exports it; ``merged`` with an If around it."""
    total = "past_sequence_length + 1"
    past = [batch, 1, "past_sequence_length", _WIDTH]
    inputs = [
        _value("input_ids", _INT, [batch, "sequence_length"]),
        _value("attention_mask", _INT, [batch, total]),
        _value("position_ids", _INT, [batch, "sequence_length"]),
        _value("past_key_values.0.key", _FLOAT, past),
        _value("past_key_values.0.value", _FLOAT, past),
    ]
    present = [batch, 1, total, _WIDTH]
    outputs = [
        _value("hidden", _FLOAT, [batch, "sequence_length", _WIDTH]),
        _value("present.0.key", _FLOAT, present),
        _value("present.0.value", _FLOAT, present),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    constants += [
        numpy_helper.from_array(np.array(value), name)
        for name, value in {"one": [1], "both": [1, 2], "zero": 0, "three": 3}.items()
    ]
    constants.append(numpy_helper.from_array(np.float32([-1e4]), "low"))
    constants.append(numpy_helper.from_array(np.float32([1]), "unit"))
    if not merged:
        nodes = _nodes(with_past=True)
    else:
        inputs.append(_value("use_cache_branch", _BOOL, [1]))
        branches = {
            f"{word}_branch": helper.make_graph(
                _nodes(with_past=word == "then", prefix=f"{word}_"),
                word,
                [],
                [_value(f"{word}_{output.name}", _FLOAT, None) for output in outputs],
            )
            for word in ("then", "else")
        }
        names = [output.name for output in outputs]
        nodes = [helper.make_node("If", ["use_cache_branch"], names, name="merged", **branches)]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test"
    )


def _nodes(*, with_past: bool, prefix: str = "") -> list[onnx.NodeProto]:
    fed = {"input_ids", "attention_mask", "position_ids", *weights(), "one", "both"}
    fed |= {"past_key_values.0.key", "past_key_values.0.value", "low", "unit", "zero", "three"}

    def node(operator: str, reads: list[str], result: str, **settings: Any) -> onnx.NodeProto:
        names = [name if name in fed else prefix + name for name in reads]
        return helper.make_node(operator, names, [prefix + result], **settings)

    nodes = [
        node("Gather", ["table", "input_ids"], "tokens"),
        node("Gather", ["places", "position_ids"], "positions"),
        node("Add", ["tokens", "positions"], "x"),
        node("MatMul", ["x", "wq"], "q"),
    ]
    for name, part in (("key", "wk"), ("value", "wv")):
        nodes += [
            node("MatMul", ["x", part], f"new_{name}"),
            node("Unsqueeze", [f"new_{name}", "one"], f"head_{name}"),
        ]
        joined = [f"past_key_values.0.{name}", f"head_{name}"] if with_past else [f"head_{name}"]
        nodes += [
            node("Concat", joined, f"present.0.{name}", axis=2),
            node("Squeeze", [f"present.0.{name}", "one"], f"every_{name}"),
        ]
    return [
        *nodes,
        node("Transpose", ["every_key"], "turned", perm=[0, 2, 1]),
        node("MatMul", ["q", "turned"], "scores"),
        node("Shape", ["scores"], "square"),
        node("ConstantOfShape", ["square"], "full", value=helper.make_tensor("v", 1, [1], [1.0])),
        node("Trilu", ["full"], "lower", upper=0),
        node("Cast", ["attention_mask"], "mask", to=_FLOAT),
        node("Unsqueeze", ["mask", "one"], "row_mask"),
        node("Mul", ["lower", "row_mask"], "allowed"),
        node("Sub", ["unit", "allowed"], "forbidden"),
        node("Mul", ["forbidden", "low"], "bias"),
        node("Add", ["scores", "bias"], "masked"),
        node("Softmax", ["masked"], "share", axis=-1),
        node("MatMul", ["share", "every_value"], "context"),
        node("MatMul", ["context", "wo"], "projected"),
        node("Add", ["x", "projected"], "hidden"),
    ]
