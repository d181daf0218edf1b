"""Nodes with bodies that leave out results, behind which others are handed out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import cnatool

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] z) {
    k = Constant <value = int64 {3}> ()
    go = Constant <value = bool {1}> ()
    y, spare = Loop (k, go, x) <body = b (int64 i, bool on, float[N, 4] h)
        => (bool still, float[N, 4] new, float[N, 4] square) {
        still = Identity (on)
        new = Tanh (h)
        square = Mul (new, new)
        sum = Add (square, new)
        other = Neg (sum)
    }>
    z = Relu (y)
}"""


@pytest.mark.parametrize("keep", ["full", "statistics"])
@pytest.mark.parametrize("left", ["empty", "missing"])
def test_a_loop_that_leaves_out_its_last_result(tmp_path: Path, keep: str, left: str) -> None:
    model = onnx.parser.parse_model(TEXT)
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    loop.output[1:] = [""] if left == "empty" else []
    onnx.save(model, tmp_path / "model.onnx")
    samples = np.random.default_rng(0).random((7, 4), np.float32)
    np.save(tmp_path / "x.npy", samples)
    store = cnatool.dump(
        tmp_path / "model.onnx", tmp_path / "x.npy", tmp_path / "s.zarr", keep=keep, batch_size=3
    )
    new = [samples := np.tanh(samples) for _ in range(3)]
    expected = np.stack([-(each * each + each) for each in new], axis=1)
    (split,) = store.splits.values()
    number = store.tensor("y/body/other").number
    sums = split.statistics("sum")[:][:, number]
    np.testing.assert_allclose(sums, expected.sum(axis=(1, 2), dtype=np.float64), rtol=1e-5)
    if keep == "full":
        np.testing.assert_allclose(split.activations("y/body/other")[:], expected, rtol=1e-5)
