"""Every tensor of a model as ONNX's reference evaluator computes it, and when two are equal."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator


def every_value(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Give every tensor of the main graph by name, inputs and initializers included."""
    # The evaluator is NumPy code: it divides by zero wherever the model does.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return dict(ReferenceEvaluator(model).run(None, feeds, intermediate=True))


def made_values(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Compute every tensor that a node of the main graph makes, by name."""
    values = every_value(model, feeds)
    return {name: values[name] for node in model.graph.node for name in node.output if name}


def difference(got: Any, expected: Any, *, rtol: float = 1e-4, atol: float = 1e-5) -> str | None:
    """Say how two tensors differ; None where they are equal but for rounding."""
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return "another sequence"
        found = (difference(g, e, rtol=rtol, atol=atol) for g, e in zip(got, expected, strict=True))
        return next((text for text in found if text), None)
    if got is None or expected is None:
        return None if got is expected else f"{got!r} instead of {expected!r}"
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return f"shape {got.shape} instead of {expected.shape}"
    if got.dtype != expected.dtype:
        return f"dtype {got.dtype} instead of {expected.dtype}"
    if expected.dtype.kind not in "fc":
        same = np.array_equal(got, expected)
        return None if same else f"{np.sum(got != expected)} of {expected.size} elements differ"
    got, expected = got.astype(np.complex128), expected.astype(np.complex128)
    magnitudes = np.abs(expected[np.isfinite(expected)])
    slack = atol * max(1.0, float(magnitudes.max(initial=0.0)))
    with np.errstate(all="ignore"):
        close = np.isclose(got, expected, rtol=rtol, atol=slack, equal_nan=True)
        if close.all():
            return None
        worst = np.abs(got - expected)[~close]
    return f"{np.sum(~close)} of {expected.size} elements differ, by up to {np.max(worst):.3g}"
