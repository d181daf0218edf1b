"""ResNet-50 and DenseNet-121 as the `onnx` package ships them for its own tests.

They are real graphs, with BatchNormalization unfolded, all weights equal, and a batch of 1. A copy
gets random weights, so that values are as diverse and as hard to compress as real ones, and a free
batch axis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def write_light_network(name: str, path: Path) -> Path:
    """Write ``resnet50`` or ``densenet121`` with random weights and a free batch axis."""
    source = Path(onnx.__file__).parent / "backend/test/data/light" / f"light_{name}.onnx"
    model = onnx.load(source)
    graph = model.graph
    rng = np.random.default_rng(0)
    shapes = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    users = {name: (node.op_type, i) for node in graph.node for i, name in enumerate(node.input)}
    nodes, weights = [], dict.fromkeys(shapes)
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            user = users.get(node.output[0], ("", 0))
            values = _make_values(rng, *user, tuple(shapes[node.input[0]]))
            weights[node.output[0]] = numpy_helper.from_array(values, node.output[0])
            weights.pop(node.input[0], None)
            continue
        if node.op_type == "Reshape":  # to (1, features)
            _, size = shapes[node.input[1]]
            flat = numpy_helper.from_array(np.array([-1, size]), node.input[1])
            weights[node.input[1]] = flat
        nodes.append(node)
    old = {weight.name: weight for weight in graph.initializer}
    used = {name for node in nodes for name in node.input}
    initializers = [weight or old[name] for name, weight in weights.items() if name in used]
    inputs = [value for value in graph.input if value.name not in old]
    outputs = list(graph.output)
    for value in (*inputs, *outputs):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    copy = onnx.helper.make_graph(nodes, graph.name, inputs, outputs, initializers)
    onnx.save(onnx.helper.make_model(copy, opset_imports=model.opset_import, ir_version=8), path)
    return path


def _make_values(
    rng: np.random.Generator, user: str, place: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Make weights with which values neither vanish nor explode."""
    if user == "Unsqueeze" or (user == "BatchNormalization" and place in (1, 4)):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return rng.normal(0, spread, shape).astype(np.float32)
