"""Time plain PyTorch and TorchLens in turn, over the same network and images; print JSON.

`all.py` runs this with the interpreter that has TorchLens. TorchLens writes every tensor to disk, a
bundle for each batch or a shard of a data set, whichever is faster here, without source code and
without what only a backward pass needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchlens
from timing import alternate, find_fastest
from torch_twin import build_twin
from working_folder import WorkingFolder

BATCHES = (16, 64)
Way = Callable[[Any, torch.Tensor, Path, int], None]


def run_plain(model: Any, images: torch.Tensor, batch: int) -> None:
    """Run the model and discard the results."""
    with torch.inference_mode():
        for part in torch.split(images, batch):
            model(part)


def write_bundles(model: Any, images: torch.Tensor, folder: Path, batch: int) -> None:
    """Write a bundle for each batch while it runs."""
    folder.mkdir()
    capture = torchlens.options.CaptureOptions(inference_only=True)
    for number, part in enumerate(torch.split(images, batch)):
        storage = torchlens.options.StreamingOptions(
            bundle_path=folder / f"{number}.tlspec", retain_in_memory=False
        )
        torchlens.trace(model, part, storage=storage, capture=capture)


def write_shards(model: Any, images: torch.Tensor, folder: Path, batch: int) -> None:
    """Write a data set of activations, without checksums."""
    torchlens.extract_dataset(
        model,
        images,
        list_tensors(model, images[:1]),
        batch_size=batch,
        output_dir=folder,
        progress=False,
        checksums="none",
        model_identity="none",
    )


def list_tensors(model: Any, image: torch.Tensor) -> list[str]:
    """Return TorchLens's labels of what operators compute."""
    labels = torchlens.trace(model, image).layer_labels
    return [label for label in labels if not label.startswith(("input", "output", "buffer"))]


def main() -> None:
    """Read the model, the images, the number of rounds and a folder from the command line."""
    model_path, data, rounds, scratch = sys.argv[1:]
    model = build_twin(Path(model_path))
    pixels = np.load(data).astype(np.float32) / np.float32(255)
    images = torch.from_numpy(pixels)
    folder = WorkingFolder(Path(scratch))
    ways: dict[str, Way] = {"a bundle a batch": write_bundles, "shards": write_shards}
    few = images[: max(BATCHES)]
    plain = find_fastest(partial(run_plain, model, few), BATCHES)
    kinds = [(title, way, batch) for batch in BATCHES for title, way in ways.items()]
    title, way, batch = find_fastest(
        lambda kind: kind[1](model, few, folder.new_path(), kind[2]), kinds, rounds=1
    )
    calls = {
        "plain": lambda: run_plain(model, images, plain),
        "torchlens": lambda: way(model, images, folder.new_path(), batch),
    }
    times = alternate(calls, int(rounds), folder.clear)
    titles = {"plain": f"batch {plain}", "torchlens": f"{title}, batch {batch}"}
    pairs = {name: [astuple(each) for each in taken] for name, taken in times.items()}
    print(json.dumps({"titles": titles, "times": pairs}))


if __name__ == "__main__":
    main()
