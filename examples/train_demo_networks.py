"""Train the small networks of `cnatool demo` on its digits, and export them at several epochs.

There are four runs. Three train the same perceptron, with SGD, with Adam, and with SGD on labels
half of which are random; the fourth trains a small convolutional network. The seeds are 0, 1, 2 and
3 in this order: neither they nor the networks were chosen by their scores. On the same machine with
the same PyTorch, the weights are the same each time.

    python examples/train_demo_networks.py [--output FOLDER] [--until EPOCH] [--seed FIRST]
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATA = Path(__file__).parents[1] / "cnatool" / "demo" / "data"
EPOCHS = (0, 1, 2, 3, 5, 8, 12, 20, 40)  # 0 is the network before training
BATCH = 64
CLASSES = 10
OPSET = 18


def build_perceptron() -> nn.Module:
    """Build three hidden layers of 48 units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, CLASSES),
    )


def build_convnet() -> nn.Module:
    """Build three convolutions, the first two followed by pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def make_sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def make_adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make Adam with its default step."""
    return torch.optim.Adam(parameters, lr=1e-3)


@dataclass(frozen=True)
class Run:
    """A network, its optimizer, and the share of its training labels that are random."""

    network: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    random_labels: float = 0.0


RUNS = {
    "sgd": Run(build_perceptron, make_sgd),
    "adam": Run(build_perceptron, make_adam),
    "noisy-labels": Run(build_perceptron, make_sgd, random_labels=0.5),
    "conv": Run(build_convnet, make_adam),
}


def train(name: str, run: Run, seed: int, folder: Path, until: int) -> None:
    """Train one run and export it as ``<name>-epoch<EEE>.onnx`` at each of `EPOCHS`.

    `seed` decides initial weights, order of samples and random labels; `until` is the last epoch.
    """
    torch.manual_seed(seed)
    network = run.network()
    inputs, labels = read_digits()
    labels = randomise_labels(labels, run.random_labels)
    optimizer = run.optimizer(network.parameters())
    for epoch in range(until + 1):
        if epoch:
            train_epoch(network, optimizer, inputs, labels)
        if epoch in EPOCHS:
            export(network, folder / f"{name}-epoch{epoch:03}.onnx")


def read_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Read the training images as `cnatool dump` feeds them, divided by 255, and their labels."""
    with np.load(DATA / "digits" / "train.npz", allow_pickle=False) as arrays:
        inputs = torch.from_numpy(arrays["x"]).unsqueeze(1).float() / 255
        return inputs, torch.from_numpy(arrays["y"])


def randomise_labels(labels: torch.Tensor, share: float) -> torch.Tensor:
    """Replace this share of the labels by random ones from all classes."""
    replaced = torch.randperm(len(labels))[: round(share * len(labels))]
    labels = labels.clone()
    labels[replaced] = torch.randint(CLASSES, replaced.shape)
    return labels


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """Train on all samples once, in random order."""
    network.train()
    for rows in torch.randperm(len(inputs)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[rows]), labels[rows]).backward()
        optimizer.step()


def export(network: nn.Module, path: Path) -> None:
    """Write a network as one ONNX file with a free batch axis."""
    network.eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["pictures"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    # The exporter records the source line of each node, with a path of this machine.
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the networks of `cnatool demo`.")
    parser.add_argument("--output", type=Path, default=DATA / "networks", metavar="FOLDER")
    parser.add_argument("--until", type=int, default=EPOCHS[-1], metavar="EPOCH")
    parser.add_argument("--seed", type=int, default=0, metavar="FIRST")
    arguments = parser.parse_args()
    # Sums in another order round differently, so several threads would vary the weights.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Otherwise each export reports that torchvision, which is not needed, is missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    arguments.output.mkdir(parents=True, exist_ok=True)
    # One seed per run: otherwise, the perceptrons would be the same network at epoch 0.
    for seed, (name, run) in enumerate(RUNS.items(), arguments.seed):
        train(name, run, seed, arguments.output, arguments.until)
        print(name)


if __name__ == "__main__":
    main()
