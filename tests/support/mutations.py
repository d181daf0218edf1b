"""Models to break, and ways to break them: their bytes or their fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.networks import Builder, mlp, residual_convnet

Random = np.random.Generator
HUGE = (0, -1, 1, 2, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
TYPES = (*range(28), 99, -1)
LOCATIONS = (
    *("../weights.bin", "/etc/passwd", "", "weights.bin\0", "no-such.bin", ".", "..", "a/../../b"),
    *("/dev/zero", "weights.bin/x", "~/weights.bin", "w" * 5000, "*/_ORT_MEM_ADDR_/*", "m.onnx"),
)
OPERATORS = (
    *("Relu", "Add", "Gemm", "MatMul", "Conv", "Reshape", "Concat", "Split", "If", "Loop", "Scan"),
    *("Expand", "Tile", "ConstantOfShape", "Shape", "NonZero", "TopK", "Constant", "Identity"),
    *(
        "ConvTranspose",
        "BatchNormalization",
        "LSTM",
        "Pad",
        "Resize",
        "Range",
        "Cast",
        "",
        "Ünknown",
    ),
    *("SequenceConstruct", "DequantizeLinear", "QuantizeLinear", "Flatten", "Softmax", "Squeeze"),
)


def _branching() -> onnx.ModelProto:
    """A network with an If, a shape computed, constants, a Transpose: what the others have not."""
    b = Builder()
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["then"])],
        "branch",
        [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["else"])],
        "other",
        [],
        [helper.make_tensor_value_info("else", TensorProto.FLOAT, None)],
    )
    b.constant("condition", np.array(True))
    b.nodes.append(
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=other)
    )
    b.node("Shape", ["x"], "shape")
    b.node("Reshape", ["chosen", "shape"], "again")
    b.node("Constant", [], "axes", value=numpy_helper.from_array(np.array([1])))
    b.node("Unsqueeze", ["again", "axes"], "column")
    b.node("Transpose", ["column"], "row", perm=[0, 2, 1])
    b.node("MatMul", ["row", b.weight("w", 1, 3)], "spread")
    b.node("Flatten", ["spread"], "flat")
    b.gemm("flat", "out", 192, 4)
    return b.model({"x": ("n", 64)}, {"out": ("n", 4)})


def _with_function() -> onnx.ModelProto:
    model = mlp((64, 8, 4))
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Twist", ["a"], ["b"], body, opset))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Twist", ["logits"], ["twisted"], domain="own"))
    model.graph.output.append(helper.make_tensor_value_info("twisted", TensorProto.FLOAT, None))
    return model


def _external(folder: Path) -> onnx.ModelProto:
    model = mlp((64, 8, 4))
    with (folder / "weights.bin").open("wb") as stream:
        for tensor in model.graph.initializer:
            entries = {"location": "weights.bin", "offset": stream.tell()}
            entries["length"] = stream.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
    return model


def models(folder: Path) -> list[onnx.ModelProto]:
    """Give the models to mutate, all for samples of 64 numbers; weights go into ``folder``."""
    return [
        mlp((64, 8, 6, 4)),
        residual_convnet(),
        _branching(),
        _with_function(),
        _external(folder),
    ]


def _any(random: Random, values: Any) -> Any:
    values = list(values)
    return values[random.integers(len(values))] if values else None


def _flip(random: Random, content: bytearray) -> None:
    for place in random.integers(len(content), size=random.integers(1, 9)):
        content[place] ^= 1 << int(random.integers(8))


def _overwrite(random: Random, content: bytearray) -> None:
    start = int(random.integers(len(content)))
    size = int(random.integers(1, 17))
    content[start : start + size] = random.bytes(size)


def _cut(random: Random, content: bytearray) -> None:
    del content[int(random.integers(len(content))) :]


def _remove(random: Random, content: bytearray) -> None:
    start = int(random.integers(len(content)))
    del content[start : start + int(random.integers(1, 65))]


def _repeat(random: Random, content: bytearray) -> None:
    start, stop = sorted(random.integers(len(content), size=2).tolist())
    content[stop:stop] = content[start:stop]


def _splice(random: Random, content: bytearray) -> None:
    other = residual_convnet(seed=1).SerializeToString()
    start, stop = sorted(random.integers(len(other), size=2).tolist())
    place = int(random.integers(len(content)))
    content[place : place + stop - start] = other[start:stop]


def _operator(random: Random, model: onnx.ModelProto) -> None:
    _any(random, model.graph.node).op_type = _any(random, OPERATORS)


def _domain(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, model.graph.node)
    node.domain = _any(random, ("com.microsoft", "ai.onnx.ml", "none", "ai.onnx", "own"))


def _attribute(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, [node for node in model.graph.node if node.attribute])
    if node is None:
        return
    given = _any(random, node.attribute)
    how = random.integers(6)
    if how == 0:
        given.type = int(_any(random, range(15)))
    elif how == 1:
        given.name = _any(random, ("", "axis", "value", "strides", "ünknown"))
    elif how == 2:
        given.i = _any(random, HUGE)
        given.ints[:] = [_any(random, HUGE) for _ in range(int(random.integers(5)))]
    elif how == 3:
        given.f = _any(random, (float("nan"), float("inf"), -1e38))
    elif how == 4:
        del node.attribute[:]
    else:
        node.attribute.add().CopyFrom(given)


def _new_attribute(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, model.graph.node)
    names = (
        "axis",
        "pads",
        "strides",
        "dilations",
        "group",
        "kernel_shape",
        "transA",
        "perm",
        "to",
    )
    value = _any(random, HUGE) if random.integers(2) else [_any(random, HUGE) for _ in range(4)]
    node.attribute.append(helper.make_attribute(_any(random, names), value))


def _wire(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, [node for node in model.graph.node if node.input])
    names = [name for n in model.graph.node for name in (*n.input, *n.output)]
    node.input[int(random.integers(len(node.input)))] = _any(random, (*names, "", "no-such"))


def _output(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, model.graph.node)
    names = [name for n in model.graph.node for name in (*n.input, *n.output)]
    node.output[0] = _any(random, (*names, "", "new"))


def _arity(random: Random, model: onnx.ModelProto) -> None:
    node = _any(random, model.graph.node)
    part = node.input if random.integers(2) else node.output
    if random.integers(2):
        part.extend([f"extra{i}" for i in range(int(random.integers(1, 40)))])
    else:
        del part[:]


def _nodes(random: Random, model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    how = random.integers(4)
    if how == 0:
        nodes.pop(int(random.integers(len(nodes))))
    elif how == 1:
        nodes.append(_any(random, nodes))
    elif how == 2:
        nodes = [nodes[i] for i in random.permutation(len(nodes))]
    else:
        nodes = []
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _dims(random: Random, model: onnx.ModelProto) -> None:
    tensor = _any(random, model.graph.initializer)
    if random.integers(3) and tensor.dims:
        tensor.dims[int(random.integers(len(tensor.dims)))] = _any(random, HUGE)
    else:
        tensor.dims[:] = [_any(random, HUGE) for _ in range(int(random.integers(6)))]


def _data(random: Random, model: onnx.ModelProto) -> None:
    tensor = _any(random, model.graph.initializer)
    how = random.integers(4)
    if how == 0:
        tensor.raw_data = tensor.raw_data[: int(random.integers(len(tensor.raw_data) + 1))]
    elif how == 1:
        tensor.raw_data += random.bytes(int(random.integers(1, 9)))
    elif how == 2:
        tensor.ClearField("raw_data")
        tensor.float_data[:] = [1.0] * int(random.integers(4))
    else:
        tensor.raw_data = b"\xff" * len(tensor.raw_data)  # every number is NaN


def _data_type(random: Random, model: onnx.ModelProto) -> None:
    _any(random, model.graph.initializer).data_type = int(_any(random, TYPES))


def _weight_name(random: Random, model: onnx.ModelProto) -> None:
    tensors = model.graph.initializer
    names = [tensor.name for tensor in tensors]
    _any(random, tensors).name = _any(random, (*names, "", "x", "logits", "new"))


def _outside(random: Random, model: onnx.ModelProto) -> None:
    tensor = _any(random, model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    if random.integers(2):
        tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=_any(random, LOCATIONS))
    if random.integers(2):
        numbers = ("-1", "0", "1", str(1 << 40), str(1 << 70), "x", "")
        tensor.external_data.add(key="offset", value=_any(random, numbers))
        tensor.external_data.add(key="length", value=_any(random, numbers))


def _versions(random: Random, model: onnx.ModelProto) -> None:
    how = random.integers(5)
    version = int(_any(random, (*HUGE, 3, 10, 12, 13, 18, 21, 99)))
    if how == 0:
        model.ir_version = version
    elif how == 1:
        model.opset_import[0].version = version
    elif how == 2:
        del model.opset_import[:]
    elif how == 3:
        model.opset_import.append(helper.make_opsetid("", int(_any(random, range(1, 27)))))
    else:
        model.opset_import[0].domain = _any(random, ("ai.onnx", "none", "com.microsoft"))


def _value_info(random: Random, model: onnx.ModelProto) -> None:
    value = _any(random, (*model.graph.input, *model.graph.output))
    kind = value.type.tensor_type
    how = random.integers(7)
    if how == 0:
        kind.elem_type = int(_any(random, TYPES))
    elif how == 1 and kind.shape.dim:
        _any(random, kind.shape.dim).dim_value = _any(random, HUGE)
    elif how == 2:
        del kind.shape.dim[:]
    elif how == 3:
        kind.shape.dim.add(dim_value=int(_any(random, HUGE)))
    elif how == 4:
        value.name = _any(random, ("", "new", "x", "logits", "out"))
    elif how == 5:
        value.ClearField("type")
    else:
        value.type.Clear()
        value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def _interface(random: Random, model: onnx.ModelProto) -> None:
    part = model.graph.input if random.integers(2) else model.graph.output
    how = random.integers(4)
    if how == 0:
        del part[:]
    elif how == 1:
        part.append(_any(random, part))
    elif how == 2:
        part.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 4]))
    else:
        part.append(helper.make_tensor_value_info(model.graph.node[0].output[0], 7, [1]))


def _deep(random: Random, model: onnx.ModelProto) -> None:
    """Nest Ifs in each other, deeper than anybody would."""
    value = helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["deep"])], "deep", [], [value])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    for _ in range(int(_any(random, (3, 12, 28)))):
        node = helper.make_node("If", ["yes"], ["deep"], then_branch=graph, else_branch=_leaf())
        graph = helper.make_graph([node], "deep", [], [value])
    model.graph.node.append(graph.node[0])


def _leaf() -> onnx.GraphProto:
    value = helper.make_tensor_value_info("leaf", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Neg", ["x"], ["leaf"])], "leaf", [], [value])


def _function(random: Random, model: onnx.ModelProto) -> None:
    how = random.integers(4)
    if how == 0:  # one that calls itself
        body = [helper.make_node("Twist", ["a"], ["b"], domain="own")]
    elif how == 1:  # one that lacks what it gives
        body = [helper.make_node("Relu", ["a"], ["c"])]
    elif how == 2:
        body = []
    else:  # one under the name of an operator
        body = [helper.make_node("Relu", ["a"], ["b"])]
    del model.functions[:]
    domain, name = ("", "Relu") if how == 3 else ("own", "Twist")
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function(domain, name, ["a"], ["b"], body, opset))
    model.opset_import.append(helper.make_opsetid("own", 1))
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Twist", [last], ["twisted2"], domain="own"))


def _absurd(random: Random, model: onnx.ModelProto) -> None:
    """Ask for a tensor of 2**40 elements or so from a few bytes."""
    size = [int(_any(random, (1 << 20, 1 << 40, (1 << 62) - 1, -5)))] * int(random.integers(1, 4))
    b = Builder()
    b.constant("absurd", np.array(size))
    how = random.integers(3)
    if how == 0:
        b.node("ConstantOfShape", ["absurd"], "much")
    elif how == 1:
        b.node("Expand", [model.graph.output[0].name, "absurd"], "much")
    else:
        b.node("Tile", [model.graph.output[0].name, "absurd"], "much")
    b.node("Relu", ["much"], "more")
    model.graph.node.extend(b.nodes)
    model.graph.initializer.extend(b.weights)


def _name(random: Random, model: onnx.ModelProto) -> None:
    """Rename one tensor everywhere, to what no one would expect."""
    old = _any(random, [name for node in model.graph.node for name in node.output])
    new = _any(random, ("\0", "a\nb", "x" * 70_000, "cnatool::0", "‮", "\ud7ff", " ", "%s{}"))
    for node in model.graph.node:
        for part in (node.input, node.output):
            part[:] = [new if name == old else name for name in part]
    for value in model.graph.output:
        value.name = new if value.name == old else value.name


def _sparse(random: Random, model: onnx.ModelProto) -> None:
    weight = model.graph.initializer.pop(int(random.integers(len(model.graph.initializer))))
    sparse = model.graph.sparse_initializer.add()
    if random.integers(2):
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), weight.name))
    else:
        sparse.values.name = weight.name
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, int(_any(random, HUGE))]), "i"))
    sparse.dims[:] = weight.dims if random.integers(2) else [int(_any(random, HUGE))]


OF_BYTES: tuple[Callable[[Random, bytearray], None], ...] = (
    *(_flip, _flip, _overwrite, _cut, _remove, _repeat, _splice),
)
OF_FIELDS: tuple[Callable[[Random, onnx.ModelProto], None], ...] = (
    *(_operator, _domain, _attribute, _new_attribute, _wire, _output, _arity, _nodes, _dims, _data),
    *(_data_type, _weight_name, _outside, _versions, _value_info, _interface, _deep, _function),
    *(_absurd, _name, _sparse),
)
