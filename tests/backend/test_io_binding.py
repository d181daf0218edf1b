"""Runs with bound inputs and outputs give, bit for bit, what plain runs give.

The CPU's provider takes bindings too, so most of it is tested without a device. The Azure provider
of ordinary builds runs no operator of a model: all are left to the CPU, as some are by a GPU.
"""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from support.dumps import same_arrays
from support.networks import mlp, residual_convnet, saved
from support.notes import Notes

import cnatool
from cnatool.backend import session as session_module
from cnatool.backend.graph.graph import Graph
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.inputs import Samples
from cnatool.backend.io_binding import DEVICE_PROVIDERS, DeviceSession, open_session
from cnatool.backend.network import open_network
from cnatool.backend.select import select_outputs, select_tensors
from cnatool.backend.session import CPU, RunOptions, Session
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.errors import BackendError, CnatoolError
from cnatool.records.choices import Kept, Statistic
from cnatool.store.reader import open_store

AZURE = "AzureExecutionProvider"
CUDA = "CUDAExecutionProvider"
needs_azure = pytest.mark.skipif(
    AZURE not in ort.get_available_providers(), reason="this build has no Azure provider"
)


def saved_graph(model: onnx.ModelProto, folder: Path) -> Graph:
    return open_network(saved(model, folder / "model.onnx")).graph


def cuda_missing() -> str:
    """Say why nothing can run on CUDA here; empty if it can."""
    if CUDA not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    try:
        with tempfile.TemporaryDirectory() as folder:
            graph = saved_graph(mlp(), Path(folder))
            Session(graph.model, graph, RunOptions(CUDA))
    except CnatoolError as error:
        return str(error)
    return ""


needs_cuda = pytest.mark.skipif(bool(cuda_missing()), reason=cuda_missing() or "CUDA is there")


@pytest.fixture
def azure_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the Azure provider as one whose device has memory of its own."""
    providers = frozenset({*DEVICE_PROVIDERS, AZURE})
    for module in ("io_binding", "schedule"):
        monkeypatch.setattr(f"cnatool.backend.{module}.DEVICE_PROVIDERS", providers)


def identity(dtype: int) -> onnx.ModelProto:
    """Return a model whose results are its input as it is, and the number of its elements."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Size", ["x"], ["size"])],
        "identity",
        [helper.make_tensor_value_info("x", dtype, None)],
        [
            helper.make_tensor_value_info("same", dtype, None),
            helper.make_tensor_value_info("size", TensorProto.INT64, []),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_same_bits(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def open_exposed(model: onnx.ModelProto, folder: Path, run: RunOptions) -> DeviceSession:
    """Open a session of a model whose every tensor is an output."""
    graph = saved_graph(model, folder)
    names = [name for node in graph.nodes for name in node.output]
    return DeviceSession(make_readable(graph.model, names).model, graph, run)


def open_identity(dtype: int, folder: Path) -> DeviceSession:
    graph = saved_graph(identity(dtype), folder)
    return DeviceSession(graph.model, graph, RunOptions())


NETWORKS = pytest.mark.parametrize(
    ("make", "shape"), [(mlp, (64,)), (residual_convnet, (1, 8, 8))], ids=["mlp", "convnet"]
)


@NETWORKS
@pytest.mark.parametrize("provider", [CPU, pytest.param(CUDA, marks=needs_cuda)])
def test_every_tensor_is_that_of_a_plain_run(
    make: Callable[[], onnx.ModelProto], shape: tuple[int, ...], provider: str, tmp_path: Path
) -> None:
    bound = open_exposed(make(), tmp_path, RunOptions(provider, threads=1))
    names = list(bound.types)
    rng = np.random.default_rng(0)
    for count in (1, 7, 64, 5):
        feeds = {"x": rng.normal(size=(count, *shape)).astype(np.float32)}
        assert_same_bits(bound.run(names, feeds), Session._run(bound, names, feeds))
        # Some, in another order, and one twice.
        some = [names[-1], names[0], names[-1]]
        assert_same_bits(bound.run(some, feeds), Session._run(bound, some, feeds))
    assert bound.run([], feeds) == []


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (TensorProto.FLOAT, np.arange(12, dtype=np.float32).reshape(3, 4).T),
        (TensorProto.FLOAT, np.arange(12, dtype=np.float32).reshape(3, 4)[::2]),
        (TensorProto.FLOAT, np.array([np.nan, -np.inf, -0.0, 1e-45], np.float32)),
        (TensorProto.FLOAT16, np.array([1.5, 65504], np.float16)),
        (TensorProto.DOUBLE, np.array(3.25)),
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.UINT8, np.arange(256, dtype=np.uint8)),
        (TensorProto.INT64, np.empty((0, 3), np.int64)),
        (TensorProto.STRING, np.array(["α", "beta"], object)),
    ],
    ids=str,
)
def test_inputs_of_any_kind(dtype: int, value: np.ndarray, tmp_path: Path) -> None:
    session = open_identity(dtype, tmp_path)
    same, size = session.run(["same", "size"], {"x": value})
    assert same.dtype == value.dtype
    np.testing.assert_array_equal(same, value)
    assert size == value.size


