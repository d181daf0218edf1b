"""Train a small convolutional network on CIFAR-10, and compare PyTorch's numbers with cnatool's.

Reads images from Parquet as dataset hubs write it: ``CIFAR/train.parquet`` and ``test.parquet``
with the columns ``image`` (a struct with ``bytes``) and ``label``. PyTorch computes accuracy and
mean loss of both splits; ``cnatool dump`` and ``cnatool score`` process the exported network over
the same files, and both are printed side by side. Needs PyTorch. Writes ``OUTPUT/cifar10.onnx``
and ``OUTPUT/cifar10.zarr``.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

BATCH = 128
# Of the training images, by channel, scaled so that 255 is 1.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def read_images(path: Path, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the first images, (n, 32, 32, 3), and their labels."""
    frame = pl.read_parquet(path, n_rows=limit)
    images = [
        np.asarray(Image.open(io.BytesIO(content)))
        for content in frame["image"].struct.field("bytes")
    ]
    return np.stack(images), frame["label"].to_numpy()


def prepare(images: NDArray[np.uint8]) -> torch.Tensor:
    """Convert images to the input of the network, (n, 3, 32, 32)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def build_network() -> nn.Sequential:
    """Build four convolutions with batch normalisation, and a linear layer on channel means."""
    layers: list[nn.Module] = []
    for channels, wider, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)):
        layers += [
            nn.Conv2d(channels, wider, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(network: nn.Module, x: NDArray[np.uint8], y: torch.Tensor, epochs: int) -> None:
    """Train with Adam; the learning rate decays to 0."""
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(prepare(x[rows.numpy()])), y[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss of the last batch {loss.item():.4f}")
    network.eval()


@torch.no_grad()
def evaluate(network: nn.Module, x: NDArray[np.uint8], y: torch.Tensor) -> tuple[float, float]:
    """Compute accuracy and mean cross-entropy."""
    logits = torch.cat([network(prepare(part)) for part in np.split(x, range(500, len(x), 500))])
    accuracy = int((logits.argmax(1) == y).sum()) / len(y)
    return accuracy, float(nn.functional.cross_entropy(logits.double(), y))


def export(network: nn.Module, path: Path) -> None:
    """Export with a free batch axis, the weights inside the file."""
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 32, 32),),
        path,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def cnatool(*words: object) -> str:
    """Run a command of cnatool and return its output; its notes go to the terminal."""
    command = [sys.executable, "-m", "cnatool", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Train, export, dump, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cifar", type=Path, help="folder with train.parquet and test.parquet")
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use only the first images of each split")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model, store = options.output / "cifar10.onnx", options.output / "cifar10.zarr"

    torch.manual_seed(options.seed)
    network = build_network()
    theirs = {}
    for split in ("train", "test"):
        x, labels = read_images(options.cifar / f"{split}.parquet", options.limit)
        y = torch.from_numpy(labels)
        if split == "train":
            train(network, x, y, options.epochs)
        theirs[split] = evaluate(network, x, y)
    export(network, model)

    words = ["--split", f"train={options.cifar / 'train.parquet'}"]
    words += ["--split", f"test={options.cifar / 'test.parquet'}", "--keep", "statistics"]
    words += ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
    words += ["--limit", str(options.limit)] if options.limit else []
    cnatool("dump", model, *words, "-o", store, "--overwrite")
    score = json.loads(cnatool("score", store, "--json"))

    print(f"\n{'':16}{'PyTorch':>20}{'cnatool':>20}")
    for split, (accuracy, loss) in theirs.items():
        ours = score["splits"][split]
        print(f"{split + ' accuracy':16}{accuracy!r:>20}{ours['accuracy']!r:>20}")
        print(f"{split + ' loss':16}{loss:20.12f}{ours['loss']:20.12f}")
        print(f"{split + ' CNA':16}{'':20}{ours['cna']['value']:20.4f}")


if __name__ == "__main__":
    main()
