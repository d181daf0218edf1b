"""One network: built, dumped with whole values and again with sums alone, and compared."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import cnatool
from cnatool.backend.graph.graph import Graph, load_graph
from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.graph.random_operators import find_random_tensors
from cnatool.errors import CnatoolError
from cnatool.records.skipped import skip_kind
from cnatool.records.store import TensorRecord
from cnatool.store.store import Store
from zoo.case import Arrays, BuiltModel, Case, NoSamplesError
from zoo.equality import OF_SUMS, as_in_graph, describe_difference, describe_sum_difference
from zoo.recompute import recompute
from zoo.rows import Outcome, Row

BATCH = 2
# What has no place in a message: the folder, which has another name in each run, and colours.
_NOISE = re.compile(r"/\S*/breadth-\S*/work/|\x1b\[[0-9;]*m")
_SPLIT = "all"
_NOT_INTERESTING = ("constant", "shape arithmetic")
# What a dump says of a model whose results have no row for each sample, such as an ArgMax over all.
_NO_ROWS = "no tensor has an axis that is as long as there are samples"
_HALF = ("float16", "bfloat16")
_OF_HALF_SUMS = 2e-3


@dataclass
class Tally:
    """What was found of the tensors of one store."""

    compared: set[str] = field(default_factory=set)
    equal: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)
    disputed: set[str] = field(default_factory=set)
    unchecked: set[str] = field(default_factory=set)
    different: dict[str, str] = field(default_factory=dict)


def try_case(case: Case, folder: Path, record: Callable[[str], None]) -> Row:
    """Build, dump and compare one network; every end is a row."""
    row = Row(case.source, case.family, case.name, case.exporter, "failed")
    record("export")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = case.build(folder)
    except NoSamplesError as error:
        return replace(row, outcome="no samples", message=_one_line(error))
    except Exception as error:  # libraries raise what they like
        return replace(row, outcome="exporter", message=_one_line(error))
    return judge(built, row, folder, record)


def judge(built: BuiltModel, row: Row, folder: Path, record: Callable[[str], None]) -> Row:
    """Dump a model, recompute its tensors, and complete the row."""
    record("dump")
    built = _keep_inputs(built)
    try:
        full, sums = (dump_samples(built, folder, keep) for keep in ("full", "statistics"))
    except CnatoolError as error:
        return _refused(built, row, str(error).removeprefix(f"{built.path}: "))
    except Exception as error:
        return replace(row, message=_one_line(error))
    record("comparison")
    try:
        return _complete(row, built, full, sums)
    except Exception as error:
        return replace(row, message=f"comparison: {_one_line(error)}")


def _keep_inputs(built: BuiltModel) -> BuiltModel:
    """Leave out values of inputs that the exporter dropped, since nothing reads them."""
    model = onnx.load(built.path, load_external_data=False)
    names = {value.name for value in model.graph.input}

    def keep(arrays: Arrays) -> Arrays:
        return {name: values for name, values in arrays.items() if name in names}

    return replace(built, samples=keep(built.samples), constants=keep(built.constants))


def _complete(row: Row, built: BuiltModel, full: Store, sums: Store) -> Row:
    """Complete the row of a model that is dumped."""
    graph = load_graph(built.path)
    tally = compare(built, graph, full, sums)
    skipped = full.record.skipped
    open_ = tally.unchecked or tally.disputed
    return replace(
        row,
        outcome="different" if tally.different else "unchecked" if open_ else "equal",
        message="; ".join(f"{name}: {text}" for name, text in [*tally.different.items()][:3]),
        operators=len(graph.nodes),
        tensors=len(full.tensors),
        equal=len(tally.equal),
        sums=len(tally.sums),
        disputed=len(tally.disputed),
        unchecked=len(tally.unchecked),
        different=len(tally.different),
        left_out=dict(Counter(map(skip_kind, skipped))),
        reasons=sorted({t.reason for t in skipped if skip_kind(t) not in _NOT_INTERESTING})[:20],
        layers=len(full.layers),
        linear_calls=built.linear_calls,
        framework=_equals_framework(built, full),
    )


def dump_samples(built: BuiltModel, folder: Path, keep: Any) -> Store:
    """Dump a model over its samples, whole tensors or statistics alone."""
    arrays = {f"x{number}": values for number, values in enumerate(built.samples.values())}
    np.savez(folder / "samples.npz", **arrays)
    floats = sum(values.dtype.kind == "f" for values in built.samples.values())
    return cnatool.dump(
        built.path,
        folder / "samples.npz",
        folder / f"{keep}.zarr",
        inputs=dict(zip(built.samples, arrays, strict=True)),
        constants=dict(built.constants) or None,
        scale=1.0 if floats == 1 else None,
        keep=keep,
        statistics="abs_sum",
        batch_size=None if _fixed_batch(built) else BATCH,
        threads=1,
        # Every position is compared, also those that a mask calls padding.
        mask="none",
    )


def _fixed_batch(built: BuiltModel) -> int | None:
    """Return the number of samples that the model's file fixes."""
    model = onnx.load(built.path, load_external_data=False)
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.input}
    sizes = [shapes[name].dim[0].dim_value for name in built.samples if shapes[name].dim]
    return next((size for size in sizes if size), None)


