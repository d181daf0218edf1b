"""How much longer than plain ONNX Runtime inference does a dump of statistics take?

Both read the same gzipped IDX file, divide by 255, and run the same batches; the dump also stores
raw inputs, labels, ids, outputs and the sums of every tensor. Rounds alternate, so that a machine
whose speed drifts favours neither.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnxruntime as ort
from networks import convnet, mlp, resnet18, write_digits
from timing import compare

import cnatool


def run_inference(model: Path, images: Path, shape: tuple[int, ...], size: int) -> None:
    """Run the model over the images as a user would without any tool."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with gzip.open(images) as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, *shape)
    for start in range(0, len(pixels), size):
        batch = pixels[start : start + size].astype(np.float32) / np.float32(255)
        session.run(None, {session.get_inputs()[0].name: batch})


def dump_statistics(model: Path, images: Path, tensors: str, size: int, folder: Path) -> None:
    """Dump into a new store."""
    store = folder / f"{uuid4()}.zarr"
    cnatool.dump(model, images, store, keep="statistics", tensors=tensors, batch_size=size)


# Title, network, shape of a sample, images, and the batch that cnatool chooses by itself.
NETWORKS = (
    ("MLP 784-500-500-500-10", mlp, (784,), 60_000, 256),
    ("convnet 16-32-64", convnet, (1, 28, 28), 60_000, 32),
    ("ResNet-18", resnet18, (1, 28, 28), 2_560, 8),
)


def main() -> None:
    """Print one line per network and selection of tensors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for title, write, shape, rows, batch in NETWORKS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = write(folder / "model.onnx")
            images = write_digits(folder, rows)
            for tensors in ("all", "layers"):
                compare(
                    f"{title} over {rows} images, sums of {tensors}",
                    ("plain inference", partial(run_inference, model, images, shape, batch)),
                    ("dump", partial(dump_statistics, model, images, tensors, batch, folder)),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
