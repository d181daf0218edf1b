"""Dumps of models with If, Loop and Scan: every inner tensor against its literal evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from support.control_flow import FLOWS, Flow, over_samples
from support.networks import saved
from support.reference import difference
from support.stored_flow import compare_with_literal, evaluate_alone

import cnatool
from cnatool.records.choices import Statistic
from cnatool.records.skipped import skip_kind

STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


def dump(flow: Flow, folder: Path, store: str, batch_size: int = 4, **options: object) -> object:
    """Dump a model with all statistics; samples that decide for themselves run alone."""
    np.savez(folder / "data.npz", **flow.feeds)
    size = 1 if flow.alone else batch_size
    options = {"statistics": STATISTICS, **options}
    model = saved(flow.model, folder / "model.onnx")
    return cnatool.dump(model, folder / "data.npz", folder / store, batch_size=size, **options)


@pytest.mark.parametrize("make", FLOWS)
def test_the_literal_evaluation_gives_the_runtimes_outputs(make: Callable[[], Flow]) -> None:
    flow = make()
    session = onnxruntime.InferenceSession(flow.model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for row, values in enumerate(evaluate_alone(flow)):
        feeds = {name: x[row : row + 1] for name, x in flow.feeds.items()}
        for name, result in zip(names, session.run(names, feeds), strict=True):
            expected = values[name][()]
            if expected is None:  # of a loop that did not run
                assert result.size == 0
            else:
                assert difference(result, np.asarray(expected)) is None, (name, row)


def test_samples_that_a_scan_takes_from_the_end_are_left_out(tmp_path: Path) -> None:
    flow = over_samples()
    scan = next(node for node in flow.model.graph.node if node.op_type == "Scan")
    for name in ("scan_input_directions", "scan_output_directions"):
        scan.attribute.append(onnx.helper.make_attribute(name, [1]))
    for batch_size in (4, 1):
        store = dump(flow, tmp_path, f"{batch_size}.zarr", batch_size=batch_size)
        names = compare_with_literal(store, flow)
        assert bool(names) == (batch_size == 1)
        assert store.has_tensor("y")


def body_inputs(graph: onnx.GraphProto, place: str) -> set[str]:
    """Name what the bodies in a graph are given."""
    names = set()
    for node in graph.node:
        for attribute in node.attribute:
            inside = f"{place}{node.name or node.output[0]}/{attribute.name}/"
            names |= {inside + value.name for value in attribute.g.input}
            names |= body_inputs(attribute.g, inside)
    return names


@pytest.mark.parametrize("make", FLOWS)
def test_every_inner_tensor(make: Callable[[], Flow], tmp_path: Path) -> None:
    flow = make()
    full = dump(flow, tmp_path, "full.zarr")
    thin = dump(flow, tmp_path, "thin.h5", batch_size=3, keep="statistics")
    names = compare_with_literal(full, flow)
    assert compare_with_literal(thin, flow) == names
    made = {name for values in evaluate_alone(flow) for name in values if "/" in name}
    assert names, "nothing inside is stored"
    # What is left out are the inputs of bodies, and what does not depend on the samples.
    independent = ("constant", "shape arithmetic", "in a subgraph")
    made -= {s.name for s in full.record.skipped if skip_kind(s) in independent}
    assert made - set(names) <= body_inputs(flow.model.graph, "")
