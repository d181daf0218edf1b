"""The gradient of β beside those of the output, the loss and the margin: a perceptron on MNIST.

Needs PyTorch and MNIST's four IDX files. Trains a perceptron with five hidden layers of 500 units
from several seeds, on the labels as they are and on shuffled ones, and measures at several epochs
the cosine between the gradient of β and those of the others, over batches of both splits. Writes
``gradient-relation.csv``, a row for each batch, and ``gradient-relation.svg``; docs/gradients.md
shows both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from train_mnist_mlp import read_idx

EPOCHS = (0, 1, 3, 8, 20)
WIDTH = 500
DEPTH = 5
CLASSES = 10
BATCH = 128
RATE, MOMENTUM = 0.05, 0.8
BATCHES = 3  # of each split, at each checkpoint
# Forms of β: which layers count, and whether the output layer counts with its sum.
FORMS = {
    "hidden": "hidden layers",
    "all": "with the mean of the output",
    "script": "with the sum of the output",
}
# Beside β, the mean output itself is compared with the others.
_OUTPUT = "output"
OTHERS = ("output", "loss", "margin", "shuffled loss", "spread", "random")
_LABELS = ("as they are", "shuffled")

# Of the table: what a random direction gives is 0 throughout.
_ROWS = (
    *product(_LABELS[:1], FORMS, OTHERS[:-1]),
    ("as they are", _OUTPUT, "loss"),
    *product(_LABELS[1:], FORMS, ("output", "loss")),
)

Tensors = list[torch.Tensor]


class Perceptron(nn.Module):
    """A perceptron that returns the pre-activations of all its layers."""

    def __init__(self, inputs: int = 784, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        widths = [inputs, *[width] * depth, CLASSES]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def preactivations(self, x: torch.Tensor) -> Tensors:
        """Compute z_1 … z_L, (n, units) each; the last is the output."""
        found: Tensors = []
        for layer in self.layers:
            found.append(layer(torch.relu(found[-1]) if found else x))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the scores of the classes, (n, 10)."""
        return self.preactivations(x)[-1]


def slope(layers: int) -> torch.Tensor:
    """Return c_l = (l − mean l) / Σ (l − mean l)²: β = Σ_l c_l z_l."""
    depth = torch.arange(1, layers + 1, dtype=torch.float64)
    centred = depth - depth.mean()
    return centred / (centred**2).sum()


def beta(preactivations: Tensors, form: str) -> torch.Tensor:
    """Compute β of each sample, (n,), by one of `FORMS`.

    ``hidden`` is cnatool's ``paper+aggregate=mean``, ``all`` the same with ``include_output``, and
    ``script`` that of the authors' ``main_theory.py``: means of hidden layers, but the sum of the
    output layer.
    """
    used = preactivations[:-1] if form == "hidden" else preactivations
    sums = [z.mean(dim=1) for z in used]
    if form == "script":
        sums[-1] = used[-1].sum(dim=1)
    return sum(c * z for c, z in zip(slope(len(sums)).to(used[0].dtype), sums, strict=True))


def margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute each sample's score of its class less the greatest of the others."""
    rows = torch.arange(len(labels))
    others = scores.clone()
    others[rows, labels] = -torch.inf
    return scores[rows, labels] - others.max(dim=1).values


