"""What does recording statistics in a training loop cost beside the same loop without it?

The other peer is handwritten: a hook on each of the same modules that copies the activations to the
CPU. Networks train on random images, on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from timing import compare
from torch import nn

from cnatool.recorders.torch import Recorder

BATCH = 128
CLASSES = 10


def mlp() -> nn.Module:
    """Build the paper's network, for images of three channels."""
    sizes = (3072, 500, 500, 500)
    parts: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], CLASSES))


def convnet() -> nn.Module:
    """Build six convolutions with BatchNorm."""
    channels = (3, 32, 32, 64, 64, 128, 128)
    parts: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(channels)):
        stride = 1 + number % 2
        parts += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
        parts.append(nn.ReLU(inplace=True))
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*parts, pool, nn.Flatten(), nn.Linear(channels[-1], CLASSES))


class Loop:
    """A training loop over the same batches each time."""

    def __init__(self, build: Callable[[], nn.Module], steps: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._build = build
        self._steps = steps
        generator = torch.Generator().manual_seed(0)
        self.raw = torch.randint(0, 256, (BATCH, 3, 32, 32), generator=generator).to(torch.uint8)
        self.labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)

    def run(self, wrap: Callable[[nn.Module], Callable[[torch.Tensor], torch.Tensor]]) -> None:
        """Train; `wrap` returns, for a network, the function that is called in its place."""
        torch.manual_seed(0)
        network = self._build().to(self.device).train()
        optimizer = torch.optim.SGD(network.parameters(), 0.01)
        labels = self.labels.to(self.device)
        call = wrap(network)
        for _ in range(self._steps):
            optimizer.zero_grad()
            x = self.raw.to(self.device).float() / 255
            outputs = call(x)
            loss = nn.functional.cross_entropy(outputs, labels)
            torch.autograd.backward(loss)
            optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def train(self) -> None:
        """Train without a recorder."""
        self.run(lambda network: network)

    def train_and_record(self) -> None:
        """Train and record statistics of every layer at every step."""
        with tempfile.TemporaryDirectory() as folder:
            self._record(Path(folder))

    def _record(self, folder: Path) -> None:
        recorders: list[Recorder] = []

        def wrap(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
            recorder = Recorder(network, folder / "store.zarr")
            recorders.append(recorder)
            recorder.__enter__()

            def call(x: torch.Tensor) -> torch.Tensor:
                with recorder.batch("train", inputs=self.raw, labels=self.labels):
                    outputs: torch.Tensor = network(x)
                return outputs

            return call

        self.run(wrap)
        recorders[0].__exit__(None, None, None)

    def train_and_copy(self) -> None:
        """Train with hooks that copy the outputs of the same modules to the CPU."""

        def wrap(network: nn.Module) -> nn.Module:
            seen: dict[str, torch.Tensor] = {}

            def hook(_: nn.Module, __: object, output: torch.Tensor, name: str) -> None:
                seen[name] = output.detach().to("cpu", copy=True)

            for name, module in network.named_modules():
                if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)):
                    module.register_forward_hook(partial(hook, name=name))
            return network

        self.run(wrap)


def main() -> None:
    """Print one line per network and peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for title, build in (("MLP 3072-500-500-500-10", mlp), ("convnet, 6 layers", convnet)):
        loop = Loop(build, options.steps)
        title = f"{title}, {options.steps} steps of {BATCH} on the {loop.device.type}"
        plain, copied = ("without", loop.train), ("copied", loop.train_and_copy)
        recorded = ("recorded", loop.train_and_record)
        # Processor time does not include the work of a GPU.
        on_cpu = loop.device.type == "cpu"
        clock = time.process_time if on_cpu else time.perf_counter
        title += ", processor time" if on_cpu else ""
        compare(f"{title}, recorded", plain, recorded, options.rounds, clock)
        compare(f"{title}, copied", plain, copied, options.rounds, clock)


if __name__ == "__main__":
    main()
