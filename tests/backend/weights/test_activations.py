"""Activations written out in several nodes measure as the operators that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.networks import Builder, saved

from cnatool.backend.network import open_network
from cnatool.backend.weights.weights import measure_weights


class Writer(Builder):
    def scalar(self, value: float) -> str:
        name = f"k{len(self.weights)}"
        return self.constant(name, np.float32(value))

    def apply(self, operator: str, *inputs: str | float, **attributes: object) -> str:
        names = [one if isinstance(one, str) else self.scalar(one) for one in inputs]
        return self.node(operator, names, f"t{len(self.nodes)}", **attributes)


def gelu_erf(w: Writer, x: str) -> str:
    inner = w.apply("Add", w.apply("Erf", w.apply("Div", x, math.sqrt(2))), 1.0)
    return w.apply("Mul", w.apply("Mul", x, inner), 0.5)


def gelu_halved_first(w: Writer, x: str) -> str:
    half = w.apply("Mul", 0.5, x)
    return w.apply("Mul", half, w.apply("Add", w.apply("Erf", w.apply("Mul", x, 0.5**0.5)), 1.0))


def gelu_tanh(w: Writer, x: str) -> str:
    inner = w.apply("Add", x, w.apply("Mul", 0.044715, w.apply("Pow", x, 3.0)))
    tanh = w.apply("Tanh", w.apply("Mul", inner, math.sqrt(2 / math.pi)))
    return w.apply("Mul", w.apply("Mul", x, 0.5), w.apply("Add", tanh, 1.0))


def quick_gelu(w: Writer, x: str) -> str:
    return w.apply("Mul", x, w.apply("Sigmoid", w.apply("Mul", x, 1.702)))


def silu(w: Writer, x: str) -> str:
    return w.apply("Mul", x, w.apply("Sigmoid", x))


def silu_by_exponential(w: Writer, x: str) -> str:
    return w.apply("Div", x, w.apply("Add", w.apply("Exp", w.apply("Mul", x, -1.0)), 1.0))


def hard_swish(w: Writer, x: str) -> str:
    gate = w.apply("Clip", w.apply("Add", x, 3.0), 0.0, 6.0)
    return w.apply("Div", w.apply("Mul", x, gate), 6.0)


def hard_swish_gated(w: Writer, x: str) -> str:
    gate = w.apply("Div", w.apply("Clip", w.apply("Add", x, 3.0), 0.0, 6.0), 6.0)
    return w.apply("Mul", x, gate)


def mish(w: Writer, x: str) -> str:
    softplus = w.apply("Log", w.apply("Add", w.apply("Exp", x), 1.0))
    return w.apply("Mul", x, w.apply("Tanh", softplus))


def leaky_relu(w: Writer, x: str) -> str:
    return w.apply("Max", x, w.apply("Mul", x, 0.1))


def leaky_relu_chosen(w: Writer, x: str) -> str:
    return w.apply("Where", w.apply("Greater", x, 0.0), x, w.apply("Mul", x, 0.3))


def elu(w: Writer, x: str) -> str:
    negative = w.apply("Mul", w.apply("Sub", w.apply("Exp", w.apply("Min", x, 0.0)), 1.0), 0.7)
    return w.apply("Add", w.apply("Relu", x), negative)


def half_of_a_gelu(w: Writer, x: str) -> str:
    return w.apply("Mul", gelu_erf(w, x), 0.5)


def scaled_relu(w: Writer, x: str) -> str:
    return w.apply("Mul", w.apply("Relu", x), 1.5)


def scaled_tanh(w: Writer, x: str) -> str:
    return w.apply("Mul", w.apply("Tanh", x), 1.7159)


def scaled_bypass(w: Writer, x: str) -> str:
    inner = w.apply("Relu", w.gemm(w.apply("Relu", x), "inner", 8, 8))
    return w.apply("Add", x, w.apply("Mul", inner, 0.1))


def measured(activation: Callable[[Writer, str], str], folder: Path) -> str | None:
    w = Writer()
    w.gemm("x", "first", 6, 8)
    w.gemm(activation(w, "first"), "second", 8, 4)
    model = w.model({"x": ("n", 6)}, {"second": ("n", 4)})
    return measure_weights(open_network(saved(model, folder / "n.onnx")), [], (1, 6)).unfolded


@pytest.mark.parametrize(
    "activation",
    [
        gelu_erf,
        gelu_halved_first,
        gelu_tanh,
        quick_gelu,
        silu,
        silu_by_exponential,
        hard_swish,
        hard_swish_gated,
        mish,
        leaky_relu,
        leaky_relu_chosen,
        elu,
    ],
)
def test_constants_of_an_activation_are_no_scales(
    activation: Callable[[Writer, str], str], tmp_path: Path
) -> None:
    assert measured(activation, tmp_path) is None


@pytest.mark.parametrize("activation", [half_of_a_gelu, scaled_relu, scaled_tanh, scaled_bypass])
def test_scales_of_an_activation_are(
    activation: Callable[[Writer, str], str], tmp_path: Path
) -> None:
    assert "scales the data" in (measured(activation, tmp_path) or "")
