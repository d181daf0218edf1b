"""One node of a graph, evaluated by ONNX's reference evaluator instead of the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph


def evaluate_node(
    node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]], graph: Graph
) -> dict[str, NDArray[Any]]:
    """Evaluate one node with ONNX's reference evaluator."""
    # Importing all operators takes a tenth of a second, and few models have a node to evaluate.
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.output if name]
    any_type = onnx.TensorProto.FLOAT  # ignored by the evaluator
    alone = onnx.helper.make_graph(
        [node],
        "node",
        [onnx.helper.make_tensor_value_info(name, any_type, None) for name in arrays],
        [onnx.helper.make_tensor_value_info(name, any_type, None) for name in names],
    )
    model = onnx.helper.make_model(alone, opset_imports=graph.model.opset_import)
    try:
        results = ReferenceEvaluator(model).run(names, dict(arrays))
    except Exception as error:  # whatever an operator's implementation raises
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{node.op_type} (tensor {node.output[0]!r}) cannot be evaluated: {text}"
        ) from error
    return dict(zip(names, map(np.asarray, results), strict=True))
