"""The tables that limit ids and positions are found in graphs as exporters write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import saved

from cnatool.backend.network import open_network
from cnatool.backend.token_tables import Table, find_position_table, find_token_table

RNG = np.random.default_rng(0)
WORDS, ROWS, WIDTH = 40, 12, 4


def table(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name)


def whole(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def scalar(name: str, value: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.int64), name)


LENGTH = [
    node("Shape", ["input_ids"], "shape"),
    node("Gather", ["shape", "one"], "length", axis=0),
]
LENGTH_VALUES = [scalar("one", 1)]
WORDS_NODES = [node("Gather", ["words", "input_ids"], "embedded")]

# What picks the rows of positions, the values that it needs, and how many tokens it allows.
WAYS: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], int | None]] = {
    "range": (
        [*LENGTH, node("Range", ["zero", "length", "one"], "at")],
        [*LENGTH_VALUES, scalar("zero", 0)],
        ROWS,
    ),
    # A buffer of numbers, cut to the number of tokens.
    "buffer": (
        [
            *LENGTH,
            node("Unsqueeze", ["length", "first"], "end"),
            node("Slice", ["numbers", "first", "end", "second"], "at"),
        ],
        [
            *LENGTH_VALUES,
            whole("first", 0),
            whole("second", 1),
            numpy_helper.from_array(np.arange(ROWS)[None], "numbers"),
        ],
        ROWS,
    ),
    # Positions begin behind the number of padding, as in RoBERTa.
    "offset": (
        [
            node("Equal", ["input_ids", "one"], "padded"),
            node("Not", ["padded"], "real"),
            node("Cast", ["real"], "mask", to=TensorProto.INT64),
            node("CumSum", ["mask", "axis"], "counted"),
            node("Mul", ["counted", "mask"], "masked"),
            node("Add", ["masked", "one"], "at"),
        ],
        [*LENGTH_VALUES, numpy_helper.from_array(np.array(1, np.int32), "axis")],
        ROWS - 2,
    ),
    # Distances in buckets: any length.
    "buckets": (
        [
            *LENGTH,
            node("Range", ["zero", "length", "one"], "number"),
            node("Min", ["number", "most"], "at"),
        ],
        [*LENGTH_VALUES, scalar("zero", 0), scalar("most", ROWS - 1)],
        None,
    ),
}


def network(way: str, folder: Path, *, cast: bool = False) -> Path:
    nodes, values, _ = WAYS[way]
    ids = "input_ids"
    head = []
    if cast:
        head = [node("Cast", ["input_ids"], "wide", to=TensorProto.INT64)]
        ids = "wide"
    body = [
        *head,
        node("Gather", ["words", ids], "embedded"),
        *nodes,
        node("Gather", ["positions", "at"], "placed"),
        node("Add", ["embedded", "placed"], "sum"),
        node("Relu", ["sum"], "out"),
    ]
    graph = helper.make_graph(
        body,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "t", WIDTH])],
        [table("words", WORDS, WIDTH), table("positions", ROWS, WIDTH), *values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return saved(model, folder / f"{way}.onnx")


@pytest.mark.parametrize("way", WAYS)
def test_tables(tmp_path: Path, way: str) -> None:
    opened = open_network(network(way, tmp_path))
    assert find_token_table(opened.graph, "input_ids") == Table("words", WORDS, WIDTH)
    found = find_position_table(opened.graph, opened.inputs, "input_ids")
    limit = WAYS[way][2]
    assert (None if found is None else found.rows) == limit
    # The runtime agrees: it takes as many tokens, and no more.
    import onnxruntime as ort

    session = ort.InferenceSession(str(network(way, tmp_path)))
    for length, fits in ((limit or 3 * ROWS, True), ((limit or 0) + 1, False)):
        ids = np.full((1, length), 5)
        if fits:
            session.run(None, {"input_ids": ids})
        elif limit is not None:
            with pytest.raises(Exception, match="(?i)bounds|dimension|broadcast"):
                session.run(None, {"input_ids": ids})


def test_ids_that_are_cast_first(tmp_path: Path) -> None:
    opened = open_network(network("range", tmp_path, cast=True))
    assert find_token_table(opened.graph, "input_ids") == Table("words", WORDS, WIDTH)


def test_rows_that_are_cut_off_a_table(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["words", "input_ids"], "embedded"),
        *LENGTH,
        node("Unsqueeze", ["length", "first"], "end"),
        node("Slice", ["positions", "first", "end", "first"], "placed"),
        node("Add", ["embedded", "placed"], "out"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            table("words", WORDS, WIDTH),
            table("positions", ROWS, WIDTH),
            *LENGTH_VALUES,
            whole("first", 0),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    opened = open_network(saved(model, tmp_path / "m.onnx"))
    found = find_position_table(opened.graph, opened.inputs, "input_ids")
    assert found == Table("positions", ROWS)


def test_positions_that_are_an_input(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["words", "input_ids"], "embedded"),
        node("Gather", ["positions", "position_ids"], "placed"),
        node("Gather", ["types", "token_type_ids"], "typed"),
        node("Add", ["embedded", "placed"], "sum"),
        node("Add", ["sum", "typed"], "out"),
    ]
    names = ["input_ids", "position_ids", "token_type_ids"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in names],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [table("words", WORDS, WIDTH), table("positions", ROWS, WIDTH), table("types", 2, WIDTH)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    opened = open_network(saved(model, tmp_path / "m.onnx"))
    found = find_position_table(opened.graph, opened.inputs, "input_ids")
    assert found == Table("positions", ROWS)
    assert find_token_table(opened.graph, "input_ids") == Table("words", WORDS, WIDTH)
