"""ONNX's own backend tests, each model's every tensor against the reference evaluator.

A part of the models runs by default. ``CNATOOL_ALL_ONNX=1`` runs all of them, in a few minutes.
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from support.reference import as_in_graph, difference, every_value

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.outputs import add_outputs, list_exposable, make_readable
from cnatool.backend.session import RunOptions, Session
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import CnatoolError

loader = pytest.importorskip(
    "onnx.backend.test.loader", reason="this onnx package comes without its backend tests"
)

ALL = os.environ.get("CNATOOL_ALL_ONNX") == "1"
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
# Of each kind one model in so many, by default. A prime, so that families of variants, which come
# in pairs and fours, are all met.
STEPS = {"node": 13, "simple": 1, "pytorch-converted": 5, "pytorch-operator": 2}
RANDOM = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
# The number of their results depends on the values, not on the number of samples.
VARYING = {"Compress", "NonMaxSuppression", "NonZero", "Unique"}
LIGHT = ("light_densenet121", "light_resnet50", "light_shufflenet", "light_squeezenet")
LONGEST_MESSAGE = 700


@dataclass(frozen=True, slots=True)
class Case:
    """A model, what to feed, and what its outputs should be."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    outputs: dict[str, Any]
    rtol: float
    atol: float


@dataclass(slots=True)
class Tally:
    """What became of the models and of their tensors."""

    models: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def report(self, what: str, record: Any, *, done: str, models: int, equal: int) -> None:
        """Put the counts into the test's output; fail where a model did, or few got so far."""
        text = ", ".join(
            f"{count} {state}"
            for counts in (self.models, self.tensors)
            for state, count in counts.most_common()
        )
        record(what, text)
        print(f"{what}: {text}")  # noqa: T201
        count = sum(self.models.values())
        assert not self.failed, "\n".join([f"{len(self.failed)} failed:", *self.failed[:40]])
        assert 100 * self.models[done] >= models * count, text
        assert 100 * self.tensors["equal"] >= equal * count, text


@cache
def _cases(kind: str) -> tuple[Any, ...]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = sorted(loader.load_model_tests(kind=kind), key=lambda case: case.name)
        found = found[:: 1 if ALL else STEPS[kind]]
        return tuple(case for case in map(_read, found) if case is not None)


@cache
def _newest() -> tuple[int, int]:
    """Give the newest versions of the format and of the operators that the runtime takes."""
    versions = range(onnx.defs.onnx_opset_version(), 16, -1)
    for version in versions:
        node = helper.make_node("Relu", ["x"], ["y"])
        values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
        graph = helper.make_graph([node], "newest", values[:1], values[1:])
        for ir_version in range(onnx.IR_VERSION, 7, -1):
            model = helper.make_model(graph, ir_version=ir_version)
            model.opset_import[0].version = version
            if _runtime_values(model, ["y"], {"x": np.zeros(1, np.float32)}) is not None:
                return ir_version, version
    raise AssertionError("ONNX Runtime takes no model at all")


def _read(case: Any) -> Case | None:
    """Give a test case with its first data set; None where it has no data."""
    if case.model_dir is None:
        model, data = case.model, case.data_sets[0]
        given, expected = ([_loaded(value) for value in values] for values in data)
    else:
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        given, expected = (
            list(_from_files(folder, part, kinds))
            for part, kinds in (("input", model.graph.input), ("output", model.graph.output))
        )
    # Most models made for operators to come use those of today alone.
    ir_version, opset = _newest()
    model.ir_version = min(model.ir_version, ir_version)
    for imported in model.opset_import:
        if imported.domain == "":
            imported.version = min(imported.version, opset)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in held]
    if len(given) != len(inputs):
        return None
    outputs = [value.name for value in model.graph.output]
    half = any(isinstance(v, np.ndarray) and v.dtype == np.float16 for v in given)
    return Case(
        name=case.name,
        model=model,
        feeds=dict(zip(inputs, given, strict=True)),
        outputs=dict(zip(outputs, expected, strict=False)),
        rtol=max(case.rtol, 1e-3),
        # One step of a half-precision number below 4; the runtime may keep more digits in between.
        atol=2e-3 if half else max(case.atol, 1e-5),
    )


def _loaded(value: Any) -> Any:
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    if isinstance(value, onnx.OptionalProto):
        return numpy_helper.to_optional(value)
    return value


def _from_files(folder: Path, part: str, values: Any) -> Iterator[Any]:
    files = sorted(folder.glob(f"test_data_set_0/{part}_*.pb"))
    for i in range(len(files)):
        kind = values[i].type.WhichOneof("value")
        proto = {
            "sequence_type": onnx.SequenceProto,
            "optional_type": onnx.OptionalProto,
        }.get(kind, onnx.TensorProto)()
        proto.ParseFromString((folder / f"test_data_set_0/{part}_{i}.pb").read_bytes())
        yield _loaded(proto)


