"""How fast is a folder of pictures read, beside a loop over Pillow and PyTorch's DataLoader?"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import compare

from cnatool.data.formats.image_folder import open_image_folder
from cnatool.data.source import ImageOptions
from cnatool.records.image_transform import Geometry

BLOCK = 64


@dataclass(frozen=True)
class Case:
    """What the pictures are like, and what becomes of them.

    ``spread`` is by what factor sides differ at most; ``geometry`` says how they are made alike.
    """

    side: int
    ending: str
    spread: float = 1.0
    geometry: Geometry | None = None

    def __str__(self) -> str:
        size = f"{self.side}×{self.side}"
        return size if self.geometry is None else f"about {size}, cut to 224×224"

    def made(self, picture: Image.Image) -> Image.Image:
        """Do with Pillow what torchvision's Resize and CenterCrop do."""
        if self.geometry is None:
            return picture
        w, h = picture.size
        short = min(w, h)
        picture = picture.resize((int(256 * w / short), int(256 * h / short)), BILINEAR)
        left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
        return picture.crop((left, top, left + 224, top + 224))


BILINEAR = Image.Resampling.BILINEAR
TRAINED = Geometry(resize=256, crop=(224, 224))
CASES = (
    Case(32, "png"),
    Case(224, "jpg"),
    Case(224, "png"),
    Case(400, "jpg", 1.4, TRAINED),
)


def write_folder(folder: Path, count: int, case: Case) -> None:
    """Write smooth pictures with some noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for number in range(count):
        h, w = (int(case.side * rng.uniform(1 / case.spread, case.spread)) for _ in "hw")
        coarse = rng.integers(0, 256, (h // 16, w // 16, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)
        noise = rng.integers(0, 8, (h, w, 3), np.uint8)
        path = folder / str(number % 4) / f"{number:06}.{case.ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((np.asarray(smooth) // 2 + noise).astype(np.uint8)).save(path)


def files(folder: Path) -> list[Path]:
    """List the pictures in cnatool's order."""
    return sorted(folder.rglob("*.*"))


def by_cnatool(folder: Path, case: Case) -> int:
    """Sum all pixels, so that they are really there."""
    blocks = open_image_folder(folder, ImageOptions(case.geometry)).blocks(BLOCK)
    return sum(int(block.for_model[0].sum()) for block in blocks)


def by_loop(folder: Path, case: Case) -> int:
    """Do the same as a script would."""
    total = 0
    paths = files(folder)
    for start in range(0, len(paths), BLOCK):
        part = paths[start : start + BLOCK]
        total += int(np.stack([np.asarray(case.made(Image.open(path))) for path in part]).sum())
    return total


class Folder:
    """The least that a DataLoader takes."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.paths = files(folder)
        self.case = case

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        # A copy: what Pillow gives cannot be written to, of which PyTorch warns.
        return np.array(self.case.made(Image.open(self.paths[row])))


def by_loader(folder: Path, case: Case, workers: int) -> int:
    """Do the same with worker processes, which hand over arrays in shared memory."""
    from torch.utils.data import DataLoader

    pictures: Any = Folder(folder, case)
    loader: Any = DataLoader(pictures, BLOCK, num_workers=workers)
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
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_folder(folder, options.count, case)
            peers = [("Pillow, a loop", partial(by_loop, folder, case))]
            if workers:
                title = f"DataLoader, {workers} workers"
                peers.append((title, partial(by_loader, folder, case, workers)))
            for peer in peers:
                assert peer[1]() == by_cnatool(folder, case)
                compare(
                    f"{options.count} of {case}, {case.ending}",
                    peer,
                    ("cnatool", partial(by_cnatool, folder, case)),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
