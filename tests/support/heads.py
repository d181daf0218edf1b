"""Networks with several outputs and with rows of detections, in small."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.networks import Builder

FEATURES = 12
ANCHORS = 6
CLASSES = 3
MOST = 2  # detections of a class in a sample


def samples(rows: int, seed: int = 0) -> np.ndarray:
    """Samples for all of these networks, (rows, 12)."""
    return np.random.default_rng(seed).normal(0, 1, (rows, FEATURES)).astype(np.float32)


def trunk(b: Builder) -> str:
    """Two hidden layers."""
    b.node("Relu", [b.gemm("x", "fc1", FEATURES, 10)], "relu1")
    return b.node("Relu", [b.gemm("relu1", "fc2", 10, 8)], "relu2")


def model_of(
    b: Builder, outputs: dict[str, tuple[int, list[int | str] | None]], batch: int | str = "n"
) -> onnx.ModelProto:
    """Make a model of what was built; types and shapes by output."""
    graph = helper.make_graph(
        b.nodes,
        "heads",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, FEATURES])],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        b.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


F, INT = TensorProto.FLOAT, TensorProto.INT64


def two_heads() -> onnx.ModelProto:
    """A box and class scores of each sample, and an auxiliary classifier in the middle."""
    b = Builder(1)
    trunk(b)
    b.gemm("relu1", "auxiliary", 10, 5)
    b.gemm("relu2", "box", 8, 4)
    b.gemm("relu2", "logits", 8, 5)
    return model_of(b, {"box": (F, ["n", 4]), "auxiliary": (F, ["n", 5]), "logits": (F, ["n", 5])})


def without_samples() -> onnx.ModelProto:
    """Outputs without a sample axis: a mean over the batch, a scalar, constant anchors."""
    b = Builder(1)
    b.gemm(trunk(b), "logits", 8, 5)
    b.node("ReduceMean", ["logits"], "mean", axes=[0], keepdims=0)
    b.node("ReduceSum", ["logits"], "total", keepdims=0)
    b.node("Identity", [b.weight("a", ANCHORS, 4)], "anchors")
    return model_of(
        b,
        {
            "mean": (F, [5]),
            "total": (F, []),
            "anchors": (F, [ANCHORS, 4]),
            "logits": (F, ["n", 5]),
        },
    )


def several_rows() -> onnx.ModelProto:
    """Six rows of scores a sample, merged with the samples into one axis."""
    b = Builder(1)
    b.gemm(trunk(b), "wide", 8, ANCHORS * 5)
    b.node("Reshape", ["wide", b.constant("to", np.array([-1, 5]))], "scores")
    return model_of(b, {"scores": (F, ["k", 5])})


def heads(b: Builder) -> None:
    """Boxes (n, 6, 4) and scores (n, 3, 6)."""
    trunk(b)
    b.gemm("relu2", "flat boxes", 8, ANCHORS * 4)
    b.node("Reshape", ["flat boxes", b.constant("b to", np.array([-1, ANCHORS, 4]))], "boxes")
    b.gemm("relu2", "flat scores", 8, CLASSES * ANCHORS)
    b.node("Reshape", ["flat scores", b.constant("s to", np.array([-1, CLASSES, ANCHORS]))], "raw")
    b.node("Sigmoid", ["raw"], "scores")


def dense() -> onnx.ModelProto:
    """Boxes and scores of all anchors."""
    b = Builder(1)
    heads(b)
    return model_of(b, {"boxes": (F, ["n", ANCHORS, 4]), "scores": (F, ["n", CLASSES, ANCHORS])})


def suppress(b: Builder, threshold: float = 0.5) -> None:
    """Boxes, and those that NonMaxSuppression leaves, (m, 3): sample, class, anchor."""
    heads(b)
    b.constant("most", np.array([MOST]))
    b.constant("overlap", np.array([0.5], np.float32))
    b.constant("least", np.array([threshold], np.float32))
    b.node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], "selected")


def gather_selected(b: Builder) -> None:
    """What was selected: ``kept boxes`` (m, 4), ``kept scores`` (m,), ``sample``, ``class``."""
    b.node("Gather", ["selected", b.constant("0", np.array(0))], "sample", axis=1)
    b.node("Gather", ["selected", b.constant("1", np.array(1))], "class", axis=1)
    b.node("Gather", ["selected", b.constant("02", np.array([0, 2]))], "where", axis=1)
    b.node("GatherND", ["boxes", "where"], "kept boxes")
    b.node("GatherND", ["scores", "selected"], "kept scores")


def suppressed(threshold: float = 0.5) -> onnx.ModelProto:
    """Dense boxes and scores, and indices of those that are left, as detectors often give them."""
    b = Builder(1)
    suppress(b, threshold)
    return model_of(
        b,
        {
            "boxes": (F, ["n", ANCHORS, 4]),
            "scores": (F, ["n", CLASSES, ANCHORS]),
            "selected": (INT, ["m", 3]),
        },
    )


def end_to_end(threshold: float = 0.5) -> onnx.ModelProto:
    """Rows of sample, box, class, score: (m, 7)."""
    b = Builder(1)
    suppress(b, threshold)
    gather_selected(b)
    b.constant("column", np.array([-1, 1]))
    for name in ("sample", "class"):
        b.node("Cast", [name], f"{name} float", to=F)
        b.node("Reshape", [f"{name} float", "column"], f"{name} column")
    b.node("Reshape", ["kept scores", "column"], "score column")
    rows = ["sample column", "kept boxes", "class column", "score column"]
    b.node("Concat", rows, "detections", axis=1)
    return model_of(b, {"detections": (F, ["m", 7])})


def boxes_alone(threshold: float = 0.5) -> onnx.ModelProto:
    """Boxes, scores and classes of what is left, each an output of its own, beside the index."""
    b = Builder(1)
    suppress(b, threshold)
    gather_selected(b)
    return model_of(
        b,
        {
            "kept boxes": (F, ["m", 4]),
            "kept scores": (F, ["m"]),
            "class": (INT, ["m"]),
            "sample": (INT, ["m"]),
        },
    )


def single(threshold: float = 0.5) -> onnx.ModelProto:
    """A detector exported for one sample: boxes (k, 4), scores (k,), classes (k,)."""
    b = Builder(1)
    heads(b)
    b.constant("axis 0", np.array([0]))
    b.node("Squeeze", ["boxes", "axis 0"], "all boxes")
    b.node("Squeeze", ["scores", "axis 0"], "by class")
    b.node("ReduceMax", ["by class"], "best", axes=[0], keepdims=0)
    b.node("ArgMax", ["by class"], "best class", axis=0, keepdims=0)
    b.node("Greater", ["best", b.constant("least", np.float32(threshold))], "good")
    b.node("Transpose", [b.node("NonZero", ["good"], "places")], "rows")
    b.node("Squeeze", ["rows", b.constant("axis 1", np.array([1]))], "kept")
    for name, source in (
        ("out boxes", "all boxes"),
        ("out scores", "best"),
        ("out labels", "best class"),
    ):
        b.node("Gather", [source, "kept"], name, axis=0)
    return model_of(
        b,
        {"out boxes": (F, ["k", 4]), "out scores": (F, ["k"]), "out labels": (INT, ["k"])},
        batch=1,
    )


def fixed_number(rows: int = 4) -> onnx.ModelProto:
    """As many rows for every sample, the best first, and how many of them count."""
    b = Builder(1)
    heads(b)
    b.node("ReduceMax", ["scores"], "best", axes=[1], keepdims=0)
    b.constant("k", np.array([rows]))
    b.nodes.append(helper.make_node("TopK", ["best", "k"], ["detection_scores", "order"], axis=1))
    b.node("Unsqueeze", ["order", b.constant("axis", np.array([2]))], "column")
    b.node("Expand", ["column", b.constant("four", np.array([1, 1, 4]))], "index")
    b.node("GatherElements", ["boxes", "index"], "detection_boxes", axis=1)
    b.node("Greater", ["detection_scores", b.constant("half", np.float32(0.5))], "good")
    b.node("Cast", ["good"], "ones", to=F)
    b.node("ReduceSum", ["ones", b.constant("one", np.array([1]))], "num_detections", keepdims=0)
    return model_of(
        b,
        {
            "num_detections": (F, ["n"]),
            "detection_boxes": (F, ["n", rows, 4]),
            "detection_scores": (F, ["n", rows]),
        },
    )


def second_stage(threshold: float = 0.5) -> onnx.ModelProto:
    """A two-stage detector: RoiAlign of what is left, and two layers over each crop."""
    b = Builder(1)
    suppress(b, threshold)
    gather_selected(b)
    b.node("Reshape", ["x", b.constant("map", np.array([-1, 3, 2, 2]))], "map of x")
    b.node(
        "RoiAlign", ["map of x", "kept boxes", "sample"], "crops", output_height=2, output_width=2
    )
    b.node("Flatten", ["crops"], "flat crops")
    b.node("Relu", [b.gemm("flat crops", "head1", 12, 7)], "head1 relu")
    b.gemm("head1 relu", "head2", 7, CLASSES)
    b.gemm("relu2", "logits", 8, 5)
    return model_of(b, {"head2": (F, ["m", CLASSES]), "logits": (F, ["n", 5])})


def sorted_by_score(threshold: float = 0.5) -> onnx.ModelProto:
    """What is left of all samples, the best first, so that the rows of samples alternate."""
    b = Builder(1)
    suppress(b, threshold)
    gather_selected(b)
    b.node("Shape", ["kept scores"], "how many")
    b.nodes.append(helper.make_node("TopK", ["kept scores", "how many"], ["ranked", "order"]))
    for name in ("selected", "kept boxes"):
        b.node("Gather", [name, "order"], f"{name} ranked", axis=0)
    return model_of(
        b,
        {
            "kept boxes ranked": (F, ["m", 4]),
            "ranked": (F, ["m"]),
            "selected ranked": (INT, ["m", 3]),
        },
    )


def suppressed_twice() -> onnx.ModelProto:
    """Two suppressions, each with rows of its own."""
    b = Builder(1)
    suppress(b)
    gather_selected(b)
    b.constant("less", np.array([0.45], np.float32))
    b.constant("one", np.array([1]))
    b.node("NonMaxSuppression", ["boxes", "scores", "one", "overlap", "less"], "second")
    b.node("Gather", ["second", "02"], "second where", axis=1)
    b.node("GatherND", ["boxes", "second where"], "second boxes")
    return model_of(b, {"kept boxes": (F, ["m", 4]), "second boxes": (F, ["k", 4])})


def moved_by_place(threshold: float = 0.5) -> onnx.ModelProto:
    """Boxes moved apart by sample, as for one suppression of all classes or samples together."""
    b = Builder(1)
    suppress(b, threshold)
    gather_selected(b)
    b.node("Cast", ["sample"], "place", to=F)
    b.node("Reshape", ["place", b.constant("column", np.array([-1, 1]))], "place column")
    b.node("Mul", ["place column", b.constant("far", np.float32(100))], "offset")
    b.node("Add", ["kept boxes", "offset"], "moved boxes")
    return model_of(b, {"moved boxes": (F, ["m", 4]), "kept boxes": (F, ["m", 4])})


MODELS = {
    "two heads": two_heads,
    "without samples": without_samples,
    "several rows": several_rows,
    "dense": dense,
    "suppressed": suppressed,
    "end to end": end_to_end,
    "boxes alone": boxes_alone,
    "single": single,
    "fixed number": fixed_number,
    "second stage": second_stage,
    "sorted by score": sorted_by_score,
    "suppressed twice": suppressed_twice,
}
