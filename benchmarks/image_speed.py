"""How fast is a folder of images read, beside a loop over Pillow and PyTorch's DataLoader?"""

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
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.records.image_transform import Geometry

BLOCK = 64


@dataclass(frozen=True)
class Case:
    """Size and format of the images, and how they are transformed.

    ``spread`` is the largest ratio of a side to ``side``, and of ``side`` to it.
    """

    side: int
    ending: str
    spread: float = 1.0
    geometry: Geometry | None = None

    def __str__(self) -> str:
        size = f"{self.side}×{self.side}"
        return size if self.geometry is None else f"about {size}, cut to 224×224"

    def transform(self, image: Image.Image) -> Image.Image:
        """Resize and crop with Pillow as torchvision's Resize and CenterCrop do."""
        if self.geometry is None:
            return image
        w, h = image.size
        short = min(w, h)
        image = image.resize((int(256 * w / short), int(256 * h / short)), BILINEAR)
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        return image.crop((left, top, left + 224, top + 224))


BILINEAR = Image.Resampling.BILINEAR
TRAINED = Geometry(resize=256, crop=(224, 224))
CASES = (
    Case(32, "png"),
    Case(224, "jpg"),
    Case(224, "png"),
    Case(400, "jpg", 1.4, TRAINED),
)


def write_folder(folder: Path, count: int, case: Case) -> None:
    """Write smooth images with some noise, which compress about as well as photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        h, w = (int(case.side * rng.uniform(1 / case.spread, case.spread)) for _ in "hw")
        coarse = rng.integers(0, 256, (h // 16, w // 16, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC)
        noise = rng.integers(0, 8, (h, w, 3), np.uint8)
        path = folder / str(number % 4) / f"{number:06}.{case.ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((np.asarray(smooth) // 2 + noise).astype(np.uint8)).save(path)


def list_files(folder: Path) -> list[Path]:
    """List the images in cnatool's order."""
    return sorted(folder.rglob("*.*"))


def sum_by_cnatool(folder: Path, case: Case) -> int:
    """Read a folder with cnatool, and sum all pixels, so that they are decoded."""
    selection = ArraySelection(images=ImageOptions(case.geometry))
    blocks = open_image_folder(folder, selection).blocks(BLOCK)
    return sum(int(block.for_model[0].sum()) for block in blocks)


def sum_by_loop(folder: Path, case: Case) -> int:
    """Read a folder as a script would."""
    total = 0
    paths = list_files(folder)
    for start in range(0, len(paths), BLOCK):
        part = paths[start : start + BLOCK]
        total += int(
            np.stack([np.asarray(case.transform(Image.open(path))) for path in part]).sum()
        )
    return total


class Folder:
    """A minimal data set for a DataLoader."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.paths = list_files(folder)
        self.case = case

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Any:
        # A copy, since PyTorch warns of Pillow's read-only arrays.
        return np.array(self.case.transform(Image.open(self.paths[row])))


def sum_by_loader(folder: Path, case: Case, workers: int) -> int:
    """Read a folder with worker processes that return arrays in shared memory."""
    from torch.utils.data import DataLoader

    images: Any = Folder(folder, case)
    loader: Any = DataLoader(images, BLOCK, num_workers=workers)
    return sum(int(block.numpy().sum()) for block in loader)


def main() -> None:
    """Check that all read the same pixels, and print the ratios."""
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
            peers = [("Pillow, a loop", partial(sum_by_loop, folder, case))]
            if workers:
                title = f"DataLoader, {workers} workers"
                peers.append((title, partial(sum_by_loader, folder, case, workers)))
            for peer in peers:
                assert peer[1]() == sum_by_cnatool(folder, case)
                compare(
                    f"{options.count} of {case}, {case.ending}",
                    peer,
                    ("cnatool", partial(sum_by_cnatool, folder, case)),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
