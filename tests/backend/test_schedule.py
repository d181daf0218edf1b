"""How batches, runs and threads follow from sizes, and what they never exceed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.networks import Builder, mlp, saved

from cnatool.backend.network import Network, open_network
from cnatool.backend.schedule import schedule_runs
from cnatool.errors import UsageError
from cnatool.records.store import TensorRecord

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return open_network(saved(mlp(), tmp_path_factory.mktemp("net") / "m.onnx"))


def tensor(size: int) -> TensorRecord:
    return TensorRecord(
        number=0,
        name="t",
        operator="Relu",
        role="activation",
        dtype="float32",
        shape=(size,),
        batch_axis=0,
        kept="statistics",
    )


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 1 << 28),
    held=st.integers(1, 1 << 28),
    threads=st.integers(1, 200),
    batch=st.none() | st.integers(1, 5000),
    cpu=st.booleans(),
)
def test_bounds(
    network: Network, size: int, held: int, threads: int, batch: int | None, cpu: bool
) -> None:
    provider = CPU if cpu else "CUDAExecutionProvider"
    plan = schedule_runs(
        network, [tensor(size)], held, bound=None, batch=batch, provider=provider, threads=threads
    )
    assert plan.batch == batch or batch is None
    assert plan.block % plan.batch == 0
    assert plan.block == plan.batch or plan.block * held <= 8 << 20
    assert 1 <= plan.runs * max(1, plan.threads) <= threads or not cpu
    live = max(held, size * 4)
    if batch is None:
        assert plan.batch == 1 or plan.batch * live <= 256 << 20
    if not cpu:
        # Two batches on a device: one is copied while the other runs.
        assert plan.runs <= 2
        assert plan.threads == threads
    assert plan.runs == 1 or plan.runs * plan.batch * live <= 1 << 30


@pytest.mark.parametrize(
    ("provider", "runs"),
    [("CUDAExecutionProvider", 2), ("TensorrtExecutionProvider", 2), ("DmlExecutionProvider", 1)],
)
def test_a_batch_is_copied_while_another_runs(network: Network, provider: str, runs: int) -> None:
    plan = schedule_runs(
        network, [tensor(64)], 4, bound=None, batch=None, provider=provider, threads=0
    )
    assert plan.runs == runs
    assert plan.threads == 0
    # Not where both would hold too much.
    plan = schedule_runs(
        network, [tensor(1 << 27)], 4, bound=None, batch=2, provider=provider, threads=0
    )
    assert plan.runs == 1


def test_large_weights_ask_for_a_larger_batch(tmp_path: Path) -> None:
    """Each run reads the weights: its tensors outweigh them, within the bounds of a batch."""

    def batch(inputs: int, size: int) -> int:
        net = Builder()
        net.gemm("x", "y", inputs, 100)
        model = net.model({"x": ("n", inputs)}, {"y": ("n", 100)})
        network = open_network(saved(model, tmp_path / "m.onnx"))
        chosen = {"bound": None, "batch": None, "provider": CPU, "threads": 1}
        return schedule_runs(network, [tensor(size)], 4, **chosen).batch  # type: ignore[arg-type]

    few, many = 10, 50_000
    megabyte = 1 << 18
    assert batch(few, megabyte) == batch(few, 2 * megabyte) == 8
    assert batch(many, 2 * megabyte) == 16
    assert batch(many, megabyte) == 32
    assert batch(many, 64 * megabyte) == 4


@pytest.mark.parametrize(("held", "batch", "block"), [(12_000, 512, 512), (1_000, 256, 1024)])
def test_a_block_of_tensors_that_are_all_held_is_one_batch(
    network: Network, held: int, batch: int, block: int
) -> None:
    """Their arrays need not be joined; otherwise, a block has several batches."""
    tensors = [tensor(2_000)]
    plan = schedule_runs(network, tensors, held, bound=None, batch=None, provider=CPU, threads=1)
    assert (plan.batch, plan.block) == (batch, block)


def test_random_operators_run_one_batch_after_another(tmp_path: Path) -> None:
    net = Builder()
    noise = helper.make_graph(
        [helper.make_node("RandomNormalLike", ["x"], ["inner"])],
        "noise",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    net.constant("yes", np.array(True))
    net.node("If", ["yes"], "noise", then_branch=noise, else_branch=noise)
    net.node("Add", ["x", "noise"], "y")
    model = net.model({"x": ("n", 4)}, {"y": ("n", 4)})
    network = open_network(saved(model, tmp_path / "m.onnx"))
    plan = schedule_runs(network, [tensor(4)], 4, bound=None, batch=None, provider=CPU, threads=8)
    assert (plan.runs, plan.threads) == (1, 8)


def test_a_model_bound_to_a_batch(tmp_path: Path) -> None:
    net = Builder()
    net.gemm("x", "y", 4, 2)
    network = open_network(saved(net.model({"x": (5, 4)}, {"y": (5, 2)}), tmp_path / "m.onnx"))
    plan = schedule_runs(network, [tensor(2)], 2, bound=5, batch=None, provider=CPU, threads=2)
    assert plan.batch == 5
    assert plan.block % 5 == 0
    with pytest.raises(UsageError, match="takes batches of exactly 5 samples"):
        schedule_runs(network, [tensor(2)], 2, bound=5, batch=4, provider=CPU, threads=2)
