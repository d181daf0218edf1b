"""Networks of Keras: the smallest of each family of its applications, and layers of their own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from zoo.case import BuiltModel, Case

SOURCE = "keras"
_SAMPLES, _CLASSES = 3, 10
# By family: the smallest application, and the least side of its images.
_APPLICATIONS = {
    "convnext": ("ConvNeXtTiny", 32),
    "densenet": ("DenseNet121", 32),
    "efficientnet": ("EfficientNetB0", 32),
    "efficientnet_v2": ("EfficientNetV2B0", 32),
    "inception_resnet_v2": ("InceptionResNetV2", 75),
    "inception_v3": ("InceptionV3", 75),
    "mobilenet": ("MobileNet", 32),
    "mobilenet_v2": ("MobileNetV2", 32),
    "mobilenet_v3": ("MobileNetV3Small", 32),
    "nasnet": ("NASNetMobile", 32),
    "resnet": ("ResNet50", 32),
    "resnet_v2": ("ResNet50V2", 32),
    "vgg16": ("VGG16", 32),
    "xception": ("Xception", 71),
}
_SERIES, _IMAGE, _VOLUME = (8, 6), (12, 12, 4), (6, 6, 6, 2)
# By name: the shape of a sample, and layers of which each reads the last one's result.
_Layers = Callable[[Any], list[Any]]
_STACKS: dict[str, tuple[tuple[int, ...], _Layers]] = {
    "bidirectional": (_SERIES, lambda k: [k.Bidirectional(k.LSTM(5)), k.Dense(3)]),
    "conv1d": (_SERIES, lambda k: [k.Conv1D(5, 3, activation="relu"), k.Conv1D(4, 3, groups=1)]),
    "conv1d_causal": (_SERIES, lambda k: [k.Conv1D(5, 3, padding="causal", dilation_rate=2)]),
    "conv1d_transpose": (_SERIES, lambda k: [k.Conv1DTranspose(4, 3, strides=2), k.Dense(3)]),
    "conv2d_grouped": (_IMAGE, lambda k: [k.Conv2D(8, 3, groups=2, activation="gelu")]),
    "conv2d_transpose": (
        _IMAGE,
        lambda k: [k.Conv2DTranspose(5, 3, strides=2), k.BatchNormalization(), k.ReLU()],
    ),
    "conv3d": (_VOLUME, lambda k: [k.Conv3D(4, 3, activation="elu"), k.Flatten(), k.Dense(3)]),
    "conv3d_transpose": (_VOLUME, lambda k: [k.Conv3DTranspose(3, 3), k.LeakyReLU()]),
    "conv_lstm": ((3, 6, 6, 2), lambda k: [k.ConvLSTM2D(3, 3), k.Flatten(), k.Dense(3)]),
    "depthwise": (
        _IMAGE,
        lambda k: [k.DepthwiseConv2D(3), k.LayerNormalization(), k.Conv2D(4, 1), k.ReLU()],
    ),
    "depthwise1d": (_SERIES, lambda k: [k.DepthwiseConv1D(3, activation="silu")]),
    "einsum_dense": (
        _SERIES,
        lambda k: [k.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), k.ReLU()],
    ),
    "gru": (_SERIES, lambda k: [k.GRU(5, return_sequences=True), k.GRU(4), k.Dense(3)]),
    "gru_reset_before": (_SERIES, lambda k: [k.GRU(5, reset_after=False), k.Dense(3)]),
    "group_normalization": (_IMAGE, lambda k: [k.Conv2D(8, 3), k.GroupNormalization(4), k.ReLU()]),
    "lstm": (_SERIES, lambda k: [k.LSTM(5, return_sequences=True), k.LSTM(4), k.Dense(3)]),
    "lstm_unrolled": (_SERIES, lambda k: [k.LSTM(5, unroll=True), k.Dense(3)]),
    "masked_lstm": (_SERIES, lambda k: [k.Masking(), k.LSTM(5), k.Dense(3)]),
    "mlp": ((7,), lambda k: [k.Dense(9, activation="selu"), k.Dense(3, activation="softmax")]),
    "pooling": (
        _IMAGE,
        lambda k: [
            k.Conv2D(5, 3),
            k.MaxPooling2D(),
            k.AveragePooling2D(2),
            k.Flatten(),
            k.Dense(3),
        ],
    ),
    "prelu": (_IMAGE, lambda k: [k.Conv2D(5, 3), k.PReLU(shared_axes=[1, 2]), k.Dense(4)]),
    "rms_normalization": (_SERIES, lambda k: [k.Dense(8), k.RMSNormalization(), k.ReLU()]),
    "separable": (_IMAGE, lambda k: [k.SeparableConv2D(6, 3), k.ReLU(), k.SeparableConv2D(4, 3)]),
    "simple_rnn": (_SERIES, lambda k: [k.SimpleRNN(5), k.Dense(3)]),
    "time_distributed": (_SERIES, lambda k: [k.TimeDistributed(k.Dense(4)), k.Flatten()]),
    "unit_normalization": (_SERIES, lambda k: [k.Dense(8), k.UnitNormalization(), k.Dense(3)]),
    "upsampling": (_IMAGE, lambda k: [k.Conv2D(5, 3), k.UpSampling2D(), k.Conv2D(3, 3)]),
    "zero_padding": (_IMAGE, lambda k: [k.ZeroPadding2D(2), k.Conv2D(5, 3), k.Cropping2D(1)]),
}


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return "keras", "tensorflow_cpu", "tf2onnx"


def list_cases() -> Iterator[Case]:
    """List the stacks of layers, then the applications."""
    for name, (shape, layers) in _STACKS.items():
        yield Case(SOURCE, f"layers {name}", name, "tf2onnx", partial(_stack, shape, layers))
    for family, (name, side) in _APPLICATIONS.items():
        yield Case(SOURCE, family, name, "tf2onnx", partial(_apply, name, side))


def _import_keras() -> Any:
    """Import Keras over TensorFlow; only the process of a case may start its threads."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    import keras

    keras.utils.set_random_seed(3)
    return keras


def _stack(shape: tuple[int, ...], layers: _Layers, folder: Path) -> BuiltModel:
    keras = _import_keras()
    network = keras.Sequential([keras.Input(shape), *layers(keras.layers)])
    return _export(network, shape, folder)


def _apply(name: str, side: int, folder: Path) -> BuiltModel:
    keras = _import_keras()
    shape = (side, side, 3)
    make = getattr(keras.applications, name)
    network = make(weights=None, input_shape=shape, classes=_CLASSES)
    return _export(network, shape, folder)


def _export(network: Any, shape: tuple[int, ...], folder: Path) -> BuiltModel:
    rng = np.random.default_rng(0)
    for weight in network.weights:
        value = weight.numpy()
        if value.size > 1 and (value == value.flat[0]).all():
            weight.assign(value + rng.uniform(-0.1, 0.1, value.shape).astype(value.dtype))
    x = rng.normal(size=(_SAMPLES, *shape)).astype(np.float32)
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x, training=False).numpy()
        network.export(str(path), format="onnx", verbose=False)
    given = onnx.load(path, load_external_data=False).graph.input[0].name
    return BuiltModel(path, {given: x}, outputs=[expected])
