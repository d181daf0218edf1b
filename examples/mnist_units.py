"""What the units of a network do: a small convolutional network on MNIST, while it is trained.

Needs PyTorch, scikit-learn, and MNIST's four IDX files. Trains the network and exports it at
several steps, dumps each over MNIST, and writes what docs/tutorials/units.md shows: the pictures
that excite units most, dead units over training, and linear probes of each layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn
from train_mnist_mlp import read_idx

import cnatool

STEPS = (0, 30, 100, 300, 938)
BATCH = 64
RATE = 0.005
# ReLUs, by depth.
LAYERS = ("relu", "relu_1", "relu_2")
SIDE = 28


def make_network() -> nn.Module:
    """Make a network of two convolutions and a hidden layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def export(network: nn.Module, path: Path) -> None:
    """Export with a free batch axis, the weights inside the file."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 1, SIDE, SIDE),),
        path,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def train(mnist: Path, folder: Path, seed: int) -> None:
    """Train with Adam at a high rate, and export at each of `STEPS`."""
    pixels = read_idx(mnist / "train-images-idx3-ubyte.gz")[:, None]
    x = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    y = torch.from_numpy(read_idx(mnist / "train-labels-idx1-ubyte.gz").astype(np.int64))
    torch.manual_seed(seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    step = 0
    while True:
        for rows in torch.randperm(len(x)).split(BATCH):
            if step in STEPS:
                export(network, folder / f"units-step{step:05d}.onnx")
            if step == STEPS[-1]:
                return
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1


def count_dead(mnist: Path, folder: Path) -> pl.DataFrame:
    """Count the dead units of each layer at each step, over the first 5,000 training samples."""
    found = []
    for step in STEPS:
        store = folder / "step.zarr"
        cnatool.dump(
            folder / f"units-step{step:05d}.onnx",
            mnist,
            store,
            tensors=list(LAYERS),
            limit=5_000,
            overwrite=True,
        )
        units = cnatool.units(store, tensors=list(LAYERS), splits="train", quantiles=(), top=1)
        dead = units.frame().group_by("tensor").agg(pl.len().alias("units"), pl.col("dead").sum())
        found.append(dead.with_columns(step=step))
    return pl.concat(found)


def draw_dead(counts: pl.DataFrame, path: Path) -> None:
    """Draw the share of dead units of each layer over training."""
    shares = counts.with_columns(
        share=pl.col("dead") / pl.col("units"), step=pl.col("step").clip(lower_bound=10)
    )
    axis = alt.Axis(format="%")
    steps = alt.Axis(values=[10, 30, 100, 300, 1000])
    chart = (
        alt.Chart(shares, width=360, height=180)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "step:Q",
                title="step (0 is drawn at 10)",
                scale=alt.Scale(type="log"),
                axis=steps,
            ),
            y=alt.Y("share:Q", title="dead units", axis=axis),
            color=alt.Color("tensor:N", title="layer"),
        )
    )
    chart.save(path, scale_factor=2)


def read_batches(
    split: cnatool.Split, tensor: str | None, epoch: int = 0
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield batches of a tensor, or of the raw pixels without one, as matrices, with the labels."""
    names = [] if tensor is None else tensor
    for batch in split.batches(names, size=1024, seed=0, epoch=epoch, inputs=tensor is None):
        values = batch.inputs["images"] if tensor is None else batch[tensor]
        yield values.reshape(len(batch), -1).astype(np.float32), batch.labels


def probe(store: Path, tensor: str | None, epochs: int = 3) -> float:
    """Train a linear probe on the train split, batch by batch; return its accuracy on test."""
    splits = cnatool.open(store).splits
    scaler = StandardScaler()
    for values, _ in read_batches(splits["train"], tensor):
        scaler.partial_fit(values)
    model = SGDClassifier(loss="log_loss", alpha=1e-4, average=True, random_state=0)
    for epoch in range(epochs):
        for values, labels in read_batches(splits["train"], tensor, epoch):
            model.partial_fit(scaler.transform(values), labels, classes=np.arange(10))
    right = 0
    for values, labels in read_batches(splits["test"], tensor):
        right += int((model.predict(scaler.transform(values)) == labels).sum())
    return right / len(splits["test"])


def draw_exciting(store: Path, units: pl.DataFrame, path: Path, count: int = 10) -> None:
    """Draw a row for each unit, with the pictures that excite it most, the strongest first."""
    inputs = cnatool.open(store).splits["test"].inputs()
    rows = []
    for top in units["top_rows"]:
        pictures = inputs[top.to_list()[:count]].reshape(-1, SIDE, SIDE)
        frame = ((1, 1), (1, 1))
        rows.append(
            np.concatenate([np.pad(255 - p, frame, constant_values=255) for p in pictures], 1)
        )
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Train, dump, and write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path, help="folder with train-images-idx3-ubyte.gz, …")
    parser.add_argument("-o", "--output", type=Path, default=Path("units"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    train(options.mnist, folder, options.seed)

    dead = count_dead(options.mnist, folder)
    print(dead.pivot("step", index=["tensor", "units"], values="dead"))
    draw_dead(dead, folder / "units-dead.png")

    store = folder / "units.zarr"
    model = folder / f"units-step{STEPS[-1]:05d}.onnx"
    cnatool.dump(model, options.mnist, store, tensors=list(LAYERS), limit=20_000, overwrite=True)
    last = cnatool.units(store, tensors=LAYERS[-1], splits="test").frame()
    # Of each class the unit that is most selective for it.
    chosen = last.filter(~pl.col("dead")).sort("ccmas", descending=True, nulls_last=True)
    chosen = chosen.unique("class", keep="first", maintain_order=True).sort("class")
    print(chosen.select("unit", "class", "ccmas", "zeros"))
    draw_exciting(store, chosen, folder / "units-exciting.png")

    for tensor in (None, *LAYERS):
        print(f"probe of {tensor or 'the pixels'}: {probe(store, tensor):.4f}", flush=True)


if __name__ == "__main__":
    main()
