"""Train the small networks of `cnatool demo` on its digits, and export them at several epochs.

Four runs. Three are the same perceptron, trained by SGD, by Adam, and by SGD on labels half of
which are drawn at random; the fourth is a small convolutional network. The seeds are 0, 1, 2 and 3
in this order: neither they nor the networks were chosen by what they score. On the same machine
with the same PyTorch, the weights are the same each time.

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


def perceptron() -> nn.Module:
    """Three hidden layers of 48."""
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


def convolutional() -> nn.Module:
    """Three convolutions, the first two followed by pooling."""
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


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam with its usual step."""
    return torch.optim.Adam(parameters, lr=1e-3)


@dataclass(frozen=True)
class Run:
    """A network, what trains it, and the share of its training labels drawn at random."""

    network: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    random_labels: float = 0.0


RUNS = {
    "sgd": Run(perceptron, sgd),
    "adam": Run(perceptron, adam),
    "noisy-labels": Run(perceptron, sgd, random_labels=0.5),
    "conv": Run(convolutional, adam),
}


def train(name: str, run: Run, seed: int, folder: Path, until: int) -> None:
    """Train one run and export it at each of `EPOCHS` up to `until`.

    Parameters
    ----------
    name : str
        Of the run, and so of the files: ``<name>-epoch<EEE>.onnx``.
    run : Run
        What to train.
    seed : int
        Of everything random: first weights, order of samples, labels.
    folder : Path
        Where the files go.
    until : int
        The last epoch.
    """
    torch.manual_seed(seed)
    network = run.network()
    inputs, labels = digits()
    labels = with_random_labels(labels, run.random_labels)
    optimizer = run.optimizer(network.parameters())
    for epoch in range(until + 1):
        if epoch:
            one_epoch(network, optimizer, inputs, labels)
        if epoch in EPOCHS:
            export(network, folder / f"{name}-epoch{epoch:03}.onnx")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Give the training pictures as `cnatool dump` feeds them, divided by 255, and their labels."""
    with np.load(DATA / "digits" / "train.npz", allow_pickle=False) as arrays:
        inputs = torch.from_numpy(arrays["x"]).unsqueeze(1).float() / 255
        return inputs, torch.from_numpy(arrays["y"])


def with_random_labels(labels: torch.Tensor, share: float) -> torch.Tensor:
    """Draw this share of the labels anew from all classes, the right one among them."""
    replaced = torch.randperm(len(labels))[: round(share * len(labels))]
    labels = labels.clone()
    labels[replaced] = torch.randint(CLASSES, replaced.shape)
    return labels


def one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """Go through all samples once, in a new order."""
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
    # The exporter notes beside each node which source line it came from, with the path of the
    # machine that trained it.
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
    # Sums in another order round differently: one thread makes the weights the same each time.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Else each export reports that torchvision, which is not needed, is not there.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    arguments.output.mkdir(parents=True, exist_ok=True)
    # A seed a run: with one for all, the perceptrons would be one network at epoch 0.
    for seed, (name, run) in enumerate(RUNS.items(), arguments.seed):
        train(name, run, seed, arguments.output, arguments.until)
        print(name)


if __name__ == "__main__":
    main()
