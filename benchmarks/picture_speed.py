"""How fast is a folder of pictures read, beside a loop over Pillow and PyTorch's DataLoader?"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import compare

from cnatool.data.pictures import open_pictures

BLOCK = 64


def write_folder(folder: Path, count: int, side: int, ending: str) -> None:
    """Write smooth pictures with some noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        noise = rng.integers(0, 8, (side, side, 3), np.uint8)
        path = folder / str(number % 4) / f"{number:06}.{ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((np.asarray(smooth) // 2 + noise).astype(np.uint8)).save(path)


def files(folder: Path) -> list[Path]:
    """List the pictures in cnatool's order."""
    return sorted(folder.rglob("*.*"))


def by_cnatool(folder: Path) -> int:
    """Sum all pixels, so that they are really there."""
    return sum(int(block.inputs[0].sum()) for block in open_pictures(folder).blocks(BLOCK))


def by_loop(folder: Path) -> int:
    """Do the same as a script would."""
    total = 0
    paths = files(folder)
    for start in range(0, len(paths), BLOCK):
        pictures = [np.asarray(Image.open(path)) for path in paths[start : start + BLOCK]]
        total += int(np.stack(pictures).sum())
    return total


class Folder:
    """The least that a DataLoader takes."""

    def __init__(self, folder: Path) -> None:
        self.paths = files(folder)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        # A copy: what Pillow gives cannot be written to, of which PyTorch warns.
        return np.array(Image.open(self.paths[row]))


def by_loader(folder: Path, workers: int) -> int:
    """Do the same with worker processes, which hand over arrays in shared memory."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(Folder(folder), BLOCK, num_workers=workers)  # type: ignore[arg-type]
    return sum(int(block.numpy().sum()) for block in loader)


def main() -> None:
    """Print the ratios, after making sure that all read the same pixels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1_000)
    options = parser.parse_args()
    workers = os.cpu_count() or 1
    try:
        import torch  # noqa: F401
    except ImportError:
        print("PyTorch is not installed: its DataLoader is left out")
        workers = 0
    for side, ending in ((32, "png"), (224, "jpg"), (224, "png")):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_folder(folder, options.count, side, ending)
            peers = [("Pillow, a loop", partial(by_loop, folder))]
            if workers:
                title = f"DataLoader, {workers} workers"
                peers.append((title, partial(by_loader, folder, workers)))
            for peer in peers:
                assert peer[1]() == by_cnatool(folder)
                compare(
                    f"{options.count} of {side}×{side}, {ending}",
                    peer,
                    ("cnatool", partial(by_cnatool, folder)),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
