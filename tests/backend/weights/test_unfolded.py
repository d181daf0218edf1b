"""Scales that no layer's weights hold: with them, products of norms are of one spelling alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.networks import Builder, mlp, residual_convnet, saved

import cnatool
from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import measure_weights

SCALED = ("l2", "spectral", "bound_2018", "bound_2018_from_zero")


def convnet(factor: float) -> onnx.ModelProto:
    """Conv, Relu, BatchNormalization times ``factor``, Conv divided by it: one function for all."""
    rng = np.random.default_rng(4)
    b = Builder()
    conv = b.conv("x", "a", 1, 4, 3, bias=True)
    names = [b.node("Relu", [conv], "r")]
    for part, power in (("gain", 1), ("bias", 1), ("mean", 0), ("variance", 0)):
        value = rng.uniform(0.5, 2, 4) * factor**power
        names.append(b.constant(part, value.astype(np.float32)))
    b.node("BatchNormalization", names, "bn")
    kernel = rng.normal(size=(10, 4, 8, 8)) / factor
    b.node("Conv", ["bn", b.constant("k", kernel.astype(np.float32))], "c")
    b.node("Flatten", ["c"], "logits")
    return b.model({"x": ("n", 1, 8, 8)}, {"logits": ("n", 10)})


def test_one_function_has_no_two_products_of_norms(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(40, 1, 8, 8)).astype(np.float32)
    (tmp_path / "data").mkdir()
    outputs = []
    for number, factor in enumerate((1.0, 100.0)):
        path = saved(convnet(factor), tmp_path / f"{number}.onnx")
        outputs.append(onnxruntime.InferenceSession(path).run(None, {"x": x})[0])
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-4)
    # Labelled as the network says, so that γ is positive.
    np.savez(tmp_path / "data/train.npz", x=x, y=outputs[0].argmax(1))
    for number in range(2):
        store = tmp_path / f"{number}.zarr"
        cnatool.dump(tmp_path / f"{number}.onnx", tmp_path / "data", store)
        found = cnatool.score(
            store, overrides={"margin": "percentile", "include_output": True}
        ).baselines
        for name in SCALED[:2] + SCALED[3:]:
            assert getattr(found, name).value is None
            assert getattr(found, name).reason == (
                "BatchNormalization (tensor 'bn') scales the data and is folded into no layer, so "
                "that products of norms would leave it out"
            )
        assert found.bound_2018.value is None
        assert found.parameter_norm.value is not None
        assert found.l1.value is not None


def spelled(how: str) -> tuple[onnx.ModelProto, str | None]:
    """Return a network of two layers with something between, and the tensor that scales."""
    b = Builder()
    b.gemm("x", "a", 6, 6)
    gain = b.constant("gain", np.linspace(1, 2, 6, dtype=np.float32))
    two = b.constant("two", np.array(2, np.float32))
    r = "r"
    if how not in ("layer normalisation", "layer normalisation, written out", "folded"):
        b.node("Relu", ["a"], r)
    if how == "layer normalisation":
        b.node("LayerNormalization", ["a", gain], "s")
    elif how == "layer normalisation, written out":
        b.node("Sub", ["a", b.node("ReduceMean", ["a"], "m", axes=[-1])], "d")
        b.node("ReduceMean", [b.node("Mul", ["d", "d"], "dd")], "v", axes=[-1])
        eps = b.constant("eps", np.array(1e-5, np.float32))
        b.node("Sqrt", [b.node("Add", ["v", eps], "e")], "root")
        b.node("Div", ["d", "root"], "s")
    elif how == "length":
        b.node("ReduceL2", [r], "length", axes=[1])
        b.node("Div", [r, b.node("Max", ["length", two], "some")], "s")
    elif how == "factor":
        b.node("Mul", [gain, r], "s")
    elif how == "computed factor":
        b.node("Div", [r, b.node("Sqrt", [two], "root")], "s")
    elif how == "elementwise einsum":
        b.node("Einsum", [r, gain], "s", equation="ni,i->ni")
    elif how == "two readers":
        b.node("Add", [b.node("Mul", ["a", gain], "s"), "a"], "t")
    elif how == "ones":
        b.node("Mul", [r, b.constant("ones", np.ones((1, 6), np.float32))], "s")
    elif how == "folded":
        b.node("Relu", [b.node("Mul", ["a", gain], "g")], "s")
    elif how == "shift":
        b.node("Add", [r, gain], "s")
    b.gemm("t" if how == "two readers" else "s", "y", 6, 3)
    harmless = how in ("ones", "folded", "shift")
    return b.model({"x": ("n", 6)}, {"y": ("n", 3)}), None if harmless else "s"


@pytest.mark.parametrize(
    "how",
    [
        "layer normalisation",
        "layer normalisation, written out",
        "length",
        "factor",
        "computed factor",
        "elementwise einsum",
        "two readers",
        "ones",
        "folded",
        "shift",
    ],
)
def test_what_scales_and_what_does_not(how: str, tmp_path: Path) -> None:
    model, scale = spelled(how)
    found = measure_weights(open_network(saved(model, tmp_path / "n.onnx")), [], (1, 6)).unfolded
    assert found is None if scale is None else f"(tensor {scale!r}) scales the data" in str(found)


def test_preprocessing_and_folded_scales_take_nothing_away(tmp_path: Path) -> None:
    b = Builder()
    b.node("Div", ["x", b.constant("c", np.array(255, np.float32))], "n")
    b.gemm(b.node("Relu", [b.gemm("n", "a", 6, 6)], "r"), "y", 6, 3)
    prepared = b.model({"x": ("n", 6)}, {"y": ("n", 3)})
    quantised = tmp_path / "quantised.onnx"
    quantize_dynamic(saved(mlp(), tmp_path / "f.onnx"), quantised, weight_type=QuantType.QInt8)
    for path, shape in (
        (saved(prepared, tmp_path / "p.onnx"), (1, 6)),
        (saved(residual_convnet(), tmp_path / "r.onnx"), (1, 1, 8, 8)),
        (quantised, (1, 64)),
    ):
        assert measure_weights(open_network(path), [], shape).unfolded is None