def test_results_belong_to_the_caller(tmp_path: Path) -> None:
    session: DeviceSession | None = open_identity(TensorProto.FLOAT, tmp_path)
    assert session is not None
    inputs = [np.full((256, 256), number, np.float32) for number in range(8)]
    results = [session.run(["same"], {"x": value})[0] for value in inputs]
    session = None
    gc.collect()
    for number, (value, result) in enumerate(zip(inputs, results, strict=True)):
        value[:] = -1
        assert (result == number).all()
        result += 1  # as of a plain run, they can be written to
        assert (result == number + 1).all()


def test_batches_at_the_same_time(tmp_path: Path) -> None:
    session = open_exposed(residual_convnet(), tmp_path, RunOptions(threads=1))
    names = list(session.types)
    rng = np.random.default_rng(1)
    batches = [
        {"x": rng.normal(size=(1 + number % 9, 1, 8, 8)).astype(np.float32)} for number in range(60)
    ]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda feeds: session.run(names, feeds), batches))
    for feeds, results in zip(batches, together, strict=True):
        assert_same_bits(results, Session._run(session, names, feeds))


def test_an_error_is_that_of_a_plain_run(tmp_path: Path) -> None:
    graph = saved_graph(mlp(), tmp_path)
    feeds = {"x": np.ones((3, 65), np.float32)}
    messages = []
    for kind in (Session, DeviceSession):
        with pytest.raises(BackendError, match=r"failed on input x \(3, 65\)") as failure:
            kind(graph.model, graph, RunOptions()).run(graph.output_names, feeds)
        messages.append(str(failure.value))
    assert all("Got: 65 Expected: 64" in message for message in messages)


class RecordedBinding:
    """A binding that writes down what is asked of it."""

    def __init__(self, binding: ort.IOBinding, calls: list[tuple[str, ...]]) -> None:
        self.binding, self.calls = binding, calls

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            named = [a for a in arguments if isinstance(a, str)]
            self.calls.append((name, *named))
            return getattr(self.binding, name)(*arguments)

        return call