def _refused(built: BuiltModel, row: Row, message: str) -> Row:
    """Complete the row of a model that is not dumped: who does not run it?"""
    outcome: Outcome
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(built.path, options, providers=["CPUExecutionProvider"])
        for count in {_fixed_batch(built)} - {None} or {BATCH, 1}:
            first = {name: values[:count] for name, values in built.samples.items()}
            session.run(None, first | dict(built.constants))
    except Exception as error:  # one class a status code, all straight below Exception
        # The campaign's limit of memory, rather than one of the runtime.
        outcome = "failed" if "bad_alloc" in str(error) else "runtime"
        return replace(row, outcome=outcome, message=_one_line(error))
    outcome = "no samples" if _NO_ROWS in message else "refused"
    return replace(row, outcome=outcome, message=_one_line(message))


def compare(built: BuiltModel, graph: Graph, full: Store, sums: Store) -> Tally:
    """Compare every stored tensor, run by run as the runtime saw the samples."""
    tally = Tally()
    split = full.splits[_SPLIT]
    stored_whole = [t for t in full.tensors if not t.varies and _is_stored(t)]
    whole = {t.name: split.activations(t.name)[:] for t in stored_whole}
    rows = len(next(iter(built.samples.values())))
    size = _fixed_batch(built) or BATCH
    totals = dict.fromkeys((t.name for t in full.tensors if t.name not in whole), 0.0)
    # The place of a sample in its batch, in the rows themselves, is 0 in the store.
    places = {t.name: t.index.places for t in full.tensors if t.varies and t.index}
    given: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(built.path).graph.initializer
    }
    given.update(built.constants)
    for start in range(0, rows, size):
        part = slice(start, min(start + size, rows))
        feeds = {name: values[part] for name, values in built.samples.items()}
        stored = {
            t.name: _in_type_of_graph(as_in_graph(whole[t.name][part], t), t) for t in stored_whole
        }
        for found in recompute(graph.model, given | feeds, stored, graph.inner):
            if found.name in totals:
                totals[found.name] += found.total
                if isinstance(found.value, np.ndarray) and places.get(found.name):
                    rows_first = np.atleast_2d(found.value.T).T
                    totals[found.name] -= rows_first[:, list(places[found.name])].sum()
            if found.name not in stored:
                continue
            if isinstance(found.value, np.ndarray):
                tally.compared.add(found.name)
                got = stored[found.name]
                text = describe_difference(got, found.value, found.operator, found.magnitude)
                if text and _is_disputed(graph, found.name, feeds | dict(built.constants), got):
                    tally.disputed.add(found.name)
                elif text:
                    tally.different.setdefault(found.name, f"{found.operator}: {text}")
            else:
                tally.unchecked.add(found.name)
    tally.unchecked |= whole.keys() - tally.compared
    if tally.unchecked and built.hooked is not None:
        hooked = built.hooked()
        tally.unchecked -= {name for name in tally.unchecked if _is_among(whole[name], hooked)}
    _compare_sums(full, sums, whole, totals, find_random_tensors(graph), tally)
    tally.disputed -= tally.different.keys()
    tally.unchecked -= tally.different.keys()
    tally.equal = whole.keys() - tally.different.keys() - tally.unchecked - tally.disputed
    return tally


