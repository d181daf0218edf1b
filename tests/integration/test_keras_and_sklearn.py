"""Layers of networks from Keras and scikit-learn, against what those compute themselves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from support.command import run
from support.layer_truth import Truth, assert_layers, dumped
from support.peers import keras_of_tests

import cnatool

ROWS = 5


@pytest.fixture
def keras() -> Any:
    return keras_of_tests("tf2onnx")


# What exporters warn of is theirs; what comes out is compared.
@pytest.mark.filterwarnings("ignore")
def test_keras_convolutions(keras: Any, tmp_path: Path) -> None:
    use = keras.layers
    image = keras.Input((8, 8, 2))
    c1 = use.Conv2D(4, 3, padding="same", name="c1")(image)
    b1 = use.BatchNormalization(name="b1")(c1)
    relu = use.ReLU()(b1)
    dw = use.DepthwiseConv2D(3, padding="same", name="dw")(relu)
    pw = use.Conv2D(4, 1, use_bias=False, name="pw")(use.ReLU(6.0)(dw))
    total = use.Add()([relu, use.Activation("hard_sigmoid")(pw)])
    up = use.Conv2DTranspose(3, 3, strides=2, padding="same", name="up")(total)
    c2 = use.Conv2D(4, 3, strides=3, name="c2")(use.Activation("silu")(up))
    n2 = use.LayerNormalization(name="n2")(c2)
    flat = use.Flatten()(use.Activation("hard_silu")(n2))
    f1 = use.Dense(7, name="f1")(flat)
    f2 = use.Dense(5, name="f2")(use.Activation("elu")(f1))
    model = keras.Model(image, use.Activation("softmax")(f2))
    tensors = [c1, b1, dw, pw, up, c2, n2, f1, f2]
    x, (c1, b1, dw, pw, up, c2, n2, f1, f2) = _run(keras, model, tensors)
    store = dumped(_exported(model, tmp_path), x, tmp_path / "dump")
    assert_layers(
        store,
        [
            Truth("c1", c1, b1, 1),
            Truth("dw", dw, dw, 2),
            Truth("pw", pw, pw, 3),
            Truth("up", up, up, 4),
            Truth("c2", c2, n2, 5),
            Truth("f1", f1, f1, 6),
            Truth("f2", f2, f2, 7, output=True),
        ],
    )


@pytest.mark.filterwarnings("ignore")
def test_keras_attention_and_recurrence(keras: Any, tmp_path: Path) -> None:
    use = keras.layers
    tokens = keras.Input((6, 8))
    attention = use.MultiHeadAttention(2, 3, name="attention")
    total = use.Add()([attention(tokens, tokens), tokens])
    normal = use.LayerNormalization()(total)
    up = use.Dense(9, name="up")(normal)
    down = use.Dense(8, use_bias=False, name="down")(use.Activation("silu")(up))
    scaled = use.LayerNormalization()(down)
    state = use.LSTM(4)(use.ReLU()(scaled))
    last = use.Dense(1, name="last")(state)
    model = keras.Model(tokens, use.Activation("sigmoid")(last))
    x, (up, down, scaled, last) = _run(keras, model, [up, down, scaled, last])
    q, k, v = (
        layer(x).numpy()
        for layer in (attention.query_dense, attention.key_dense, attention.value_dense)
    )
    mixed = attention(x, x).numpy()
    store = dumped(_exported(model, tmp_path), x, tmp_path / "dump")
    (split,) = store.splits.values()
    parallel = [split.activations(record.linear)[:] for record in store.layers[:3]]
    assert_layers(
        store,
        [
            # in whatever order the exporter put them
            *[Truth("q, k, v", *_nearest(stored, [q, k, v]), 1) for stored in parallel],
            Truth("attention", mixed, mixed, 2),
            Truth("up", up, up, 3),
            Truth("down", down, scaled, 4),
            Truth("last", last, last, 5, output=True),
        ],
    )
    assert len({_nearest(stored, [q, k, v])[0].sum() for stored in parallel}) == 3


@pytest.mark.parametrize("classes", [2, 3])
def test_sklearn_classifier(classes: int, tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPClassifier((8, 7), max_iter=3, random_state=0).fit(
            x, rng.integers(0, classes, 60)
        )
    path = tmp_path / "model.onnx"
    exported = skl2onnx.to_onnx(network, x[:1], options={"zipmap": False})
    path.write_bytes(exported.SerializeToString())
    values, truths = x, []
    for depth, (w, b) in enumerate(zip(network.coefs_, network.intercepts_, strict=True), start=1):
        z = values @ w + b
        truths.append(Truth(f"layer {depth}", z, z, depth, output=depth == 3))
        values = np.maximum(z, 0)
    store = dumped(path, x, tmp_path / "dump")
    assert_layers(store, truths)
    roles = {tensor.name: tensor.role for tensor in store.tensors}
    assert roles["probabilities"] == "output"


def test_sklearn_probabilities_behind_a_zipmap(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 6), np.float32), rng.integers(0, 3, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPClassifier((8, 7), max_iter=3, random_state=0).fit(x, y)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    for options in ({}, {"zipmap": False}):
        exported = skl2onnx.to_onnx(network, x[:1], options=options)
        (tmp_path / "model.onnx").write_bytes(exported.SerializeToString())
        cnatool.dump(
            tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "s.zarr", overwrite=True
        )
        scored = run("score", tmp_path / "s.zarr")
        hidden = "export it from scikit-learn with zipmap=False" in scored.stdout
        assert hidden == (not options)


def _run(keras: Any, model: Any, tensors: list[Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Give every one-dimensional weight a value of its own, and run a model on samples."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        offset = 0.0 if weight.name in ("beta", "bias", "moving_mean") else 1.0
        if weight.name in ("beta", "bias", "gamma", "moving_mean", "moving_variance"):
            weight.assign(np.abs(offset + rng.normal(0, 0.3, weight.shape)))
    x = rng.normal(size=(ROWS, *model.input_shape[1:])).astype(np.float32)
    model(x)
    seen = keras.Model(model.input, tensors)(x)
    return x, [tensor.numpy() for tensor in seen]


def _exported(model: Any, folder: Path) -> Path:
    path = folder / "model.onnx"
    model.export(str(path), format="onnx", verbose=False)
    return path


def _nearest(stored: np.ndarray, among: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Give the array closest to what is stored, as both of a layer's tensors."""
    arrays = [array.reshape(stored.shape) for array in among]
    nearest = min(arrays, key=lambda array: float(np.abs(array - stored).max()))
    return nearest, nearest
