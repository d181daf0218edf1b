"""The data of the collection: pictures and labels, as they are, shuffled, or replaced by noise."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATASETS = ("digits", "mnist", "cifar10")
# Training data of these; the number is the share of labels that change places.
KINDS = ("standard", *(f"shuffled-{share}" for share in (10, 20, 30, 40, 50)), "noise")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Data:
    """The two splits of a dataset.

    Attributes
    ----------
    pictures : dict of str to ndarray of uint8
        By split, (n, height, width) or (n, height, width, 3).
    labels : dict of str to ndarray of int64
        By split, (n,).
    """

    pictures: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture, as networks take it."""
        _, height, width, *channels = self.pictures["train"].shape
        return (channels[0] if channels else 1, height, width)

    def inputs(self, split: str) -> NDArray[np.float32]:
        """Give what networks take, (n, channels, height, width), 255 as 1."""
        pictures = self.pictures[split]
        moved = pictures[:, None] if pictures.ndim == 3 else np.moveaxis(pictures, -1, 1)
        return moved.astype(np.float32) / np.float32(255)


def read_data(dataset: str, folder: Path | None, rows: int | None, test_rows: int | None) -> Data:
    """Read a dataset.

    Parameters
    ----------
    dataset : {"digits", "mnist", "cifar10"}
    folder : Path or None
        Where MNIST's four IDX files, or CIFAR-10's two Parquet files, are.
    rows, test_rows : int or None
        How many samples to take of the training and the test split; all where None.
    """
    whole = _digits() if dataset == "digits" else _from_folder(dataset, folder)
    most = {"train": rows, "test": test_rows}
    return Data(
        {split: whole.pictures[split][: most[split]] for split in SPLITS},
        {split: whole.labels[split][: most[split]] for split in SPLITS},
    )


def of_kind(data: Data, dataset: str, kind: str) -> Data:
    """Give a dataset as it is, with a share of its training labels shuffled, or as noise.

    Labels of the test split are never shuffled. Noise is normal, with the mean and deviation of
    the training pictures, rounded and cut to 0…255; test pictures are noise of their own. What is
    drawn depends on the dataset and the kind alone, so that all runs share it.
    """
    rng = np.random.default_rng(zlib.crc32(f"{dataset} {kind}".encode()))
    if kind == "standard":
        return data
    if kind == "noise":
        mean, deviation = data.pictures["train"].mean(), data.pictures["train"].std()
        noise = {
            split: rng.normal(mean, deviation, pictures.shape).round().clip(0, 255).astype(np.uint8)
            for split, pictures in data.pictures.items()
        }
        return Data(noise, data.labels)
    share = int(kind.removeprefix("shuffled-")) / 100
    labels = data.labels["train"].copy()
    moved = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[moved] = labels[rng.permutation(moved)]
    return Data(data.pictures, {**data.labels, "train": labels})


def write_data(data: Data, folder: Path) -> None:
    """Write ``train.npz`` and ``test.npz`` as `cnatool dump` reads them; once."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        path = folder / f"{split}.npz"
        if not path.exists():
            partial = folder / f".{split}.partial.npz"
            np.savez(partial, x=data.pictures[split], y=data.labels[split])
            partial.replace(path)


def _digits() -> Data:
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = (found.images / 16 * 255).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pictures))
    parts = {"train": order[:1297], "test": order[1297:]}
    return Data(
        {split: pictures[rows] for split, rows in parts.items()},
        {split: found.target[rows].astype(np.int64) for split, rows in parts.items()},
    )


def _from_folder(dataset: str, folder: Path | None) -> Data:
    if folder is None:
        raise SystemExit(f"{dataset}: name its folder, --{dataset} FOLDER.")
    return _mnist(folder) if dataset == "mnist" else _cifar10(folder)


def _mnist(folder: Path) -> Data:
    names = {"train": "train", "test": "t10k"}
    return Data(
        {s: _idx(folder / f"{name}-images-idx3-ubyte.gz") for s, name in names.items()},
        {
            s: _idx(folder / f"{name}-labels-idx1-ubyte.gz").astype(np.int64)
            for s, name in names.items()
        },
    )


def _idx(path: Path) -> NDArray[np.uint8]:
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _cifar10(folder: Path) -> Data:
    import polars as pl
    from PIL import Image

    pictures, labels = {}, {}
    for split in SPLITS:
        frame = pl.read_parquet(folder / f"{split}.parquet")
        contents = frame["image"].struct.field("bytes")
        pictures[split] = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in contents])
        labels[split] = frame["label"].to_numpy().astype(np.int64)
    return Data(pictures, labels)
