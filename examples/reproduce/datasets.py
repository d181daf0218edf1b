"""The data of a collection: images and labels, as they are, shuffled, or replaced by noise."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATASETS = ("digits", "mnist", "cifar10")
# Kinds of training data; the number is the percentage of labels that are shuffled.
KINDS = ("standard", *(f"shuffled-{share}" for share in (10, 20, 30, 40, 50)), "noise")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Data:
    """The two splits of a dataset.

    Attributes
    ----------
    images : dict of str to ndarray of uint8
        By split, (n, height, width) or (n, height, width, 3).
    labels : dict of str to ndarray of int64
        By split, (n,).
    """

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an input."""
        _, height, width, *channels = self.images["train"].shape
        return (channels[0] if channels else 1, height, width)

    def inputs(self, split: str) -> NDArray[np.float32]:
        """Convert images to inputs, (n, channels, height, width), divided by 255."""
        images = self.images[split]
        channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        return channels_first.astype(np.float32) / np.float32(255)


def read_data(dataset: str, folder: Path | None, rows: int | None, test_rows: int | None) -> Data:
    """Read a dataset.

    Parameters
    ----------
    dataset : {"digits", "mnist", "cifar10"}
    folder : Path or None
        Folder of MNIST's four IDX files, or CIFAR-10's two Parquet files.
    rows, test_rows : int or None
        Number of samples of the training and the test split; all if None.
    """
    whole = _read_digits() if dataset == "digits" else _read_folder(dataset, folder)
    most = {"train": rows, "test": test_rows}
    return Data(
        {split: whole.images[split][: most[split]] for split in SPLITS},
        {split: whole.labels[split][: most[split]] for split in SPLITS},
    )


def vary_data(data: Data, dataset: str, kind: str) -> Data:
    """Return a dataset as it is, with a share of its training labels shuffled, or as noise.

    Labels of the test split are never shuffled. Noise is normal, with the mean and deviation of
    the training images, rounded and clipped to 0…255, and independent for the test split. All
    runs of one dataset and kind have the same data.
    """
    rng = np.random.default_rng(zlib.crc32(f"{dataset} {kind}".encode()))
    if kind == "standard":
        return data
    if kind == "noise":
        mean, deviation = data.images["train"].mean(), data.images["train"].std()
        noise = {
            split: rng.normal(mean, deviation, images.shape).round().clip(0, 255).astype(np.uint8)
            for split, images in data.images.items()
        }
        return Data(noise, data.labels)
    share = int(kind.removeprefix("shuffled-")) / 100
    labels = data.labels["train"].copy()
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[chosen] = labels[rng.permutation(chosen)]
    return Data(data.images, {**data.labels, "train": labels})


def write_data(data: Data, folder: Path) -> None:
    """Write ``train.npz`` and ``test.npz`` for `cnatool dump`, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        path = folder / f"{split}.npz"
        if not path.exists():
            partial = folder / f".{split}.partial.npz"
            np.savez(partial, x=data.images[split], y=data.labels[split])
            partial.replace(path)


def _read_digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16 * 255).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    parts = {"train": order[:1297], "test": order[1297:]}
    return Data(
        {split: images[rows] for split, rows in parts.items()},
        {split: digits.target[rows].astype(np.int64) for split, rows in parts.items()},
    )


def _read_folder(dataset: str, folder: Path | None) -> Data:
    if folder is None:
        raise SystemExit(f"{dataset}: name its folder, --{dataset} FOLDER.")
    return _read_mnist(folder) if dataset == "mnist" else _read_cifar10(folder)


def _read_mnist(folder: Path) -> Data:
    names = {"train": "train", "test": "t10k"}
    return Data(
        {s: _read_idx(folder / f"{name}-images-idx3-ubyte.gz") for s, name in names.items()},
        {
            s: _read_idx(folder / f"{name}-labels-idx1-ubyte.gz").astype(np.int64)
            for s, name in names.items()
        },
    )


def _read_idx(path: Path) -> NDArray[np.uint8]:
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _read_cifar10(folder: Path) -> Data:
    import polars as pl
    from PIL import Image

    images, labels = {}, {}
    for split in SPLITS:
        frame = pl.read_parquet(folder / f"{split}.parquet")
        contents = frame["image"].struct.field("bytes")
        images[split] = np.stack(
            [np.asarray(Image.open(io.BytesIO(content))) for content in contents]
        )
        labels[split] = frame["label"].to_numpy().astype(np.int64)
    return Data(images, labels)
