"""Outputs that nodes offer and the model leaves out, against PyTorch and a literal attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.branching import branch, branch_if
from support.networks import Builder, saved

from cnatool.backend.graph.graph import Graph, load_graph
from cnatool.backend.graph.optional_outputs import ask_outputs
from cnatool.backend.graph.outputs import list_exposable, make_readable
from cnatool.backend.graph.taken_branches import take_branches
from cnatool.backend.session import RunOptions, Session
from cnatool.records.skipped import skip_kind

RNG = np.random.default_rng(3)
SAMPLES, STEPS, HEADS, SIZE = 3, 5, 4, 8
WIDTH = HEADS * SIZE


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def load(
    folder: Path,
    nodes: list[onnx.NodeProto],
    feeds: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    result: str,
    opset: int = 23,
) -> Graph:
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), ("n", *value.shape[1:])
            )
            for name, value in feeds.items()
        ],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return load_graph(saved(model, folder / "m.onnx"))


def run(graph: Graph, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    exposed = make_readable(graph.model, names, inner=graph.inner)
    results = Session(exposed.model, graph, RunOptions()).run(exposed.outputs, feeds)
    return dict(zip(names, results, strict=True))


def ask(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Run a graph with all that its nodes offer, and check that no other value changes."""
    names, _ = list_exposable(graph)
    asked, inner = ask_outputs(graph)
    more, _ = list_exposable(asked)
    assert inner <= set(more)
    assert set(names) <= set(more) == set(names) | inner
    before, after = run(graph, names, feeds), run(asked, more, feeds)
    for name in names:
        np.testing.assert_array_equal(after[name], before[name])
    return after


def kinds(graph: Graph) -> dict[str, str]:
    """Return why tensors are left out, by name, but for constants."""
    _, skipped = list_exposable(graph)
    return {t.name: kind for t in skipped if (kind := skip_kind(t)) != "constant"}


def reordered(weights: torch.Tensor, order: list[int]) -> np.ndarray:
    """Order the gates of PyTorch's weights as ONNX does, behind an axis for the direction."""
    gates = weights.detach().numpy().reshape(len(order), -1, *weights.shape[1:])
    return gates[order].reshape(1, *weights.shape)


@pytest.mark.parametrize(
    ("operator", "order"), [("LSTM", [0, 3, 1, 2]), ("GRU", [1, 0, 2]), ("RNN", [0])]
)
def test_states_are_those_of_pytorch(operator: str, order: list[int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: Any = getattr(torch.nn, operator)(WIDTH, 7)
    weights = {
        "w": reordered(network.weight_ih_l0, order),
        "r": reordered(network.weight_hh_l0, order),
        "b": np.concatenate(
            [reordered(network.bias_ih_l0, order), reordered(network.bias_hh_l0, order)], axis=1
        ),
    }
    settings = {"linear_before_reset": 1} if operator == "GRU" else {}
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            operator,
            ["steps", "w", "r", "b"],
            ["", "last"],
            name="cells",
            hidden_size=7,
            **settings,
        ),
    ]
    feeds = {"x": floats(SAMPLES, STEPS, WIDTH)}
    graph = load(tmp_path, nodes, feeds, weights, "last")
    values = ask(graph, feeds)
    with torch.no_grad():
        states, final = network(torch.tensor(feeds["x"]).transpose(0, 1))
    np.testing.assert_allclose(values["cells/hidden_states"][:, 0], states, atol=1e-6)
    offered = {"cells/hidden_states"}
    if operator == "LSTM":
        np.testing.assert_allclose(values["cells/final_cell_state"], final[1], atol=1e-6)
        offered.add("cells/final_cell_state")
    left = kinds(graph)
    assert {name for name, kind in left.items() if kind == "not asked for"} == offered
    assert "in an operator" in left.values()
    asked, inner = ask_outputs(graph)
    assert inner == offered | {"last"}
    assert "not asked for" not in kinds(asked).values()


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def heads(rows: np.ndarray, count: int = HEADS) -> np.ndarray:
    """Take (samples, steps, heads · size) apart, heads second."""
    return rows.reshape(*rows.shape[:2], count, -1).transpose(0, 2, 1, 3)


