"""How much longer than plain ONNX Runtime inference does a dump of statistics take?

Both sides read the same gzipped IDX file, divide by 255, and run the same batches; the dump also
stores raw inputs, labels, ids, outputs and the sums of every tensor. Rounds take turns, so that a
machine whose speed drifts does not favour one side.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from networks import convnet, mlp, write_digits

import cnatool

BATCH = 256


def plain_inference(model: Path, images: Path, shape: tuple[int, ...]) -> None:
    """Run the model over the pictures as a user would without any tool."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with gzip.open(images) as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, *shape)
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH].astype(np.float32) / np.float32(255)
        session.run(None, {"x": batch})


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_digits(folder, options.rows)
        store = folder / "dump.zarr"
        for title, model, shape in (
            ("MLP 784-500-500-500-10", mlp(folder / "mlp.onnx"), (784,)),
            ("convnet 16-32-64", convnet(folder / "convnet.onnx"), (1, 28, 28)),
        ):
            plain, dumped = [], []
            for _ in range(options.rounds):
                plain.append(seconds(lambda m=model, s=shape: plain_inference(m, images, s)))
                dumped.append(
                    seconds(
                        lambda m=model: cnatool.dump(
                            m, images, store, keep="statistics", batch_size=BATCH, overwrite=True
                        )
                    )
                )
            ratios = [d / p for p, d in zip(plain, dumped, strict=True)]
            print(
                f"{title}: plain inference {statistics.median(plain):.2f} s, dump of statistics "
                f"{statistics.median(dumped):.2f} s, ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
