"""How much longer than plain ONNX Runtime inference does a dump of statistics take?

Both sides read the same gzipped IDX file, divide by 255, and run the same batches; the dump also
stores raw inputs, labels, ids, outputs and the sums of every tensor. Rounds take turns, so that a
machine whose speed drifts does not favour one side.
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
from networks import convnet, mlp, write_digits
from timing import compare

import cnatool

BATCH = 256


def plain_inference(model: Path, images: Path, shape: tuple[int, ...]) -> None:
    """Run the model over the pictures as a user would without any tool."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with gzip.open(images) as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, *shape)
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH].astype(np.float32) / np.float32(255)
        session.run(None, {session.get_inputs()[0].name: batch})


def dump_statistics(model: Path, images: Path, tensors: str, folder: Path) -> None:
    """Dump into a store that is not there yet."""
    store = folder / f"{uuid4()}.zarr"
    cnatool.dump(model, images, store, keep="statistics", tensors=tensors, batch_size=BATCH)


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_digits(folder, options.rows)
        for title, model, shape in (
            ("MLP 784-500-500-500-10", mlp(folder / "mlp.onnx"), (784,)),
            ("convnet 16-32-64", convnet(folder / "convnet.onnx"), (1, 28, 28)),
        ):
            for tensors in ("all", "layers"):
                dump = partial(dump_statistics, model, images, tensors, folder)
                compare(
                    f"{title}, sums of {tensors}",
                    ("plain inference", partial(plain_inference, model, images, shape)),
                    ("dump", dump),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
