"""The models with which the `onnx` package tests runtimes: single operators, and light networks.

The first floating-point input of a model takes the samples, which are the test's own; other inputs
become weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from zoo.case import BuiltModel, Case, NoSamplesError
from zoo.onnx_suite import DATA, KINDS, keep_one_input, read_case

SOURCE = "onnx_package"
_SAMPLES = 2


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return ()


def list_cases() -> Iterator[Case]:
    """List the models of each kind, as they are."""
    from onnx.backend.test.loader import load_model_tests

    for kind in KINDS:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            cases = load_model_tests(kind=kind)
        operators = {each.name: _single_operator(each) for each in cases}
        for case in sorted(cases, key=lambda case: case.name):
            # A function written out in nodes belongs to the operator that it defines.
            whole = case.name.partition("_expanded")[0]
            family = operators.get(whole) or whole.removeprefix("test_").partition("_")[0]
            yield Case(SOURCE, family, case.name, "as it is", partial(_build, case))
    for path in sorted((DATA / "light").glob("*.onnx")):
        family = path.stem.removeprefix("light_")
        yield Case(SOURCE, family, path.stem, "as it is", partial(_build_light, path))


def _single_operator(case: Any) -> str:
    """Return the operator of a model with a single node; nothing for others."""
    nodes = [] if case.model is None else case.model.graph.node
    return nodes[0].op_type if len(nodes) == 1 else ""


def _build(case: Any, folder: Path) -> BuiltModel:
    read = read_case(case)
    made = None if read is None else keep_one_input(read)
    if made is None:
        raise NoSamplesError("no input is an array of numbers with an axis for samples")
    model, chosen, samples = made
    path = folder / "model.onnx"
    onnx.save(model, path)
    return BuiltModel(path, {chosen: samples})


def _build_light(source: Path, folder: Path) -> BuiltModel:
    model = onnx.load(source)
    held = {tensor.name for tensor in model.graph.initializer}
    [given] = [value for value in model.graph.input if value.name not in held]
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    samples = np.random.default_rng(0).random((_SAMPLES, *shape[1:]), np.float32)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return BuiltModel(path, {given.name: samples})
