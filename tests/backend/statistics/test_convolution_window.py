"""Sums of random convolutions by their windows, against ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cnatool.backend.statistics.convolution_window import read_window, sum_kernel


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_sums_of_convolutions(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    small = st.integers(1, 3)
    group, size = data.draw(small), (data.draw(small), data.draw(small))
    x = rng.normal(size=(2, group * data.draw(small), *rng.integers(1, 9, 2)))
    kernel = rng.normal(size=(group * data.draw(small), x.shape[1] // group, *size))
    options: dict[str, object] = {"group": group}
    padding = data.draw(st.sampled_from(["pads", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding == "pads":
        options["pads"] = [data.draw(st.integers(0, 2)) for _ in range(4)]
    else:
        options["auto_pad"] = padding
    if data.draw(st.booleans()):
        options["strides"] = [data.draw(small), data.draw(small)]
    # The evaluator pads for a dilated kernel as for one that is not.
    if not padding.startswith("SAME") and data.draw(st.booleans()):
        options["dilations"] = [data.draw(small), data.draw(small)]
    gaps = options.get("dilations", [1, 1])
    pads = options.get("pads", [0] * 4)
    assume(
        padding.startswith("SAME")
        or all(
            x.shape[2 + i] + pads[i] + pads[i + 2] > (size[i] - 1) * gaps[i]  # type: ignore[index]
            for i in range(2)
        )
    )
    node = helper.make_node("Conv", ["x", "k"], ["y"], **options)
    kind = onnx.TensorProto.DOUBLE
    values = [helper.make_tensor_value_info(name, kind, None) for name in ("x", "k", "y")]
    model = helper.make_model(helper.make_graph([node], "conv", values[:2], values[2:]))
    (made,) = ReferenceEvaluator(model).run(None, {"x": x, "k": kernel})
    weights = rng.normal(size=len(kernel))
    window = read_window(node, kernel.shape, x.shape[1:], made.shape[1:])
    elements = window.spread_taps(sum_kernel(kernel, weights, window.group))
    found = (x * elements).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, made.sum(axis=(2, 3)) @ weights, rtol=1e-9, atol=1e-9)
    if window.meets_each_once:
        channels = sum_kernel(kernel, weights, window.group)[:, 0, 0]
        np.testing.assert_allclose(x.sum(axis=(2, 3)) @ channels, found, rtol=1e-9, atol=1e-9)
