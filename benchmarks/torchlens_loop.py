"""Time plain PyTorch and TorchLens in turn, over the same network and images; print JSON.

`all.py` runs this with the interpreter that has TorchLens. TorchLens writes every tensor to disk, a
bundle for each batch or a shard of a data set, whichever is faster here, without source code and
without what only a backward pass needs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from timing import alternate, find_fastest
from working_folder import WorkingFolder

# Imported on use, so that the help needs neither.
if TYPE_CHECKING:
    import torch

BATCHES = (16, 64)
Way = Callable[[Any, "torch.Tensor", Path, int], None]


def run_plain(model: Any, images: torch.Tensor, batch: int) -> None:
    """Run the model and discard the results."""
    import torch

    with torch.inference_mode():
        for part in torch.split(images, batch):
            model(part)


def write_bundles(model: Any, images: torch.Tensor, folder: Path, batch: int) -> None:
    """Write a bundle for each batch while it runs."""
    import torch
    import torchlens

    folder.mkdir()
    capture = torchlens.options.CaptureOptions(inference_only=True)
    for number, part in enumerate(torch.split(images, batch)):
        storage = torchlens.options.StreamingOptions(
            bundle_path=folder / f"{number}.tlspec", retain_in_memory=False
        )
        torchlens.trace(model, part, storage=storage, capture=capture)


def write_shards(model: Any, images: torch.Tensor, folder: Path, batch: int) -> None:
    """Write a data set of activations, without checksums."""
    import torchlens

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
    import torchlens

    labels = torchlens.trace(model, image).layer_labels
    return [label for label in labels if not label.startswith(("input", "output", "buffer"))]


def main() -> None:
    """Read the model, the images, the number of rounds and a folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="8-bit images, as .npy")
    parser.add_argument("rounds", type=int, metavar="ROUNDS")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for what is written meanwhile")
    words = parser.parse_args()
    import torch
    from torch_twin import build_twin

    model = build_twin(words.model)
    pixels = np.load(words.images).astype(np.float32) / np.float32(255)
    images = torch.from_numpy(pixels)
    folder = WorkingFolder(words.folder)
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
    times = alternate(calls, words.rounds, folder.clear)
    titles = {"plain": f"batch {plain}", "torchlens": f"{title}, batch {batch}"}
    pairs = {name: [astuple(each) for each in taken] for name, taken in times.items()}
    print(json.dumps({"titles": titles, "times": pairs}))


if __name__ == "__main__":
    main()
