"""Training of one run, with its checkpoints, until it has converged."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from networks import build
from tasks import STANDARD, Data
from torch import nn

BATCH = 128
MOMENTUM = 0.8
# A run has converged when the mean loss of an epoch's steps falls below this (nats).
CONVERGED = 0.02
# One that memorises has when its training accuracy reaches this.
MEMORISED = 0.99
_STATE_SECONDS = 30.0


@dataclass(frozen=True)
class Run:
    """One network trained once.

    Attributes
    ----------
    task : str
        Of `TASKS`, or of `MEMORISED` where the data are to be memorised.
    kind : str
        Of `KINDS`; anything but ``standard`` is memorised.
    network : str
        Of `NETWORKS`.
    rate : float
        Learning rate.
    seed : int
        Seed of initial weights and order of samples.
    limit : int
        The last epoch at the latest.
    """

    task: str
    kind: str
    network: str
    rate: float
    seed: int
    limit: int

    @property
    def name(self) -> str:
        """Name of the run and of its folders."""
        return f"{self.task}-{self.network}-{self.kind}-rate{self.rate:g}-seed{self.seed}"

    @property
    def memorises(self) -> bool:
        """Whether there is nothing to learn but the training samples themselves."""
        return self.kind != STANDARD

    def checkpoint_path(self, folder: Path, epoch: int) -> Path:
        """Return the path of the network after an epoch."""
        return folder / self.name / f"epoch{epoch:03}.pt"


@dataclass(frozen=True)
class History:
    """How the training of a run went.

    Attributes
    ----------
    epochs : list of int
        Epochs with a checkpoint: 0 before training, 1, 2, 4, 8, … and the last.
    losses : list of float
        Mean loss of the steps of each epoch, from the first epoch on.
    converged : bool
        Whether the last epoch met the criterion, rather than being the limit.
    seconds : float
        Processor time.
    """

    epochs: list[int]
    losses: list[float]
    converged: bool
    seconds: float


def start(run: Run, data: Data) -> nn.Sequential:
    """Build the network of a run with its initial weights."""
    torch.manual_seed(run.seed)
    return build(run.network, data)


def train(run: Run, data: Data, folder: Path) -> History:
    """Train a run, or continue it from its last state; nothing if it is finished.

    Writes each checkpoint as a ``state_dict`` and, at the end, ``history.json``.
    """
    own = folder / run.name
    finished = own / "history.json"
    if finished.exists():
        return History(**json.loads(finished.read_text()))
    own.mkdir(parents=True, exist_ok=True)
    network = start(run, data).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=run.rate, momentum=MOMENTUM)
    order = torch.Generator().manual_seed(run.seed)
    inputs = torch.from_numpy(data.inputs("train")).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels["train"])
    epochs, losses, seconds = [0], [], 0.0
    state = own / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        order.set_state(saved["order"])
        epochs, losses, seconds = saved["epochs"], saved["losses"], saved["seconds"]
        if len(losses) > run.limit:
            raise SystemExit(
                f"{own}: training has reached epoch {len(losses)}, beyond the limit of "
                f"{run.limit}. Use a greater `--limit`, or another folder."
            )
    else:
        _save(network.state_dict(), run.checkpoint_path(folder, 0))
    converged = False
    written = time.monotonic()
    while not converged and len(losses) < run.limit:
        began = time.process_time()
        losses.append(_train_epoch(network, optimizer, inputs, labels, order))
        converged = _has_converged(run, network, inputs, labels, losses[-1])
        seconds += time.process_time() - began
        epoch = len(losses)
        if converged or epoch == run.limit or epoch & (epoch - 1) == 0:
            _save(network.state_dict(), run.checkpoint_path(folder, epoch))
            epochs.append(epoch)
        if time.monotonic() - written > _STATE_SECONDS:
            content = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "order": order.get_state(),
                "epochs": epochs,
                "losses": losses,
                "seconds": seconds,
            }
            _save(content, state)
            written = time.monotonic()
    history = History(epochs, losses, converged, round(seconds, 1))
    partial = own / ".history.partial"
    partial.write_text(json.dumps(history.__dict__) + "\n")
    partial.replace(finished)
    state.unlink(missing_ok=True)
    return history


def _save(content: object, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    torch.save(content, partial)
    partial.replace(path)


def _has_converged(
    run: Run, network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, loss: float
) -> bool:
    if not run.memorises:
        return loss < CONVERGED
    network.eval()
    with torch.no_grad():
        right = sum(
            int((network(part).argmax(1) == truth).sum())
            for part, truth in zip(inputs.split(512), labels.split(512), strict=True)
        )
    return right >= MEMORISED * len(labels)


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    order: torch.Generator,
) -> float:
    network.train()
    total = 0.0
    for rows in torch.randperm(len(inputs), generator=order).split(BATCH):
        # Batch normalisation fails for a single sample.
        if len(rows) > 1:
            total += len(rows) * _step(network, optimizer, inputs[rows], labels[rows])
    return total / len(inputs)


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> float:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
