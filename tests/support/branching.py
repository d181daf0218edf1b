"""Ifs, written node by node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def branch(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    """A branch of an If, all of whose outputs are float tensors."""
    return helper.make_graph(
        list(nodes),
        "branch",
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )


def branch_if(
    condition: str,
    outputs: Sequence[str],
    taken: onnx.GraphProto,
    other: onnx.GraphProto,
    name: str = "",
) -> onnx.NodeProto:
    """An If with its two branches."""
    return helper.make_node(
        "If", [condition], list(outputs), name=name, then_branch=taken, else_branch=other
    )


def one_node(
    operator: str, inputs: Sequence[str], output: str, **settings: object
) -> onnx.GraphProto:
    """A branch of one node."""
    return branch([helper.make_node(operator, list(inputs), [output], **settings)], [output])
