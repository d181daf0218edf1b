"""Train a perceptron on MNIST, 784-500-500-500-10, and export it at several steps of training.

Needs PyTorch and MNIST's four IDX files. Writes ``OUTPUT/mnist-step<SSSSS>.onnx``.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

STEPS = (0, 20, 100, 400, 938, 2814, 9380)
BATCH = 64


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def export(network: nn.Module, path: Path) -> None:
    """Export with a free batch axis, the weights inside the file."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 784),),
        path,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def main() -> None:
    """Train with SGD without momentum, and export at each of `STEPS`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path, help="folder with train-images-idx3-ubyte.gz, …")
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pixels = read_idx(options.mnist / "train-images-idx3-ubyte.gz").reshape(-1, 784)
    x = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    y = torch.from_numpy(read_idx(options.mnist / "train-labels-idx1-ubyte.gz").astype(np.int64))
    torch.manual_seed(options.seed)
    layers: list[nn.Module] = []
    for fan_in in (784, 500, 500):
        layers += [nn.Linear(fan_in, 500), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(500, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    options.output.mkdir(parents=True, exist_ok=True)
    step = 0
    while True:
        for rows in torch.randperm(len(x)).split(BATCH):
            if step in STEPS:
                path = options.output / f"mnist-step{step:05d}.onnx"
                export(network, path)
                print(path)
            if step == STEPS[-1]:
                return
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1


if __name__ == "__main__":
    main()
