"""Export a network from Keras in two ways, and compare each with Keras itself.

Trains a small residual network on the digits that ship with cnatool, records it, exports it with
``model.export`` and with tf2onnx, dumps and scores each, and compares each with the recording.
Needs TensorFlow and tf2onnx. Writes ``OUTPUT/keras.zarr``, ``OUTPUT/<recipe>.onnx`` and
``OUTPUT/<recipe>.zarr``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from recipes import DIGITS, dump_and_compare, read_batches

from cnatool.recorders.keras import record


def build_network() -> Any:
    """Build a convolution, a residual block, and a linear layer on the channels' means."""
    layers = keras.layers
    image = keras.Input((8, 8))
    x = layers.Reshape((8, 8, 1))(image)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name="one")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="one_bn")(y))
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name="two")(y)
    x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization(name="two_bn")(y)]))
    return keras.Model(image, layers.Dense(10, name="classes")(layers.GlobalAveragePooling2D()(x)))


def prepare(raw: Any) -> Any:
    """Convert raw images to the input of the network, as the dump does."""
    return raw.astype(np.float32) / np.float32(255)


def main() -> None:
    """Train, record, export, dump, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    model = build_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    data = np.load(DIGITS / "train.npz")
    model.fit(prepare(data["x"]), data["y"], batch_size=64, epochs=options.epochs, verbose=0)
    recorded = options.output / "keras.zarr"
    record(model, recorded, read_batches(), prepare=prepare, keep="activations", overwrite=True)

    path = options.output / "keras-export.onnx"
    model.export(str(path), format="onnx", verbose=False)
    dump_and_compare(path, recorded)

    path = options.output / "keras-tf2onnx.onnx"
    inputs = [tf.TensorSpec((None, 8, 8), tf.float32, name="pictures")]
    call = tf.function(lambda x: model(x, training=False), input_signature=inputs)
    tf2onnx.convert.from_function(call, inputs, output_path=str(path))
    dump_and_compare(path, recorded)


if __name__ == "__main__":
    main()
