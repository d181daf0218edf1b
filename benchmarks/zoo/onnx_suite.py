"""The models that the `onnx` package tests runtimes with, their inputs and expected outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


# One step of a number below 4 in float16, below 1 in bfloat16.
_STEPS = {"float16": 2e-3, "bfloat16": 2**-8}


@dataclass(frozen=True, slots=True)
class SuiteCase:
    """A model, what to feed, and what its outputs should be."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    outputs: dict[str, Any]
    rtol: float
    atol: float


def read_case(case: Any) -> SuiteCase | None:
    """Return a case of ONNX's loader with its first data set; None where it has no data."""
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
    given, expected = _zero_undefined_casts(model, list(given), list(expected))
    # Most models made for operators to come use those of today alone.
    ir_version, opset = find_newest()
    model.ir_version = min(model.ir_version, ir_version)
    for imported in model.opset_import:
        if imported.domain == "":
            imported.version = min(imported.version, opset)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in held]
    if len(given) != len(inputs):
        return None
    outputs = [value.name for value in model.graph.output]
    kinds = {value.dtype.name for value in given if isinstance(value, np.ndarray)}
    # The runtime may keep more digits in between.
    steps = [step for name, step in _STEPS.items() if name in kinds]
    return SuiteCase(
        name=case.name,
        model=model,
        feeds=dict(zip(inputs, given, strict=True)),
        outputs=dict(zip(outputs, expected, strict=False)),
        rtol=max(case.rtol, 1e-3),
        atol=max([*steps, case.atol, 1e-5]),
    )


def _zero_undefined_casts(
    model: onnx.ModelProto, given: list[Any], expected: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Replace numbers by 0 that the integers they are cast to cannot hold.

    ONNX leaves their casts undefined, and what the runtime returns for them depends on the
    processor.
    """
    (first, *others) = model.graph.node
    if others or first.op_type not in {"Cast", "CastLike"}:
        return given, expected
    number, result = given[0], expected[0]
    if not (_is_array_of(number, ml_dtypes.finfo) and _is_array_of(result, ml_dtypes.iinfo)):
        return given, expected
    limits = ml_dtypes.iinfo(result.dtype)
    whole = np.trunc(number.astype(np.float64))
    outside = ~((whole >= int(limits.min)) & (whole <= int(limits.max)))
    number, result = number.copy(), result.copy()
    number[outside] = result[outside] = 0
    return [number, *given[1:]], [result, *expected[1:]]


def _is_array_of(value: Any, describe: Callable[[Any], Any]) -> bool:
    """Whether a value is an array of the numbers that a function of NumPy's kind describes."""
    try:
        describe(value.dtype)
    except (AttributeError, ValueError):
        return False
    return value.ndim > 0


@cache
def find_newest() -> tuple[int, int]:
    """Find the newest versions of the format and of the operators that the runtime takes."""
    versions = range(onnx.defs.onnx_opset_version(), 16, -1)
    for version in versions:
        node = helper.make_node("Relu", ["x"], ["y"])
        values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
        graph = helper.make_graph([node], "newest", values[:1], values[1:])
        for ir_version in range(onnx.IR_VERSION, 7, -1):
            model = helper.make_model(graph, ir_version=ir_version)
            model.opset_import[0].version = version
            if run_bare(model, ["y"], {"x": np.zeros(1, np.float32)}) is not None:
                return ir_version, version
    raise AssertionError("ONNX Runtime takes no model at all")


def run_bare(
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


def keep_one_input(case: SuiteCase) -> tuple[onnx.ModelProto, str, NDArray[Any]] | None:
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
    return model, chosen, case.feeds[chosen]


def free_samples(
    model: onnx.ModelProto, chosen: str, samples: NDArray[Any], count: int
) -> NDArray[Any]:
    """Free the first axis of a model's input, and make so many samples for it."""
    rows = np.arange(count) % len(samples)
    noise = np.random.default_rng(0).uniform(0.9, 1, (count, *samples.shape[1:]))
    samples = samples[rows]
    if samples.dtype.kind == "f":
        samples = (samples * noise).astype(samples.dtype)
    shapes = next(v for v in model.graph.input if v.name == chosen).type.tensor_type.shape
    shapes.dim[0].dim_param = "samples"
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return samples


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
