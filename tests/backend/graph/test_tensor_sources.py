"""The tensors that a tensor is computed from, against a search of all paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.tensor_sources import find_sources


@pytest.mark.parametrize("seed", range(10))
def test_sources_are_the_nearest_on_every_path(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    names = ["x"]
    nodes = []
    for number in range(12):
        reads = [names[i] for i in rng.choice(len(names), min(2, len(names)), replace=False)]
        nodes.append(helper.make_node("Sum", reads, [f"t{number}"]))
        names.append(f"t{number}")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("t11", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    named = [name for name in names[1:] if rng.random() < 0.6]
    inputs = {node.output[0]: list(node.input) for node in nodes}

    def reach(name: str) -> set[str]:
        ends: set[str] = set()
        for source in inputs.get(name, ()):
            ends |= {source} if source in named else reach(source)
        return ends

    found = find_sources(load_graph(tmp_path / "m.onnx"), named)
    assert {name: set(sources) for name, sources in found.items()} == {n: reach(n) for n in named}
    assert all(sources == sorted(sources, key=named.index) for sources in found.values())
