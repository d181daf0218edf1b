from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.branching import branch_if, one_node
from support.networks import Builder, saved

from cnatool.backend.inputs import ConstantInput, Samples
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions
from cnatool.errors import ModelError


def test_a_branch_that_the_runtime_does_not_take_is_refused(tmp_path: Path) -> None:
    b = Builder()
    b.node("Greater", ["level", b.constant("zero", np.array(0, np.float32))], "is_positive")
    neg, absolute = one_node("Neg", ["x"], "y"), one_node("Abs", ["x"], "y")
    b.nodes.append(branch_if("is_positive", ["out"], neg, absolute, name="gate"))
    model = b.model({"x": ("n", 4)}, {"out": ("n", 4)})
    model.graph.input.append(helper.make_tensor_value_info("level", TensorProto.FLOAT, ()))
    level = ConstantInput("level", np.array(2, np.float32), None)
    network = open_network(saved(model, tmp_path / "m.onnx")).take_branches([level])
    assert network.branch_record == {"gate": "then_branch"}
    rows = {"x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    probed = network.probe(Samples(rows, (level,)), bound=None, run=RunOptions())
    assert [tensor.name for tensor in probed.tensors] == ["gate/then_branch/y", "out"]
    other = replace(level, value=np.array(-2, np.float32))
    with pytest.raises(ModelError, match="If 'gate' takes its then_branch, but ONNX Runtime"):
        network.probe(Samples(rows, (other,)), bound=None, run=RunOptions())
