"""Models bound to a small batch, run with a larger one where the values stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from cnatool.backend.graph.graph import analyse_graph
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.probe.closeness import same_values
from cnatool.backend.probe.probe import probe
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.errors import BackendError, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions

# Name of the sample axis in a model whose batch was freed.
BATCH = "cnatool_batch"


def free_batch(
    graph: Graph, bound: int, samples: Samples, run: RunOptions, names: Collection[str]
) -> Graph | None:
    """Free the batch axis of a model; None where the values of a tensor would change.

    A graph may also have its batch in the shapes of reshapes: those that begin with it are freed
    too. Where others remain, the model fails with another batch or, worse, mixes samples; so its
    results are compared with those of the original.
    """
    if not samples.distinct:
        return None  # equal samples look the same however they are mixed
    axes = samples.sample_axes
    model = _free_model(graph.model, axes, bound)
    freed = analyse_graph(graph.path, graph.files, model, graph.weights, graph.same)
    try:
        result = probe(freed, samples, bound=None, run=run)
        read = [tensor.name for tensor in result.tensors]
        types = {tensor.name: tensor.onnx_type for tensor in result.tensors}
        exposed = make_readable(graph.model, read, types, graph.inner)
        session = Session(exposed.model, graph, result.run)
        groups = [
            session.run(exposed.outputs, samples.feeds(slice(start, start + bound)))
            for start in range(0, len(samples), bound)
        ]
    except (BackendError, ModelError):
        return None
    rows = {tensor.name for tensor in result.tensors}
    if not rows.issuperset(names):
        return None
    if any(tensor.varies or not tensor.independent for tensor in result.tensors):
        return None
    for column, tensor in enumerate(result.tensors):
        axis = SampleAxis.of(tensor.shape, tensor.batch_axis, tensor.merged)
        try:
            expected = np.concatenate([axis.samples_first(group[column]) for group in groups])
        except ValueError:  # that axis is not the samples' after all
            return None
        if not same_values(axis.samples_first(result.values[tensor.name]), expected):
            return None
    return freed


def _free_model(
    model: onnx.ModelProto, inputs: Mapping[str, Iterable[int]], bound: int
) -> onnx.ModelProto:
    """Copy a model with symbolic sample axes of its inputs, and without other declared shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for axis in inputs.get(value.name, ()):
            value.type.tensor_type.shape.dim[axis].dim_param = BATCH
    for output in copy.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    _free_reshapes(copy.graph, bound)
    return copy


def _free_reshapes(graph: onnx.GraphProto, bound: int) -> None:
    """Let reshapes to a constant shape that begins with the batch keep any batch."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape":
            continue
        constant = constants.get(node.input[1])
        if constant is None or constant.data_location == onnx.TensorProto.EXTERNAL:
            continue
        shape = numpy_helper.to_array(constant).copy()
        if shape.ndim == 1 and shape.size and shape[0] == bound and (shape != 0).all():
            shape[0] = 0  # the length of the input, unless allowzero is set
            kept = [a for a in node.attribute if a.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
            name = f"{BATCH} shape {number}"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
