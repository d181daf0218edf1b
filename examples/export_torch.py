"""Export a network from PyTorch in several ways, and compare each with PyTorch itself.

Trains a small residual network on the digits that ship with cnatool, records it with hooks, exports
it with both exporters, the batch axis free, with BatchNorm folded into the convolutions and with
BatchNorm kept; dumps and scores each, and compares each with the recording. Needs PyTorch and
onnxscript. Writes ``OUTPUT/torch.zarr``, ``OUTPUT/<recipe>.onnx`` and ``OUTPUT/<recipe>.zarr``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipes import DIGITS, dump_and_compare, read_batches
from torch import nn

from cnatool.recorders.torch import record

# Whether to use the newer exporter, and its options.
RECIPES: dict[str, tuple[bool, dict[str, Any]]] = {
    "folded": (False, {}),
    "kept": (False, {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}),
    "dynamo-folded": (True, {}),
    "dynamo-kept": (True, {"optimize": False}),
}


class Network(nn.Module):
    """A convolution, a residual block, and a linear layer on the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.one, self.one_bn = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.two, self.two_bn = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.classes = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits of images, (n, 1, 8, 8)."""
        x = torch.relu(self.stem_bn(self.stem(x)))
        y = self.two_bn(self.two(torch.relu(self.one_bn(self.one(x)))))
        logits: torch.Tensor = self.classes(torch.relu(x + y).mean(dim=(2, 3)))
        return logits


def prepare(raw: Any) -> torch.Tensor:
    """Convert raw images to the input of the network, as the dump does."""
    return torch.from_numpy(raw).unsqueeze(1) / 255


def train(network: nn.Module, epochs: int) -> None:
    """Train with Adam."""
    data = np.load(DIGITS / "train.npz")
    x, y = prepare(data["x"]), torch.from_numpy(data["y"])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows].long()).backward()
            optimizer.step()


def export(network: nn.Module, path: Path, *, dynamo: bool, options: dict[str, Any]) -> None:
    """Export with a free batch axis."""
    if dynamo:
        options = options | {"dynamic_shapes": ({0: torch.export.Dim("n")},), "verbose": False}
    else:
        names = {"input_names": ["x"], "output_names": ["logits"]}
        options = options | names | {"dynamic_axes": {"x": {0: "n"}, "logits": {0: "n"}}}
    with warnings.catch_warnings():
        # The older exporter warns that it is deprecated.
        warnings.simplefilter("ignore")
        example = torch.zeros(2, 1, 8, 8)
        torch.onnx.export(network.eval(), (example,), str(path), dynamo=dynamo, **options)


def main() -> None:
    """Train, record, export, dump, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = Network()
    train(network, options.epochs)
    recorded = options.output / "torch.zarr"
    record(network, recorded, read_batches(), prepare=prepare, keep="activations", overwrite=True)
    for name, (dynamo, arguments) in RECIPES.items():
        path = options.output / f"{name}.onnx"
        export(network, path, dynamo=dynamo, options=arguments)
        dump_and_compare(path, recorded)
        # Only if BatchNorm is kept does the model have the output of the convolution itself.
        dump_and_compare(path, recorded, convention="reference")


if __name__ == "__main__":
    main()
