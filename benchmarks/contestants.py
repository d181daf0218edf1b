"""Look inside a network in one of the ways that people use today: `contestants.py WAY ARGUMENTS`.

Each way is a process of its own, which imports nothing that the others need; `all.py` runs them
with the interpreter that has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

INPUT = "x"


class Task(NamedTuple):
    """A model, an array file of its raw images, the rows of a batch, and where output goes."""

    model: str
    data: str
    batch: int
    out: str

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """Read and preprocess as a user's loop would."""
        data = np.load(self.data, mmap_mode="r")
        for start in range(0, len(data), self.batch):
            yield data[start : start + self.batch].astype(np.float32) / np.float32(255)


def collect_with_runtime(task: Task) -> None:
    """Collect with ONNX Runtime's helpers, whose result stays in memory."""
    from onnxruntime.quantization import CalibrationDataReader, qdq_loss_debug

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = task.batches()

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    qdq_loss_debug.modify_model_output_intermediate_tensors(task.model, task.out)
    providers = ["CPUExecutionProvider"]
    qdq_loss_debug.collect_activations(task.out, Reader(), execution_providers=providers)


def record_hooks(task: Task) -> None:
    """Run the network in PyTorch, with hooks that append every output to HDF5."""
    import h5py
    import torch
    from torch_twin import build_twin

    model = build_twin(Path(task.model))
    caught: dict[str, Any] = {}

    def catch(name: str, module: object, inputs: object, output: Any) -> None:
        caught[name] = output.detach().numpy()

    for name, module in model.named_modules():
        if not any(module.children()):
            module.register_forward_hook(partial(catch, name))
    with h5py.File(task.out, "w") as file, torch.no_grad():
        for batch in task.batches():
            caught.clear()
            model(torch.from_numpy(batch))
            for name, values in caught.items():
                if name not in file:
                    shape = (None, *values.shape[1:])
                    file.create_dataset(name, (0, *values.shape[1:]), "f4", maxshape=shape)
                dataset = file[name]
                dataset.resize(len(dataset) + len(values), axis=0)
                dataset[-len(values) :] = values


WAYS = {"qdq_loss_debug": collect_with_runtime, "hooks": record_hooks}


def main() -> None:
    """Read the way and its task from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("task", help=f"JSON: [{', '.join(Task._fields)}]", metavar="ARGUMENTS")
    words = parser.parse_args()
    WAYS[words.way](Task(*json.loads(words.task)))


if __name__ == "__main__":
    main()
