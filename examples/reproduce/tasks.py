"""The tasks of the reproduction, and the data that networks are made to memorise."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "test")
# Kinds of training data; the number is the percentage of labels that are shuffled.
STANDARD = "standard"
KINDS = (STANDARD, "shuffled-10", "shuffled-30", "shuffled-50", "noise")


@dataclass(frozen=True)
class Data:
    """The two splits of a task.

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

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(max(labels.max() for labels in self.labels.values())) + 1

    def inputs(self, split: str) -> NDArray[np.float32]:
        """Convert images to inputs, (n, channels, height, width), divided by 255."""
        images = self.images[split]
        channels_first = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        return channels_first.astype(np.float32) / np.float32(255)

    def head(self, rows: int) -> Data:
        """Keep the first rows of each split."""
        return Data(
            {split: images[:rows] for split, images in self.images.items()},
            {split: labels[:rows] for split, labels in self.labels.items()},
        )


@dataclass(frozen=True)
class Task:
    """What networks learn.

    Attributes
    ----------
    source : {"digits", "mnist", "cifar10"}
        Where the images come from.
    rows : int or None
        Number of training samples, the first ones; None for all.
    grey : bool
        Whether colours become grey levels.
    groups : tuple of tuples of int, or None
        The classes of the source that make up each class of the task; images of the others are left
        out. None for the classes as they are.
    """

    source: str
    rows: int | None = None
    grey: bool = False
    groups: tuple[tuple[int, ...], ...] | None = None


_ANIMALS, _VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)
TASKS = {
    "digits": Task("digits"),
    "mnist": Task("mnist", 20_000),
    "mnist-2000": Task("mnist", 2_000),
    "cifar10": Task("cifar10"),
    "cifar10-grey": Task("cifar10", grey=True),
    "cifar10-animals": Task("cifar10", 20_000, groups=(_ANIMALS, _VEHICLES)),
    "cifar10-first": Task("cifar10", groups=tuple((label,) for label in range(5))),
    "cifar10-second": Task("cifar10", groups=tuple((label,) for label in range(5, 10))),
}
# Few samples, so that networks memorise them within minutes.
MEMORISED = {"mnist-2000": TASKS["mnist-2000"], "cifar10-2000": Task("cifar10", 2_000)}


def read_task(name: str, folders: dict[str, Path]) -> Data:
    """Read the data of a task.

    Parameters
    ----------
    name : str
        Of `TASKS` or `MEMORISED`.
    folders : dict of str to Path
        By source, the folder of MNIST's four IDX files and of CIFAR-10's two Parquet files.
    """
    task = (TASKS | MEMORISED)[name]
    whole = _read_source(task.source, folders)
    images, labels = dict(whole.images), dict(whole.labels)
    for split in SPLITS:
        if task.groups is not None:
            numbers = np.full(10, -1)
            for number, group in enumerate(task.groups):
                numbers[list(group)] = number
            mapped = numbers[labels[split]]
            images[split], labels[split] = images[split][mapped >= 0], mapped[mapped >= 0]
        if task.grey:
            images[split] = to_grey(images[split])
    images["train"], labels["train"] = images["train"][: task.rows], labels["train"][: task.rows]
    return Data(images, labels)


def find_source(name: str) -> str:
    """Return the source of a task's images."""
    return (TASKS | MEMORISED)[name].source


def count_rows(name: str) -> int:
    """Count the training samples of a task without reading them."""
    task = (TASKS | MEMORISED)[name]
    whole = {"digits": 1_297, "mnist": 60_000, "cifar10": 50_000}[task.source]
    if task.groups is not None:
        whole = whole * sum(map(len, task.groups)) // 10
    return min(task.rows or whole, whole)


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert colours, (n, height, width, 3), to luma by ITU-R BT.601, (n, height, width)."""
    weights = np.array([299, 587, 114], np.uint32)
    return ((images.astype(np.uint32) @ weights + 500) // 1000).astype(np.uint8)


def vary_data(data: Data, name: str, kind: str) -> Data:
    """Return a task's data as they are, with a share of its training labels shuffled, or as noise.

    Labels of the test split are never shuffled. Noise is normal, with the mean and deviation of
    the training images, rounded and clipped to 0…255, and independent for the test split. All
    runs of one task and kind have the same data.
    """
    rng = np.random.default_rng(zlib.crc32(f"{name} {kind}".encode()))
    if kind == STANDARD:
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
    """Write ``train.npz`` and ``test.npz`` for `cnatool.dump`, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        path = folder / f"{split}.npz"
        if not path.exists():
            partial = folder / f".{split}.partial.npz"
            np.savez(partial, x=data.images[split], y=data.labels[split])
            partial.replace(path)


def _read_source(source: str, folders: dict[str, Path]) -> Data:
    if source == "digits":
        return _read_digits()
    if source not in folders:
        raise SystemExit(f"{source}: name its folder, --{source} FOLDER.")
    return (_read_mnist if source == "mnist" else _read_cifar10)(folders[source])


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
