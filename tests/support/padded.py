"""Small networks over padded samples, and what each of their tensors is for a sample alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from support.networks import Builder

WIDTH, HEADS = 8, 2


@dataclass(frozen=True)
class Attention:
    """One layer of attention over tokens, with a feed-forward part over all tokens of a batch."""

    length: int | str = "t"
    fill: float = -1e4
    causal: bool = False
    pooled: Literal["first", "mean", "none"] = "first"
    uses_mask: bool = True
    half: bool = False

    def model(self) -> onnx.ModelProto:
        b, kind = Builder(0), TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        fixed = isinstance(self.length, int)

        def number(name: str, value: float) -> str:
            return b.constant(name, np.array(value, np.float16 if self.half else np.float32))

        def shaped(tensor: str, output: str, *rest: int) -> str:
            sizes = [-1, self.length, *rest] if fixed else [0, 0, *rest]
            return b.node(
                "Reshape", [tensor, b.constant(f"{output} shape", np.array(sizes))], output
            )

        b.weight("table", 50, WIDTH)
        x = b.node("Gather", ["table", "input_ids"], "embedded")
        parts = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            product = b.node("MatMul", [x, b.weight(f"w{part}", WIDTH, WIDTH)], f"{part} product")
            split = shaped(product, f"{part} split", HEADS, WIDTH // HEADS)
            parts[part] = b.node("Transpose", [split], part, perm=order)
        scores = b.node("MatMul", [parts["q"], parts["k"]], "scores")
        b.constant("after samples", np.array([1, 2]))
        if np.isfinite(self.fill):
            kept = b.node("Cast", ["attention_mask"], "kept", to=kind)
            gone = b.node("Sub", [number("one", 1), kept], "gone")
            bias = b.node("Mul", [gone, number("fill", self.fill)], "bias")
        else:
            kept = b.node("Cast", ["attention_mask"], "kept", to=TensorProto.BOOL)
            bias = b.node("Where", [kept, number("zero", 0), number("fill", self.fill)], "bias")
        bias = b.node("Unsqueeze", [bias, "after samples"], "wide bias")
        if self.uses_mask:
            scores = b.node("Add", [scores, bias], "masked scores")
        if self.causal and fixed:
            above = np.triu(np.full((self.length, self.length), -1e4, np.float32), 1)
            scores = b.node("Add", [scores, b.constant("above", above)], "causal scores")
        attended = b.node("MatMul", [b.node("Softmax", [scores], "attention"), "v"], "attended")
        joined = b.node("Transpose", [attended], "joined", perm=[0, 2, 1, 3])
        x = b.node("Add", [x, shaped(joined, "mixed", WIDTH)], "residual")
        # All tokens of a batch along one axis, and tokens before samples.
        rows = b.constant("rows", np.array([-1, WIDTH]))
        flat = b.node("Reshape", [x, rows], "flat")
        hidden = b.node("Relu", [b.node("MatMul", [flat, b.weight("up", WIDTH, 12)], "wide")], "on")
        down = b.node("MatMul", [hidden, b.weight("down", 12, WIDTH)], "narrow")
        if fixed:
            back = shaped(down, "fed forward", WIDTH)
        else:
            size = b.node("Shape", [x], "size")
            back = b.node("Reshape", [down, size], "fed forward")
        x = b.node("Add", [x, back], "second residual")
        turned = b.node("Transpose", [x], "turned", perm=[1, 0, 2])
        x = b.node("Transpose", [b.node("Tanh", [turned], "bent")], "turned back", perm=[1, 0, 2])
        if self.pooled == "first":
            b.constant("first", np.array(0))
            x = b.node("Gather", [x, "first"], "pooled", axis=1)
        elif self.pooled == "mean":
            x = b.node("ReduceMean", [x], "pooled", axes=[1], keepdims=0)
        b.node("MatMul", [x, b.weight("head", WIDTH, 3)], "logits")
        if not self.uses_mask:
            b.node("Identity", [bias], "unread")
        last = ("n", self.length, 3) if self.pooled == "none" else ("n", 3)
        model = b.model({}, {"logits": last}, dtype=kind)
        for name in ("input_ids", "attention_mask"):
            shape = ("n", self.length)
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
        if self.half:
            for tensor in model.graph.initializer:
                value = numpy_helper.to_array(tensor)
                if value.dtype == np.float32:
                    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), tensor.name))
        return model


def make_texts(
    length: int, *, left: bool = False, count: int = 7, seed: int = 0
) -> dict[str, np.ndarray]:
    """Make token ids with their mask; the first text fills its row."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length, count)
    lengths[0] = length
    real = np.arange(length) < lengths[:, None]
    real = real[:, ::-1] if left else real
    ids = np.where(real, rng.integers(1, 50, real.shape), 0)
    return {"input_ids": ids, "attention_mask": real.astype(np.int64)}


def run_alone(
    model: onnx.ModelProto, names: list[str], feeds: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Run a model, without any optimisation, and return tensors by name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    declared = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in declared)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(copy.SerializeToString(), options)
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def save_texts(data: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write samples with labels."""
    np.savez(path, labels=np.arange(len(next(iter(data.values())))) % 3, **data)
    return path