def literal_scores(query: np.ndarray, key: np.ndarray, count: int = HEADS) -> np.ndarray:
    """Multiply queries with keys, of which several heads may share one, and scale."""
    keys = np.repeat(heads(key, count), HEADS // count, axis=1)
    return heads(query) @ keys.transpose(0, 1, 3, 2) / np.sqrt(SIZE)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("opset", [23, 24])
def test_attention_gives_its_probabilities(causal: int, opset: int, tmp_path: Path) -> None:
    feeds = {name: floats(SAMPLES, STEPS, WIDTH) for name in "qkv"}
    settings = {"q_num_heads": HEADS, "kv_num_heads": HEADS, "is_causal": causal}
    nodes = [helper.make_node("Attention", list("qkv"), ["y"], name="attention", **settings)]
    graph = load(tmp_path, nodes, feeds, {}, "y", opset)
    assert kinds(graph) == {"attention/attention_probabilities": "not asked for"}
    scores = literal_scores(feeds["q"], feeds["k"])
    if causal:
        scores = np.where(np.tri(STEPS, dtype=bool), scores, -np.inf)
    values = ask(graph, feeds)
    np.testing.assert_allclose(
        values["attention/attention_probabilities"], softmax(scores), atol=1e-6
    )


def test_multi_head_attention_gives_its_scores(tmp_path: Path) -> None:
    feeds = {name: floats(SAMPLES, STEPS, WIDTH) for name in "qkv"}
    bias = floats(1, HEADS, STEPS, STEPS)
    nodes = [
        helper.make_node(
            "MultiHeadAttention",
            [*"qkv", "", "", "bias"],
            ["y"],
            domain="com.microsoft",
            num_heads=HEADS,
        )
    ]
    graph = load(tmp_path, nodes, feeds, {"bias": bias}, "y")
    values = ask(graph, feeds)
    expected = literal_scores(feeds["q"], feeds["k"]) + bias
    # The node has no name.
    np.testing.assert_allclose(values["y/attention_scores"], expected, atol=1e-5)


def test_grouped_attention_gives_its_probabilities(tmp_path: Path) -> None:
    """The second sample has 3 steps; heads share keys in pairs."""
    feeds = {
        "q": floats(2, STEPS, WIDTH),
        "k": floats(2, STEPS, WIDTH // 2),
        "v": floats(2, STEPS, WIDTH // 2),
        "past": floats(2, HEADS // 2, 0, SIZE),
        "last": np.array([STEPS - 1, 2], np.int32),
    }
    nodes = [
        helper.make_node(
            "GroupQueryAttention",
            ["q", "k", "v", "past", "past", "last", "steps"],
            ["y", "keys", "values"],
            name="group",
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS // 2,
        )
    ]
    graph = load(tmp_path, nodes, feeds, {"steps": np.array(STEPS, np.int32)}, "y")
    found = ask(graph, feeds)["group/attention_probabilities"]
    scores = literal_scores(feeds["q"], feeds["k"], HEADS // 2)
    expected = softmax(np.where(np.tri(STEPS, dtype=bool), scores, -np.inf))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1, :, :3], expected[1, :, :3], atol=1e-6)


def test_a_decoding_step_gives_its_scores(tmp_path: Path) -> None:
    """One new step behind 3 steps of a buffer that has room for 6."""
    feeds = {name: floats(SAMPLES, 1, WIDTH) for name in "qkv"}
    feeds |= {name: floats(SAMPLES, HEADS, 6, SIZE) for name in ("keys", "values")}
    nodes = [
        helper.make_node(
            "DecoderMaskedMultiHeadAttention",
            [*"qkv", "", "", "keys", "values", "before"],
            ["y", "new_keys", "new_values"],
            name="step",
            domain="com.microsoft",
            num_heads=HEADS,
            past_present_share_buffer=1,
        )
    ]
    graph = load(tmp_path, nodes, feeds, {"before": np.array([3], np.int32)}, "y")
    keys = np.concatenate([feeds["keys"][:, :, :3], heads(feeds["k"])], axis=2)
    expected = heads(feeds["q"]) @ keys.transpose(0, 1, 3, 2) / np.sqrt(SIZE)
    values = ask(graph, feeds)
    np.testing.assert_allclose(values["step/attention_scores"], expected, atol=1e-5)


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_a_fused_normalisation_gives_the_sum_before_it(operator: str, tmp_path: Path) -> None:
    feeds = {name: floats(SAMPLES, STEPS, WIDTH) for name in ("x", "skip")}
    weights = {"scale": floats(WIDTH)}
    nodes = [
        helper.make_node(
            operator, ["x", "skip", "scale"], ["y"], name="norm", domain="com.microsoft"
        )
    ]
    graph = load(tmp_path, nodes, feeds, weights, "y")
    np.testing.assert_allclose(
        ask(graph, feeds)["norm/residual_sum"], feeds["x"] + feeds["skip"], atol=1e-6
    )


def branching_model(folder: Path, *, constant: bool) -> tuple[Graph, dict[str, np.ndarray]]:
    """An LSTM in the main graph, and one in both branches of an If."""
    b = Builder()
    b.weight("w", 1, 8, 2)
    b.weight("r", 1, 8, 2)

    def cells(name: str, source: str, result: str) -> onnx.NodeProto:
        inputs, outputs = [source, "w", "r"], ["", result]
        return helper.make_node("LSTM", inputs, outputs, name=name, hidden_size=2)

    b.nodes.append(cells("first", "x", "states"))
    if constant:
        b.constant("gate", np.array(True))
    else:
        b.node("ReduceSum", ["x"], "sum", keepdims=0)
        b.node("Greater", ["sum", b.constant("zero", np.array(0, np.float32))], "gate")
    branches = (branch([cells("second", "states", way)], [way]) for way in "ab")
    b.nodes.append(branch_if("gate", ["out"], *branches, name="choice"))
    model = b.model({"x": (4, "n", 2)}, {"out": ()})
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return load_graph(saved(model, folder / "m.onnx")), {"x": floats(4, 3, 2)}


@pytest.mark.parametrize("constant", [True, False])
def test_states_in_branches_are_named_by_where_they_lie(constant: bool, tmp_path: Path) -> None:
    graph, feeds = branching_model(tmp_path, constant=constant)
    graph, _ = take_branches(graph)
    _, inner = ask_outputs(graph)
    branches = ("then_branch",) if constant else ("then_branch", "else_branch")
    places = ["first", *(f"choice/{way}/second" for way in branches)]
    states = {
        f"{place}/{state}" for place in places for state in ("hidden_states", "final_cell_state")
    }
    assert states <= inner
    values = ask(graph, feeds)
    # Both branches compute the same.
    ran = next(way for way in branches if values[f"choice/{way}/second/hidden_states"].size)
    np.testing.assert_array_equal(values[f"choice/{ran}/second/hidden_states"][-1], values["out"])


def test_embeddings_give_the_sum_before_their_normalisation(tmp_path: Path) -> None:
    feeds = {"ids": RNG.integers(0, 9, (SAMPLES, STEPS)).astype(np.int32)}
    weights = {"words": floats(9, WIDTH), "places": floats(STEPS, WIDTH)}
    weights |= {"scale": floats(WIDTH), "shift": floats(WIDTH)}
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "", "words", "places", "", "scale", "shift"],
            ["y", ""],
            name="embed",
            domain="com.microsoft",
        )
    ]
    graph = load(tmp_path, nodes, feeds, weights, "y")
    expected = weights["words"][feeds["ids"]] + weights["places"]
    np.testing.assert_allclose(ask(graph, feeds)["embed/embedding_sum"], expected, atol=1e-6)