class RecordedSession:
    """A session of ONNX Runtime whose bindings are recorded."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.calls: list[tuple[str, ...]] = []

    def io_binding(self) -> RecordedBinding:
        return RecordedBinding(self.session.io_binding(), self.calls)

    def run_with_iobinding(self, recorded: RecordedBinding) -> None:
        self.calls.append(("run",))
        self.session.run_with_iobinding(recorded.binding)


def test_each_input_is_copied_once_and_only_wanted_outputs_leave(tmp_path: Path) -> None:
    session = open_identity(TensorProto.FLOAT, tmp_path)
    recorded = session._session = RecordedSession(session._session)
    session.run(["same"], {"x": np.ones(3, np.float32)})
    # Copies to a device may still be under way when `bind_cpu_input` returns.
    assert recorded.calls == [
        ("bind_cpu_input", "x"),
        ("bind_output", "same"),
        ("synchronize_inputs",),
        ("run",),
        ("get_outputs",),
    ]


def test_only_devices_are_bound(tmp_path: Path) -> None:
    graph = saved_graph(mlp(), tmp_path)
    session = open_session(graph.model, graph, RunOptions())
    assert type(session) is Session
    assert session.operators_by_provider == {}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (CPU, [(CPU, {})]),
        (CUDA, [(CUDA, {"use_tf32": "0"})]),
        (
            "TensorrtExecutionProvider",
            [("TensorrtExecutionProvider", {}), (CUDA, {"use_tf32": "0"})],
        ),
    ],
)
def test_options_of_providers(
    provider: str, expected: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    class Runtime:
        def __init__(self, _: bytes, *, providers: list[object], **_options: object) -> None:
            asked.extend(providers)

        def get_providers(self) -> list[str]:
            return [provider, CPU]

    monkeypatch.setattr(session_module.ort, "InferenceSession", Runtime)
    graph = saved_graph(mlp(), tmp_path)
    Session(graph.model, graph, RunOptions(provider))
    assert asked == expected


def dump(folder: Path, name: str, provider: str, keep: Kept) -> tuple[Path, list[str]]:
    """Dump three blocks of samples in batches of 64, the last one smaller."""
    notes, store = Notes(), folder / f"{name}.zarr"
    cnatool.dump(
        saved(residual_convnet(), folder / "model.onnx"),
        saved_samples(folder),
        store,
        provider=provider,
        keep=keep,
        batch_size=64,
        statistics=get_args(Statistic),
        observer=notes,
    )
    return store, notes.texts


def saved_samples(folder: Path) -> Path:
    path = folder / "x.npy"
    np.save(path, np.random.default_rng(2).normal(size=(2100, 1, 8, 8)).astype(np.float32))
    return path


@needs_azure
@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_a_dump_is_that_of_plain_runs(
    keep: Kept, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plain, _ = dump(tmp_path, "plain", AZURE, keep)
    request.getfixturevalue("azure_device")
    with patch.object(DeviceSession, "_run", autospec=True, side_effect=DeviceSession._run) as run:
        bound, _ = dump(tmp_path, "bound", AZURE, keep)
    assert run.call_count > 2100 // 64
    same_arrays(bound, plain)


@needs_azure
@pytest.mark.skipif(
    not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this version of ONNX Runtime does not tell where operators run",
)
def test_operators_left_to_the_cpu_are_noted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, notes = dump(tmp_path, "plain", AZURE, "statistics")
    assert not any("to the CPU" in note for note in notes)
    request.getfixturevalue("azure_device")
    _, notes = dump(tmp_path, "bound", AZURE, "statistics")
    (note,) = [note for note in notes if "to the CPU" in note]
    count, total = map(int, re.findall(r"leaves (\d+) of (\d+) nodes", note)[0])
    assert count == total > 10
    assert re.search(r"\(Reshape \d+, .*, …\)", note)


@needs_azure
def test_statistics_that_a_device_gives_otherwise_are_noted(tmp_path: Path) -> None:
    network = open_network(saved(mlp(), tmp_path / "model.onnx"))
    samples = Samples({"x": np.random.default_rng(3).normal(size=(3, 64)).astype(np.float32)})
    run = RunOptions(AZURE)
    probed = network.probe(samples, bound=None, run=run, statistics=("sum",))
    tensors = select_tensors(network, probed.tensors, ["all"], keep="statistics", dtype=None)
    outputs = select_outputs(network, probed.tensors)
    assert build_exposed_model(network, probed, tensors, outputs, ("sum",), run).notes == []
    # As a device would that sums in less than float32.
    sums = probed.reference["relu2"]
    off = {**sums, "sum": sums["sum"] + 1e-4 * sums["abs_sum"]}
    # Without an order of magnitude there is nothing to compare with.
    endless = dict.fromkeys(sums, np.full(3, np.inf))
    reference = {**probed.reference, "relu2": off, "relu3": endless}
    probed = replace(probed, reference=reference)
    (note,) = build_exposed_model(network, probed, tensors, outputs, ("sum",), run).notes
    assert note.startswith(f"{AZURE} gives other statistics of 1 tensor, first 'relu2', than")


@needs_cuda
def test_a_dump_on_cuda(tmp_path: Path) -> None:
    stores = [open_store(dump(tmp_path, name, name, "full")[0]) for name in ("cpu", "cuda")]
    kept = open_store(dump(tmp_path, "kept", "cuda", "statistics")[0])
    runtime = kept.record.runtime
    assert runtime is not None
    assert runtime.provider_options == {"use_tf32": "0"}
    on_cpu, on_cuda = (next(iter(store.splits.values())) for store in stores)
    sums = next(iter(kept.splits.values())).statistics("sum")[:]
    for tensor in stores[0].record.tensors:
        values = [split.activations(tensor.name)[:] for split in (on_cpu, on_cuda)]
        largest = np.abs(values[0]).max()
        # TensorFloat-32 would be off by 1e-3.
        np.testing.assert_allclose(values[1], values[0], rtol=1e-4, atol=1e-5 * largest)
        flat = values[1].reshape(len(values[1]), -1).astype(np.float64)
        error = np.abs(sums[:, tensor.number] - flat.sum(axis=1))
        assert (error <= 1e-5 * np.abs(flat).sum(axis=1)).all()
