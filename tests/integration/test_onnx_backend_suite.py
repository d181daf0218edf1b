"""ONNX's own backend tests, each model's every tensor against the reference evaluator.

A part of the models runs by default. ``CNATOOL_ALL_ONNX=1`` runs all of them, in a few minutes.
"""

from __future__ import annotations

import contextlib
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
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference.ops import op_pool_common
from support.reference import difference, every_value
from zoo.equality import as_in_graph
from zoo.onnx_suite import (
    DATA,
    KINDS,
    SuiteCase,
    free_samples,
    keep_one_input,
    read_case,
    run_bare,
)

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.outputs import add_outputs, list_exposable, make_readable
from cnatool.backend.session import RunOptions, Session
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import CnatoolError
from cnatool.records.ragged import Ragged

loader = pytest.importorskip(
    "onnx.backend.test.loader", reason="this onnx package comes without its backend tests"
)

ALL = os.environ.get("CNATOOL_ALL_ONNX") == "1"
# Of each kind one model in so many, by default. A prime, so that families of variants, which come
# in pairs and fours, are all met.
STEPS = {"node": 17, "simple": 1, "pytorch-converted": 5, "pytorch-operator": 2}
# Models over which the reference evaluator takes seconds, and what runs in their place by default.
SLOW = {
    "test_MaxPool1d_stride_padding_dilation": "test_MaxPool1d_stride",
    "test_MaxPool2d_stride_padding_dilation": "test_MaxPool3d_stride_padding",
    "test_averagepool_3d_default": "test_averagepool_3d_dilations_small",
    "test_lppool_3d_default": "test_lppool_2d_default",
    "test_maxpool_3d_default": "test_maxpool_3d_dilations",
}
LARGE_INPUT = 50_000
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
# Their loops compute something of another shape in each iteration, which no output can hold.
OF_VARYING_SHAPE = {
    "test_sequence_map_add_2_sequences_expanded",
    "test_sequence_map_extract_shapes_expanded",
    "test_sequence_map_identity_1_sequence_1_tensor_expanded",
    "test_sequence_map_identity_2_sequences_expanded",
}
LIGHT = ("light_shufflenet", "light_squeezenet", *(("light_resnet50",) if ALL else ()))
LONGEST_MESSAGE = 700


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
        with contextlib.nullcontext() if ALL else patch.object(op_pool_common, "pool", _pool_small):
            found = sorted(loader.load_model_tests(kind=kind), key=lambda case: case.name)
        if not ALL:
            named = {case.name: case for case in found}
            names = [SLOW.get(case.name, case.name) for case in found[:: STEPS[kind]]]
            found = [named[name] for name in names]
        return tuple(case for case in map(read_case, found) if case is not None)


def _pool_small(padded: np.ndarray, x_shape: Any, *options: Any, **named: Any) -> np.ndarray:
    """Compute what models of `SLOW` expect, which the loader does for all, only if it is quick."""
    if math.prod(x_shape) > LARGE_INPUT:
        return np.zeros(1, np.float32)
    return _POOL(padded, x_shape, *options, **named)


_POOL = op_pool_common.pool


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


def _expose(case: SuiteCase, folder: Path, tally: Tally) -> None:
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
        if case.name in OF_VARYING_SHAPE:
            names = [name for name in names if name not in graph.inner]
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
        if run_bare(case.model, outputs, case.feeds, optimised=True) is not None:
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
                bare = dict(zip(names, run_bare(model, names, case.feeds) or (), strict=False))
            own = _comparable(bare.get(name), expected)[0] if name in bare else None
            if own is not None and difference(value, own, rtol=case.rtol, atol=case.atol) is None:
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


def _with_one_input(
    case: SuiteCase, *, free: bool
) -> tuple[onnx.ModelProto, str, np.ndarray] | None:
    """Turn a case into a model of one input that takes samples, of any number if it is free."""
    made = keep_one_input(case)
    if made is None or not free:
        return made
    model, chosen, samples = made
    return model, chosen, free_samples(model, chosen, samples, count=5)


def _dump(case: SuiteCase, free: bool, folder: Path, tally: Tally) -> None:
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
        if isinstance(value, Ragged):
            tally.tensors["of varying length"] += 1
            continue
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
        bare = run_bare(exposed.model, list(exposed.outputs), feeds)
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
        run_bare(model, names, {name: samples[:n]}, optimised=True) is not None for n in counts
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
    # By default every other model of those with many.
    for case in _cases(kind)[free::2] if STEPS[kind] > 2 and not ALL else _cases(kind):
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