def _comparable(value: Any, expected: Any) -> tuple[Any, Any]:
    """Give both as numbers of one type where the expected one has a type that NumPy lacks."""
    if not isinstance(expected, np.ndarray) or expected.dtype.isbuiltin == 1:
        return value, expected
    return value.astype(np.float64), expected.astype(np.float64)


def _truth(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Give every tensor's value by the reference evaluator; none where it has no answer."""
    try:
        return every_value(model, feeds)
    except Exception:  # anything that NumPy code can raise
        return {}


def _runtime_values(
    model: onnx.ModelProto, names: list[str], feeds: dict[str, Any], *, optimised: bool = False
) -> Any:
    """Run a model without the package; None where it does not run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(names, feeds)
    except Exception:  # one class a status code, all straight below Exception
        return None


def _after_random(model: onnx.ModelProto) -> set[str]:
    """Give the tensors that differ from run to run."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in RANDOM or found.intersection(node.input):
            found.update(node.output)
    return found


def _names(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in node.output if name]


def _message_fault(error: CnatoolError) -> str | None:
    """Say what is wrong with an error's text, if anything."""
    text = str(error)
    if not text or "\n" in text or len(text) > LONGEST_MESSAGE:
        return f"no short message: {text!r}"
    return None


def _expose(case: Case, folder: Path, tally: Tally) -> None:
    """Run one model with every tensor exposed and compare each."""
    path = folder / "model.onnx"
    onnx.save(case.model, path)
    try:
        graph = load_graph(path)
        names, skipped = list_exposable(graph)
        listed = [*names, *(tensor.name for tensor in skipped)]
        if lost := set(_names(graph.model)).difference(listed):
            tally.failed.append(f"{case.name}: lost {sorted(lost)}")
        tally.tensors["skipped with a reason"] += len(skipped)
        if not all(tensor.reason for tensor in skipped):
            tally.failed.append(f"{case.name}: skipped without a reason")
        run = RunOptions(threads=1)
        types = Session(
            make_readable(graph.model, names, inner=graph.inner).model, graph, run
        ).types
        exposed = make_readable(graph.model, names, types, graph.inner)
        values = Session(exposed.model, graph, run).run(exposed.outputs, case.feeds)
    except CnatoolError as error:
        if fault := _message_fault(error):
            tally.failed.append(f"{case.name}: {fault}")
        outputs = [value.name for value in case.model.graph.output]
        if _runtime_values(case.model, outputs, case.feeds, optimised=True) is not None:
            tally.models["refused though the runtime runs it"] += 1
            tally.failed.append(f"{case.name}: {type(error).__name__}: {error}")
        else:
            tally.models["refused by the runtime too"] += 1
        return
    tally.models["run"] += 1
    truth = _truth(graph.model, case.feeds) | case.outputs
    random = _after_random(graph.model)
    bare: dict[str, Any] | None = None
    for name, value in zip(names, values, strict=True):
        value, expected = _comparable(value, truth.get(name))
        if name in random:
            tally.tensors["random"] += 1
        elif name not in truth:
            tally.tensors["without anything to compare with"] += 1
        elif (text := difference(value, expected, rtol=case.rtol, atol=case.atol)) is None:
            tally.tensors["equal"] += 1
        else:
            if bare is None:
                model = add_outputs(graph.model, names, graph.inner)
                bare = dict(
                    zip(names, _runtime_values(model, names, case.feeds) or values, strict=True)
                )
            if difference(value, bare[name], rtol=case.rtol, atol=case.atol) is None:
                tally.tensors["otherwise computed by the runtime itself"] += 1
                print(f"{case.name}: {name} ({graph.operator(name)}): {text}")  # noqa: T201
            else:
                tally.failed.append(f"{case.name}: {name} ({graph.operator(name)}): {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_exposed(kind: str, tmp_path: Path, record_property: Any) -> None:
    tally = Tally()
    for case in _cases(kind):
        try:
            _expose(case, tmp_path, tally)
        except Exception as error:
            tally.failed.append(f"{case.name}: {type(error).__name__}: {error}")
    tally.report(f"{kind}, exposed", record_property, done="run", models=60, equal=60)


def _with_one_input(case: Case, *, free: bool) -> tuple[onnx.ModelProto, str, np.ndarray] | None:
    """Turn a case into a model of one input that takes samples, the other inputs into weights."""
    tensors = {v.name for v in case.model.graph.input if v.type.HasField("tensor_type")}
    fit = [
        name
        for name, value in case.feeds.items()
        if isinstance(value, np.ndarray)
        and name in tensors
        and value.dtype.kind in "fiub"
        and value.ndim
        and value.size
    ]
    if not fit or not all(isinstance(value, np.ndarray) for value in case.feeds.values()):
        return None
    chosen = next((name for name in fit if case.feeds[name].dtype.kind == "f"), fit[0])
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.input[:]
    for value in case.model.graph.input:
        if value.name == chosen or value.name not in case.feeds:
            model.graph.input.append(value)
        else:
            weight = numpy_helper.from_array(case.feeds[value.name], value.name)
            model.graph.initializer.append(weight)
    samples = case.feeds[chosen]
    if free:
        rows = np.arange(5) % len(samples)
        noise = np.random.default_rng(0).uniform(0.9, 1, (5, *samples.shape[1:]))
        samples = samples[rows]
        if samples.dtype.kind == "f":
            samples = (samples * noise).astype(samples.dtype)
        shapes = next(v for v in model.graph.input if v.name == chosen).type.tensor_type.shape
        shapes.dim[0].dim_param = "samples"
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    return model, chosen, samples


def _dump(case: Case, free: bool, folder: Path, tally: Tally) -> None:
    """Dump one model over its own data and compare what is stored."""
    made = _with_one_input(case, free=free)
    if made is None:
        tally.models["without samples"] += 1
        return
    model, chosen, samples = made
    path, data = folder / "model.onnx", folder / "data.npz"
    onnx.save(model, path)
    np.savez(data, x=samples)
    options: dict[str, Any] = {"overwrite": True}
    if samples.dtype.kind == "f":
        options["scale"] = 1.0
    if free:
        options["batch_size"] = len(samples)
    try:
        store = cnatool.dump(path, data, folder / "full.zarr", **options)
        sums = cnatool.dump(path, data, folder / "sums.zarr", keep="statistics", **options)
    except CnatoolError as error:
        state = f"refused ({type(error).__name__})"
        if fault := _message_fault(error):
            tally.failed.append(f"{case.name}: {fault}")
        elif _beyond(model):
            state = "refused (too old, or of varying shapes)"
        elif "ONNX Runtime" in str(error) and _runs(path, chosen, samples, free=free):
            tally.failed.append(f"{case.name}: runs, but {error}")
        tally.models[state] += 1
        return
    tally.models["dumped"] += 1
    graph = load_graph(path)
    listed = {tensor.name for tensor in (*store.tensors, *store.record.skipped)}
    if lost := set(_names(graph.model)) - listed:
        tally.failed.append(f"{case.name}: lost {sorted(lost)}")
    tally.tensors["skipped with a reason"] += len(store.record.skipped)
    random = _after_random(graph.model)
    feeds = {chosen: samples}
    truth = _truth(model, feeds) | ({} if free else case.outputs)
    # Between two operators in half precision the runtime computes in float32, and does not round to
    # half precision what it need not give.
    half = any(v.dtype == np.float16 for v in truth.values() if isinstance(v, np.ndarray))
    for tensor in store.tensors:
        if tensor.name in random or tensor.name not in truth:
            tally.tensors["without anything to compare with"] += 1
            continue
        value = store.splits["all"].activations(tensor.name)[:]
        value, expected = _comparable(value, truth[tensor.name])
        for text in _sum_faults(value, tensor.number, store, sums, 2e-3 if half else 1e-6):
            tally.failed.append(f"{case.name}: {tensor.name} ({tensor.operator}): {text}")
        value = as_in_graph(value, tensor)
        text = difference(value, expected, rtol=case.rtol, atol=case.atol)
        if text is None:
            tally.tensors["equal"] += 1
            continue
        types = {tensor.name: tensor.onnx_type or ""}
        exposed = make_readable(graph.model, [tensor.name], types, graph.inner)
        bare = _runtime_values(exposed.model, list(exposed.outputs), feeds)
        if bare is not None:
            own = bare[0].astype(value.dtype)
            text = difference(value, own, rtol=case.rtol, atol=case.atol)
        if text is None:
            tally.tensors["otherwise computed by the runtime itself"] += 1
        else:
            tally.failed.append(f"{case.name}: {tensor.name} ({tensor.operator}): {text}")


def _beyond(model: onnx.ModelProto) -> bool:
    """Say whether a model is older than what ONNX Runtime promises to run, or its shapes vary."""
    opset = min((o.version for o in model.opset_import if o.domain == ""), default=7)
    return opset < 7 or any(node.op_type in VARYING for node in model.graph.node)


def _runs(path: Path, name: str, samples: np.ndarray, *, free: bool) -> bool:
    """Say whether ONNX Runtime by itself gives every tensor for what a dump feeds."""
    graph = load_graph(path)
    names, _ = list_exposable(graph)
    model = add_outputs(graph.model, names, graph.inner)
    counts = (5, 3, 2) if free else (len(samples),)
    return all(
        _runtime_values(model, names, {name: samples[:n]}, optimised=True) is not None
        for n in counts
    )


def _sum_faults(
    value: np.ndarray, number: int, full: cnatool.Store, thin: cnatool.Store, slack: float
) -> Iterator[str]:
    """Compare the sums of a full dump, which are exact, and of one of sums alone, which are not."""
    flat = value.reshape(len(value), -1).astype(np.float64)
    with np.errstate(all="ignore"):
        expected, scale = flat.sum(axis=1), np.abs(flat).sum(axis=1)
        for store, part in ((full, 1e-12), (thin, slack)):
            got = store.splits["all"].statistics("sum")[:][:, number]
            same = (np.abs(got - expected) <= part * scale) | ~np.isfinite(expected)
            if not same.all():
                kept = store.tensors[number].kept
                yield f"sums {got[~same][:3]} instead of {expected[~same][:3]} in a {kept} dump"


@pytest.mark.parametrize("free", [False, True], ids=["bound", "free"])
@pytest.mark.parametrize("kind", KINDS)
def test_dump(kind: str, free: bool, tmp_path: Path, record_property: Any) -> None:
    tally = Tally()
    for case in _cases(kind):
        try:
            _dump(case, free, tmp_path, tally)
        except Exception as error:
            tally.failed.append(f"{case.name}: {type(error).__name__}: {error}")
        for name in ("full", "sums"):
            shutil.rmtree(tmp_path / f"{name}.zarr", ignore_errors=True)
    what = f"{kind}, {'free' if free else 'bound'}"
    tally.report(what, record_property, done="dumped", models=20, equal=20)


@pytest.mark.parametrize("kind", KINDS)
def test_inspect(kind: str, tmp_path: Path, record_property: Any) -> None:
    tally = Tally()
    path = tmp_path / "model.onnx"
    for case in _cases(kind):
        onnx.save(case.model, path)
        try:
            found = inspect_model(path)
        except CnatoolError as error:
            tally.models[f"refused ({type(error).__name__})"] += 1
            if fault := _message_fault(error):
                tally.failed.append(f"{case.name}: {fault}")
        except Exception as error:
            tally.failed.append(f"{case.name}: {type(error).__name__}: {error}")
        else:
            tally.models["inspected"] += 1
            listed = {tensor.name for tensor in (*found.tensors, *found.skipped)}
            if lost := set(_names(found.network.graph.model)) - listed:
                tally.failed.append(f"{case.name}: lost {sorted(lost)}")
    tally.report(f"{kind}, inspected", record_property, done="inspected", models=45, equal=0)


@pytest.mark.parametrize("name", LIGHT)
def test_full_size_graphs_lose_no_tensor(name: str, tmp_path: Path, record_property: Any) -> None:
    """Graphs of well-known networks whose weights are made by ConstantOfShape."""
    path = tmp_path / f"{name}.onnx"
    shutil.copy(DATA / "light" / path.name, path)
    model = onnx.load(path)
    found = inspect_model(path)
    kept = [tensor.name for tensor in found.tensors]
    skipped = {tensor.name: tensor.reason for tensor in found.skipped}
    assert sorted([*kept, *skipped]) == sorted(_names(model))
    assert all(skipped.values())
    # What depends on the input is downstream of it; the runtime must give all of that.
    dynamic = {value.name for value in model.graph.input}
    dynamic -= {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if dynamic.intersection(node.input):
            dynamic.update(node.output)
    assert {name for name, reason in skipped.items() if reason == "constant"}.isdisjoint(dynamic)
    record_property(name, f"{len(kept)} tensors, {len(skipped)} skipped")
    print(f"{name}: {len(kept)} tensors, {len(skipped)} skipped")  # noqa: T201
    [given] = [value for value in model.graph.input if value.name in dynamic]
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    # The samples that the expected output was made from, as ONNX's own test runner makes them.
    size = math.prod(shape)
    samples = (np.arange(size, dtype=np.float32) / size).reshape(shape)
    np.save(tmp_path / "x.npy", samples)
    store = cnatool.dump(path, tmp_path / "x.npy", tmp_path / "s.zarr", keep="statistics")
    assert [tensor.name for tensor in store.tensors] == kept
    expected = onnx.load_tensor(DATA / "light" / f"{name}_output_0.pb")
    got = store.splits["all"].outputs()[:]
    assert difference(got, numpy_helper.to_array(expected), rtol=1e-3) is None
