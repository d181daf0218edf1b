"""Convert the UCI digits to the two files that `cnatool demo` reads.

The samples are the 1797 8×8 images of `sklearn.datasets.load_digits`, in a seeded order, split
into 1297 for training and 500 for testing. Each run writes the same bytes.

    python examples/convert_digits.py [--output FOLDER]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIPPED = Path(__file__).parents[1] / "cnatool" / "demo" / "data" / "digits"
TRAINING_SAMPLES = 1297
SEED = 0
LARGEST = 16  # the values in the source are 0, 1, …, 16

# The earliest date that a zip archive can hold; `numpy.savez` writes the current one.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def convert(folder: Path) -> None:
    """Write ``train.npz`` and ``test.npz``: x, (n, 8, 8) uint8; y, (n,) int64."""
    images, labels = load_digits(return_X_y=True)
    images = np.round(images * 255 / LARGEST).astype(np.uint8).reshape(-1, 8, 8)
    labels = labels.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(images))
    parts = {"train": order[:TRAINING_SAMPLES], "test": order[TRAINING_SAMPLES:]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        write_npz(folder / f"{name}.npz", x=images[rows], y=labels[rows])


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Write as `numpy.savez_compressed`, but the same bytes on every day and machine."""
    with ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = ZipInfo(f"{name}.npy", date_time=_NO_TIME)
            member.compress_type = ZIP_DEFLATED
            member.create_system = _UNIX
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(member, content.getvalue(), compresslevel=9)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Convert the UCI digits for `cnatool demo`.")
    parser.add_argument("--output", type=Path, default=SHIPPED, metavar="FOLDER")
    folder = parser.parse_args().output
    convert(folder)
    print(folder)


if __name__ == "__main__":
    main()
