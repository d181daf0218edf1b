"""Small models that score tokens, with their results in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class TokenModel:
    """Embedding, a running mean or a mean of all tokens, a ReLU layer, and scores of each token.

    Parameters
    ----------
    vocabulary, width : int
    classes : int, optional
        Scores at each token; by default one for each word of the vocabulary.
    causal : bool
        Whether a token sees only itself and those before it.
    softmax : bool
        Whether the output is probabilities.
    scale : float
        Of the logits.
    dtype : {"float16", "float32", "float64"}
        Type of the output.
    masked : bool
        Whether there is an input ``attention_mask``; padding is left out of the mean.
    merged : bool
        Whether the tokens of all samples are rows behind one another, (N·T, K).
    heads : int
        Outputs with scores; those beside ``logits`` are twice, three times, … as large.
    """

    def __init__(
        self,
        vocabulary: int = 11,
        width: int = 8,
        *,
        classes: int | None = None,
        causal: bool = True,
        softmax: bool = False,
        scale: float = 1.0,
        dtype: str = "float32",
        masked: bool = False,
        merged: bool = False,
        heads: int = 1,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.causal, self.softmax, self.dtype, self.masked = causal, softmax, dtype, masked
        self.merged, self.heads = merged, heads
        self.vocabulary, self.classes = vocabulary, classes or vocabulary
        self.embedding = rng.normal(size=(vocabulary, width)).astype(np.float32)
        self.hidden = rng.normal(size=(width, width)).astype(np.float32)
        self.head = (scale * rng.normal(size=(width, self.classes))).astype(np.float32)

    def save(
        self, path: Path, *, length: int | str = "length", samples: int | str = "batch"
    ) -> Path:
        """Write the model as ONNX."""
        weights = {
            "embedding": self.embedding,
            "hidden": self.hidden,
            "head": self.head,
            "one": np.array([1], np.int64),
            "last": np.array([2], np.int64),
        }
        nodes = [
            helper.make_node("Gather", ["embedding", "input_ids"], ["words"]),
            helper.make_node("Shape", ["input_ids"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "one"], ["size"]),
            helper.make_node("Concat", ["size", "size"], ["square"], axis=0),
            helper.make_node(
                "ConstantOfShape",
                ["square"],
                ["ones"],
                value=numpy_helper.from_array(np.ones(1, np.float32)),
            ),
        ]
        if self.causal:
            nodes.append(helper.make_node("Trilu", ["ones"], ["seen"], upper=0))
        else:
            nodes.append(helper.make_node("Identity", ["ones"], ["seen"]))
        weighing = "seen"
        if self.masked:
            nodes += [
                helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
                helper.make_node("Unsqueeze", ["real", "one"], ["columns"]),
                helper.make_node("Mul", ["seen", "columns"], ["kept"]),
            ]
            weighing = "kept"
        nodes += [
            helper.make_node("ReduceSum", [weighing, "axis"], ["counts"], keepdims=1),
            helper.make_node("Max", ["counts", "unit"], ["least"]),
            helper.make_node("Div", [weighing, "least"], ["weights"]),
            helper.make_node("MatMul", ["weights", "words"], ["mixed"]),
            helper.make_node("Add", ["words", "mixed"], ["stream"]),
            helper.make_node("MatMul", ["stream", "hidden"], ["fc"]),
            helper.make_node("Relu", ["fc"], ["relu"]),
        ]
        weights["axis"] = np.array([-1], np.int64)
        weights["unit"] = np.array(1, np.float32)
        names = ["scores", "probabilities" if self.softmax else "scores"]
        nodes.append(helper.make_node("MatMul", ["relu", "head"], ["scores"]))
        if self.softmax:
            nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1))
        code = TensorProto.DataType.Value(
            {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}[self.dtype]
        )
        if self.merged:
            weights["rows"] = np.array([-1, self.classes], np.int64)
            nodes.append(helper.make_node("Reshape", [names[-1], "rows"], ["merged"]))
            names.append("merged")
        for head in range(1, self.heads):
            weights[f"head{head}"] = self.head * (head + 1)
            nodes.append(helper.make_node("MatMul", ["relu", f"head{head}"], [f"logits{head}"]))
        if self.dtype == "float32":
            nodes.append(helper.make_node("Identity", [names[-1]], ["logits"]))
        else:
            nodes.append(helper.make_node("Cast", [names[-1]], ["logits"], to=code))
        shape = ["rows", self.classes] if self.merged else [samples, length, self.classes]
        inputs = ["input_ids", *(["attention_mask"] if self.masked else [])]
        graph = helper.make_graph(
            nodes,
            "tokens",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, [samples, length])
                for name in inputs
            ],
            [
                helper.make_tensor_value_info(f"logits{head or ''}", code, shape)
                for head in range(self.heads)
            ],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path

    def logits(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Compute the scores of one sample without padding, (T, K), in its own type."""
        words = self.embedding[ids]
        seen = np.ones((len(ids), len(ids)))
        if self.causal:
            seen = np.tril(seen)
        stream = words + (seen / seen.sum(axis=1, keepdims=True)) @ words
        scores = np.maximum(stream @ self.hidden, 0) @ self.head
        if self.softmax:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        return scores.astype(self.dtype)
