"""The networks that are measured, with their data; both are made once and kept in the cache."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import networks
import numpy as np
from filelock import FileLock
from light_networks import write_light_network
from processes import call_in_child

# What the cache holds depends on these.
SOURCES = ("cases.py", "light_networks.py", "networks.py", "sample_stores.py")


class Network(NamedTuple):
    """How a network is written, and what it reads."""

    title: str
    write: Callable[[Path], Path]
    shape: tuple[int, ...]
    batches: tuple[int, ...]  # of which the peer takes the fastest
    trial: int  # rows that tell which one that is


NETWORKS = {
    "mlp": Network("MLP 784-500-500-500-10", networks.mlp, (784,), (64, 128, 256, 1024), 30_000),
    "convnet": Network(
        "convnet 16-32-64", networks.convnet, (1, 28, 28), (16, 32, 64, 128), 10_000
    ),
    "resnet18": Network("ResNet-18 at 28²", networks.resnet18, (1, 28, 28), (4, 8, 16, 32), 128),
    "resnet18-norm": Network(
        "ResNet-18 with BatchNorm at 32²",
        partial(networks.resnet18, image=(3, 32, 32), norm=True),
        (3, 32, 32),
        (4, 8, 16, 32),
        96,
    ),
    "transformer": Network(
        "transformer, 4 blocks of 128", networks.transformer, (1, 28, 28), (64, 128, 256), 1_024
    ),
    "resnet50": Network(
        "ResNet-50 at 224²", partial(write_light_network, "resnet50"), (3, 224, 224), (2, 4, 8), 16
    ),
    "densenet121": Network(
        "DenseNet-121 at 224²",
        partial(write_light_network, "densenet121"),
        (3, 224, 224),
        (2, 4, 8),
        16,
    ),
}


class Case(NamedTuple):
    """A network, a file of images, and how many of them are read."""

    network: Network
    model: Path
    images: Path
    rows: int

    @property
    def title(self) -> str:
        """The network and the number of rows."""
        return f"{self.network.title}, {self.rows:,} rows"


def open_case(name: str, rows: int, cache: Path) -> Case:
    """Open a network with as many images, and make those that the cache lacks."""
    network = NETWORKS[name]
    model = keep(cache, f"{name}.onnx", partial(_write_model, name))
    images = keep(cache, f"{name}-{rows}", partial(_write_images, name, rows))
    return Case(network, model, next(images.glob("*images*")), rows)


def keep(cache: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return a path in the cache; what is not there is made, in a process of its own.

    What other code made counts as not there.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join((here / source).read_bytes() for source in SOURCES))
    path = cache / digest.hexdigest()[:12] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # two runs may want it at the same time
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                call_in_child(make, Path(folder) / name)
                (Path(folder) / name).replace(path)
    return path


def _write_model(name: str, path: Path) -> None:
    NETWORKS[name].write(path)


def _write_images(name: str, rows: int, folder: Path) -> None:
    folder.mkdir()
    shape = NETWORKS[name].shape
    if shape[-1] in (28, 784):
        networks.write_digits(folder, rows)
        return
    pixels = np.random.default_rng(0).integers(0, 256, (rows, *shape), np.uint8)
    np.save(folder / "images.npy", pixels)
