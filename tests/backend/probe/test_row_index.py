"""Index columns of detections, found by what runs show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support import heads
from support.networks import Builder, saved

from cnatool.backend.inputs import Samples
from cnatool.backend.network import ProbedNetwork, open_network
from cnatool.backend.probe.row_index import clear_columns, read_places
from cnatool.backend.session import RunOptions
from cnatool.records.row_index import RowIndex


def probe(model: onnx.ModelProto, folder: Path, bound: int | None = None) -> ProbedNetwork:
    network = open_network(saved(model, folder / "net.onnx"))
    return network.probe(Samples({"x": heads.samples(3)}), bound=bound, run=RunOptions())


def test_own_column_first_then_that_of_the_same_suppression(tmp_path: Path) -> None:
    found = {t.name: t.index for t in probe(heads.end_to_end(), tmp_path).tensors if t.index}
    assert found["detections"] == RowIndex("detections", 0, (0,))
    assert found["sample"] == RowIndex("sample", None, (0,))
    assert found["kept boxes"] == RowIndex("selected", 0)
    found = {t.name: t.index for t in probe(heads.suppressed_twice(), tmp_path).tensors if t.index}
    assert found["kept boxes"] == RowIndex("selected", 0)
    assert found["second boxes"] == RowIndex("second", 0)


def test_rows_whose_values_follow_the_place_are_left_out(tmp_path: Path) -> None:
    found = probe(heads.moved_by_place(), tmp_path)
    names = {tensor.name for tensor in found.tensors}
    assert "kept boxes" in names
    assert not names & {"moved boxes", "offset"}
    reasons = {tensor.name: tensor.reason for tensor in found.skipped}
    assert "no index says which sample each is of: shape" in reasons["moved boxes"]
    # Alone, all rows are the sample's.
    alone = {tensor.name for tensor in probe(heads.moved_by_place(), tmp_path, bound=1).tensors}
    assert {"moved boxes", "kept boxes"} <= alone


@pytest.mark.parametrize("make", [heads.end_to_end, heads.sorted_by_score])
def test_where_nothing_is_found_the_reason_says_so(make: object, tmp_path: Path) -> None:
    found = probe(make(threshold=1.0), tmp_path)  # type: ignore[operator]
    assert not any(tensor.index for tensor in found.tensors)
    reasons = {tensor.name: tensor.reason for tensor in found.skipped}
    assert "nothing was found in the first 3 samples" in reasons["selected"]


def numbered_anew(number: str) -> onnx.ModelProto:
    """Detect features above -0.2, and number only the samples that have some.

    Either the others are left out before detection, or the numbers of the rest are compacted.
    """
    b = Builder(1)
    least = b.constant("least", np.float32(-0.2))
    source = "x"
    if number == "before":
        b.node("ReduceMax", ["x"], "most", axes=[1], keepdims=0)
        b.node("Compress", ["x", b.node("Greater", ["most", least], "some")], "rest", axis=0)
        source = "rest"
    b.node("NonZero", [b.node("Greater", [source, least], "found")], "places")
    b.node("Transpose", ["places"], "index")
    b.node("GatherND", [source, "index"], "kept")
    column = b.constant("column", np.array([-1, 1]))
    b.node("Gather", ["index", b.constant("0", np.array(0))], "sample", axis=1)
    b.nodes.append(onnx.helper.make_node("Unique", ["sample"], ["numbers", "", "anew"]))
    b.node("Cast", ["anew"], "float", to=TensorProto.FLOAT)
    parts = [b.node("Reshape", [name, column], f"{name} column") for name in ("float", "kept")]
    b.node("Concat", parts, "detections", axis=1)
    return heads.model_of(b, {"detections": (TensorProto.FLOAT, ["m", 2])})


def test_a_column_that_numbers_only_samples_with_rows_is_no_index(tmp_path: Path) -> None:
    """It looks like one as long as all samples of the probe have rows, as here."""
    found = {t.name: t.index for t in probe(numbered_anew("after"), tmp_path).tensors if t.index}
    assert found["detections"] == RowIndex("index", 0, (0,))
    assert {index.tensor for index in found.values()} <= {"index", "sample"}
    assert not any(t.index for t in probe(numbered_anew("before"), tmp_path).tensors)


def test_an_index_that_is_sorted_with_its_rows_is_followed(tmp_path: Path) -> None:
    model = heads.sorted_by_score(threshold=0.0)
    found = {tensor.name: tensor.index for tensor in probe(model, tmp_path).tensors}
    assert found["kept boxes ranked"] == RowIndex("selected ranked", 0)


@pytest.mark.parametrize(
    ("rows", "column", "places"),
    [
        ([[0, 5], [2, 5]], 0, [0, 2]),
        ([0.0, 1.0, 1.0], None, [0, 1, 1]),
        ([[0.5, 1]], 0, None),
        ([[-1, 1]], 0, None),
        ([[3, 1]], 0, None),
        ([np.nan], None, None),
        (np.zeros((0, 7)), 0, []),
    ],
)
def test_places_are_whole_numbers_of_samples(
    rows: object, column: int | None, places: list[int] | None
) -> None:
    found = read_places(np.array(rows), column, 3)
    assert (None if found is None else found.tolist()) == places


def test_cleared_columns_are_those_of_a_sample_alone() -> None:
    rows = np.array([[1.0, 7], [2, 8]])
    assert clear_columns(rows, (0,)).tolist() == [[0, 7], [0, 8]]
    assert clear_columns(rows[:, 0], (0,)).tolist() == [0, 0]
    assert rows.tolist() == [[1, 7], [2, 8]]