def measure(
    network: Perceptron, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> Iterator[dict[str, object]]:
    """Yield the cosine of the gradient of each β with that of each other quantity, over a batch.

    With respect to all parameters, of the means over the batch; and with respect to the inputs,
    sample by sample, of which the mean is taken.
    """
    x = x.clone().requires_grad_()
    preactivations = network.preactivations(x)
    scores = preactivations[-1]
    shuffled = y[torch.randperm(len(y), generator=generator)]
    others = {
        "output": scores.mean(dim=1),
        "loss": cross_entropy(scores, y, reduction="none"),
        "margin": margin(scores, y),
        "shuffled loss": cross_entropy(scores, shuffled, reduction="none"),
        "spread": scores.std(dim=1),
    }
    found = {name: find_directions(values, network, x) for name, values in others.items()}
    found["random"] = tuple(
        normalize(torch.randn(g.shape, generator=generator), dim=-1) for g in found["output"]
    )
    for form in (*FORMS, _OUTPUT):
        of_beta = found.get(form) or find_directions(beta(preactivations, form), network, x)
        for name, of_other in found.items():
            for variable, first, second in zip(
                ("parameters", "inputs"), of_beta, of_other, strict=True
            ):
                value = float((first * second).sum(dim=-1).mean())
                yield {"beta": form, "other": name, "variable": variable, "cosine": value}


def find_directions(
    values: torch.Tensor, network: nn.Module, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradient of the mean of values by all parameters, (P,), and of each by its x.

    Both at length 1, the second one sample by sample.
    """
    wanted = (*network.parameters(), x)
    found = torch.autograd.grad(
        values.mean(), wanted, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    by_parameters = torch.cat([g.flatten() for g in found[:-1]])
    return normalize(by_parameters, dim=0), normalize(found[-1].flatten(1), dim=1)


def run(
    splits: dict[str, tuple[torch.Tensor, torch.Tensor]], labels: str, seed: int
) -> Iterator[dict[str, object]]:
    """Train with SGD at the supplement's rate, and measure at each of `EPOCHS`."""
    torch.manual_seed(seed)
    network = Perceptron()
    generator = torch.Generator().manual_seed(seed)
    x, y = splits["train"]
    if labels == "shuffled":
        y = y[torch.randperm(len(y), generator=generator)]
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    for epoch in range(EPOCHS[-1] + 1):
        if epoch in EPOCHS:
            yield from _measure_splits(network, {**splits, "train": (x, y)}, labels, seed, epoch)
        if epoch == EPOCHS[-1]:
            return
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()


def _measure_splits(
    network: Perceptron,
    splits: dict[str, tuple[torch.Tensor, torch.Tensor]],
    labels: str,
    seed: int,
    epoch: int,
) -> Iterator[dict[str, object]]:
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    for split, (x, y) in splits.items():
        with torch.no_grad():
            accuracy = float((network(x[:5000]).argmax(dim=1) == y[:5000]).double().mean())
        for batch in range(BATCHES):
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            head = {"labels": labels, "seed": seed, "epoch": epoch, "split": split}
            for found in measure(network, x[rows], y[rows], generator):
                yield {**head, "accuracy": accuracy, "batch": batch, **found}


def summarise(rows: pl.DataFrame) -> pl.DataFrame:
    """Average over the batches of each network, then over seeds; with the range over seeds."""
    keys = ("labels", "epoch", "split", "beta", "other", "variable")
    each = rows.group_by(*keys, "seed", maintain_order=True).agg(
        pl.col("cosine").mean(), pl.col("accuracy").first()
    )
    return each.group_by(*keys, maintain_order=True).agg(
        pl.col("cosine").mean(),
        pl.col("cosine").min().alias("low"),
        pl.col("cosine").max().alias("high"),
        pl.col("accuracy").mean(),
    )


def write_table(summary: pl.DataFrame, variable: str) -> str:
    """Write the cosines over test batches as Markdown: mean over seeds, and their range."""
    chosen = summary.filter(split="test", variable=variable)
    heads = [f"epoch {epoch}" for epoch in EPOCHS]
    lines = [
        f"| labels | gradient of | and of | {' | '.join(heads)} |",
        f"| --- | --- | --- | {' | '.join('---:' for _ in EPOCHS)} |",
    ]
    for labels, form, other in _ROWS:
        row = chosen.filter(labels=labels, beta=form, other=other).sort("epoch")
        cells = [
            f"{value:.2f} ({low:.2f} … {high:.2f})"
            for value, low, high in row.select("cosine", "low", "high").rows()
        ]
        title = f"β: {FORMS[form]}" if form in FORMS else "the mean output"
        lines.append(f"| {labels} | {title} | {other} | {' | '.join(cells)} |")
    return "\n".join(lines).replace("-0.00", "0.00").replace(" -0.", " −0.").replace("(-", "(−")


def draw(summary: pl.DataFrame, path: Path) -> None:
    """Draw the cosine with respect to the parameters over training, for each form of β."""
    titles = pl.col("beta").replace_strict(FORMS, return_dtype=pl.String)
    shown = summary.filter(pl.col("beta").is_in([*FORMS]), split="test", variable="parameters")
    shown = shown.with_columns(titles)
    colours = alt.Color(
        "other:N", title="gradient of", sort=list(OTHERS), legend=alt.Legend(orient="bottom")
    )
    axes = {
        "x": alt.X("epoch:Q", axis=alt.Axis(values=list(EPOCHS), grid=False)),
        "color": colours,
    }
    base = alt.Chart(shown, width=200, height=150)
    scale = alt.Scale(domain=[-1, 1])
    line = base.mark_line(point=True).encode(
        y=alt.Y("cosine:Q", title="cosine with that of β", scale=scale), **axes
    )
    bar = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q", **axes)
    chart = alt.layer(line, bar).facet(
        column=alt.Column("beta:N", title=None, sort=list(FORMS.values())),
        row=alt.Row("labels:N", title="labels", sort=list(_LABELS)),
    )
    chart.configure_view(stroke="#ddd").save(path)


def read_mnist(folder: Path, rows: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read the first rows of the training split, and the test split, with pixels in 0 … 1."""
    splits = {}
    for split, name, most in (("train", "train", rows), ("test", "t10k", 10_000)):
        pixels = read_idx(folder / f"{name}-images-idx3-ubyte.gz")[:most].reshape(-1, 784)
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")[:most]
        x = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
        splits[split] = (x, torch.from_numpy(labels.astype(np.int64)))
    return splits


def main() -> None:
    """Train, measure, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000, help="training samples")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    splits = read_mnist(options.mnist, options.rows)
    found: list[dict[str, object]] = []
    for seed in range(options.seeds):
        for labels in _LABELS:
            found += run(splits, labels, seed)
            print(f"seed {seed}, labels {labels}: accuracy on test {found[-1]['accuracy']}")
    rows = pl.DataFrame(found)
    summary = summarise(rows)
    summary.write_csv(options.output / "gradient-relation.csv", float_precision=4)
    draw(summary, options.output / "gradient-relation.svg")
    for variable in ("parameters", "inputs"):
        print(f"\nby {variable}\n\n{write_table(summary, variable)}")


if __name__ == "__main__":
    main()
