"""Training of one run, with its checkpoints, and an estimate of its time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Data
from networks import NETWORKS, RATES, Exporter
from torch import nn

BATCH = 64
_TIMED_STEPS = 6


@dataclass(frozen=True)
class Run:
    """One network trained once.

    Attributes
    ----------
    dataset, kind, network : str
        Of `DATASETS`, `KINDS` and `NETWORKS`.
    seed : int
        Seed of initial weights and order of samples.
    epochs : tuple of int
        Epochs with a checkpoint; 0 is the network before training.
    """

    dataset: str
    kind: str
    network: str
    seed: int
    epochs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the run and of its folders."""
        return f"{self.dataset}-{self.network}-{self.kind}-seed{self.seed}"

    def checkpoint_path(self, folder: Path, epoch: int) -> Path:
        """Return the path of the network after an epoch."""
        return folder / self.name / f"epoch{epoch:03}.onnx"


def _start(run: Run, data: Data) -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator]:
    torch.manual_seed(run.seed)
    network = NETWORKS[run.network](data.shape)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATES[run.network], momentum=0.9)
    return network, optimizer, torch.Generator().manual_seed(run.seed)


def is_trained(run: Run, folder: Path) -> bool:
    """Whether all checkpoints exist."""
    return (folder / run.name / "training.json").exists()


def train(run: Run, data: Data, exporter: Exporter, folder: Path) -> None:
    """Train a run, or continue it from its last checkpoint.

    Writes each checkpoint as ONNX and, at the end, ``training.json`` with PyTorch's accuracy and
    loss at each of them.
    """
    own = folder / run.name
    own.mkdir(parents=True, exist_ok=True)
    network, optimizer, order = _start(run, data)
    inputs, labels = torch.from_numpy(data.inputs("train")), _labels(data, "train")
    records: list[dict[str, float]] = []
    state = own / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        order.set_state(saved["order"])
        records = saved["records"]
    first = int(records[-1]["epoch"]) + 1 if records else 0
    for epoch in range(first, run.epochs[-1] + 1):
        if epoch:
            _train_epoch(network, optimizer, inputs, labels, order)
        if epoch not in run.epochs:
            continue
        exporter.write(network, run.checkpoint_path(folder, epoch))
        record = {"epoch": float(epoch)}
        for split in ("train", "test"):
            accuracy, loss = evaluate(network, data, split)
            record |= {f"{split}.accuracy": accuracy, f"{split}.loss": loss}
        records.append(record)
        partial = own / ".state.partial"
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "order": order.get_state(),
                "records": records,
            },
            partial,
        )
        partial.replace(state)
    (own / "training.json").write_text(json.dumps(records, indent=1) + "\n")
    state.unlink()


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Generator,
) -> None:
    network.train()
    for rows in torch.randperm(len(inputs), generator=order).split(BATCH):
        # Batch normalisation fails for a single sample.
        if len(rows) > 1:
            _step(network, optimizer, inputs[rows], labels[rows])


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()


@torch.no_grad()
def evaluate(network: nn.Module, data: Data, split: str) -> tuple[float, float]:
    """Compute accuracy and mean loss on a split with PyTorch."""
    network.eval()
    inputs, labels = torch.from_numpy(data.inputs(split)), _labels(data, split)
    scores = torch.cat([network(part) for part in inputs.split(512)])
    accuracy = (scores.argmax(1) == labels).double().mean().item()
    return accuracy, nn.functional.cross_entropy(scores.double(), labels).item()


def estimate_seconds(run: Run, data: Data) -> float:
    """Estimate the time of training a run from a few steps."""
    network, optimizer, _ = _start(run, data)
    network.train()
    inputs = torch.from_numpy(data.inputs("train")[:BATCH])
    labels = _labels(data, "train")[:BATCH]
    _step(network, optimizer, inputs, labels)
    start = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        _step(network, optimizer, inputs, labels)
    each = (time.perf_counter() - start) / _TIMED_STEPS
    return each * run.epochs[-1] * len(data.labels["train"]) / len(inputs)


def _labels(data: Data, split: str) -> torch.Tensor:
    return torch.from_numpy(data.labels[split])