def _is_stored(tensor: TensorRecord) -> bool:
    """Whether a full dump has the values of a tensor: scores of tokens are only counted."""
    return tensor.stored is not None or tensor.output is not None


def _compare_sums(
    full: Store,
    sums: Store,
    whole: Arrays,
    totals: Mapping[str, float],
    random: Collection[str],
    tally: Tally,
) -> None:
    """Compare the sums of both dumps with whole values, or with what was recomputed in all.

    What depends on random numbers has other values in the second dump.
    """
    # In between, the runtime keeps more digits than half precision has.
    half = any(t.onnx_type in _HALF or t.dtype in _HALF for t in full.tensors)
    part = _OF_HALF_SUMS if half else OF_SUMS
    for store in (full, sums):
        split = store.splits[_SPLIT]
        for tensor in store.tensors:
            name, got = tensor.name, split.statistics("sum")[:][:, tensor.number]
            text = None
            if name in random and store is sums:
                continue
            if name in whole:
                text = describe_sum_difference(got, whole[name], part)
            elif np.isfinite(totals.get(name, np.nan)):
                scale = split.statistics("abs_sum")[:][:, tensor.number].sum()
                if abs(got.sum() - totals[name]) > OF_SUMS * scale:
                    text = f"a sum of {got.sum()} over all samples instead of {totals[name]}"
                tally.sums.add(name)
            else:
                tally.unchecked.add(name)
            if text:
                tally.different.setdefault(name, f"{tensor.operator}, {tensor.kept}: {text}")
                tally.sums.discard(name)


def _is_disputed(
    graph: Graph, name: str, feeds: dict[str, NDArray[Any]], got: NDArray[Any]
) -> bool:
    """Whether ONNX Runtime, without the package and its optimisations, computes what is stored."""
    exposed = make_readable(graph.model, [name], {name: got.dtype.name}, graph.inner)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_external_initializers(
        [*graph.weights],
        [ort.OrtValue.ortvalue_from_numpy(each) for each in graph.weights.values()],
    )
    try:
        session = ort.InferenceSession(
            exposed.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        [value] = session.run([*exposed.outputs], feeds)
    except Exception:  # one class a status code, all straight below Exception
        return False
    return describe_difference(got, value.astype(got.dtype)) is None


def _in_type_of_graph(value: NDArray[Any], tensor: TensorRecord) -> NDArray[Any]:
    """Convert what was cast since NumPy lacks its type back to that type."""
    if tensor.onnx_type is None:
        return value
    names = {"float": "FLOAT", "double": "DOUBLE"}
    number = onnx.TensorProto.DataType.Value(names.get(tensor.onnx_type, tensor.onnx_type.upper()))
    return value.astype(helper.tensor_dtype_to_np_dtype(number))


def _is_among(value: NDArray[Any], candidates: Sequence[NDArray[Any]]) -> bool:
    return any(
        describe_difference(value.reshape(each.shape), each, magnitude=float(np.abs(each).max()))
        is None
        for each in candidates
        if each.size == value.size and each.size
    )


def _equals_framework(built: BuiltModel, full: Store) -> bool | None:
    """Compare the model's outputs with the framework's, which rounds otherwise at every depth."""
    if not built.outputs:
        return None
    split, names = full.splits[_SPLIT], [output.name for output in full.record.outputs]
    declared = [
        value.name for value in onnx.load(built.path, load_external_data=False).graph.output
    ]
    for name, expected in zip(declared, built.outputs, strict=False):
        if name not in names:
            continue
        got = split.outputs(names.index(name))[:]
        if got.shape != expected.shape:
            return False
        error = np.abs(got.astype(np.float64) - expected).max(initial=0.0)
        if not error <= 1e-2 * np.abs(expected).max(initial=0.0):
            return False
    return True


def _one_line(error: object) -> str:
    text = _NOISE.sub("", " ".join(str(error).split())) or "no message"
    name = "" if isinstance(error, str | CnatoolError) else f"{type(error).__name__}: "
    return f"{name}{text}"[:300]
