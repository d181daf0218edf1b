"""Measures of every checkpoint of a run: dumped, scored, and compared with PyTorch."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from networks import Exporter, Standardize
from tasks import SPLITS, Data, write_data
from torch import nn
from training import BATCH, History, Run, start

import cnatool
from cnatool.recorders.torch import Recorder

# Samples of each split that measures are computed from, the first ones.
MEASURED = 10_000
# The batches in which the authors' scripts ran networks in training mode.
RECORDED = 512
# By the prefix of their columns: a convention, overrides, and how columns that change begin.
_VARYING = ("cna", "margin", "gap", "alpha.", "beta.")
CONVENTIONS: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "": ("paper", {}, ("",)),
    "reference:": ("reference", {}, _VARYING),
    "legacy:": ("legacy", {}, _VARYING),
    "area=reference:": ("paper", {"area": "reference"}, ("cna_area", "cna_margin")),
    "margin_split=test:": ("paper", {"margin_split": "test"}, ("margin", "cna_margin")),
}
_TRAINING_MODE = "training-mode:"
# PyTorch and ONNX Runtime sum in different orders: one prediction in a thousand may differ.
_TOLERATED = 0.001

Row = dict[str, object]


def measure(run: Run, history: History, data: Data, models: Path) -> pl.DataFrame:
    """Return a row of measures for each checkpoint of a run; those measured before are kept."""
    own = models / run.name
    work = own / "work"
    shutil.rmtree(work, ignore_errors=True)
    network = start(run, data).eval().to(memory_format=torch.channels_last)
    # All samples, whose number is that of a bound; `MEASURED` of them are dumped.
    write_data(data, work / "data")
    data = data.head(MEASURED)
    exporter = Exporter(data.shape)
    exporter.write(network[1:], work / "epoch000.onnx")
    rows = []
    for epoch in history.epochs[1:]:
        path = own / f"epoch{epoch:03}.parquet"
        if not path.exists():
            network.load_state_dict(
                torch.load(run.checkpoint_path(models, epoch), weights_only=True)
            )
            row = _describe(run, history, epoch) | _measure_network(network, exporter, data, work)
            partial = own / ".row.partial"
            pl.DataFrame([row], infer_schema_length=None).write_parquet(partial)
            partial.replace(path)
        rows.append(pl.read_parquet(path))
    shutil.rmtree(work)
    return pl.concat(rows, how="diagonal_relaxed")


def _describe(run: Run, history: History, epoch: int) -> Row:
    return {
        "id": f"{run.name}-epoch{epoch:03}",
        "tag.task": run.task,
        "tag.kind": run.kind,
        "tag.network": run.network,
        "tag.rate": f"{run.rate:g}",
        "tag.seed": str(run.seed),
        "tag.run": run.name,
        "tag.epoch": str(epoch),
        "tag.last": str(epoch == history.epochs[-1]),
        "tag.converged": str(history.converged),
        "epoch_loss": history.losses[epoch - 1],
    }


def dump_network(
    network: nn.Sequential, exporter: Exporter, data: Path, path: Path, **options: Any
) -> cnatool.Store:
    """Export a network and dump it over data.

    The path norm is undefined behind an offset, so that inputs are standardized before the graph.

    Parameters
    ----------
    network : nn.Sequential
        From `networks.build`.
    exporter : Exporter
        Of its architecture.
    data : Path
        Folder that `tasks.write_data` has written.
    path : Path
        Of the store, which is replaced; the ONNX file is written beside it.
    **options
        Of `cnatool.dump`.
    """
    standardize = network[0]
    assert isinstance(standardize, Standardize)
    model = path.with_suffix(".onnx")
    exporter.write(network[1:], model)
    return cnatool.dump(
        model,
        data,
        path,
        mean=standardize.mean.flatten().tolist(),
        std=standardize.deviation.flatten().tolist(),
        threads=1,
        overwrite=True,
        **options,
    )


def _measure_network(network: nn.Sequential, exporter: Exporter, data: Data, work: Path) -> Row:
    store = dump_network(
        network,
        exporter,
        work / "data",
        work / "network.zarr",
        keep="statistics",
        limit=MEASURED,
        initial_model=work / "epoch000.onnx",
    )
    row: Row = {}
    for prefix in CONVENTIONS:
        row |= dict(_score(store.path, prefix))
    # By rising α (paper Fig. 6); no intervals, which would take most of the time.
    scores = cnatool.score(
        store, overrides={"resamples": 0, "area_resamples": 0, "permutations": 0}
    )
    for number, group in enumerate(scores.splits["test"].alpha_groups, start=1):
        row |= {f"test.alpha.{number}": group.alpha_mean, f"test.error.{number}": group.error}
    row |= _compare_accuracy(network, data, row)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        recorded = work / "recorded.zarr"
        _record(network, data, recorded)
        for prefix in ("", "legacy:"):
            columns = _score(recorded, prefix)
            row |= {_TRAINING_MODE + name: value for name, value in columns}
    return row


def _score(store: Path, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield the measures of one store, under the names that `cnatool study` gives them."""
    convention, overrides, varying = CONVENTIONS[prefix]
    networks = cnatool.study(
        [store], convention=convention, overrides=overrides, resamples=0
    ).networks
    for name, value in networks.row(0, named=True).items():
        measure = name.removeprefix("train.").removeprefix("test.")
        if isinstance(value, (float, int)) and measure.startswith(varying):
            yield prefix + name, value


def _record(network: nn.Sequential, data: Data, store: Path) -> None:
    """Record a copy of a network in training mode, in batches in the order of the samples."""
    # In PyTorch's own memory format batch normalisation adds up in float64; the format in which
    # convolutions are faster has means of batches of 512 with an error that moves β by 0.1 %.
    network = copy.deepcopy(network).train().to(memory_format=torch.contiguous_format)
    recorder = Recorder(network, store, statistics="sum", overwrite=True)
    with recorder, torch.no_grad():
        for split in SPLITS:
            inputs = torch.from_numpy(data.inputs(split))
            for first in range(0, len(inputs), RECORDED):
                rows = slice(first, first + RECORDED)
                with recorder.batch(
                    split, inputs=data.images[split][rows], labels=data.labels[split][rows]
                ):
                    network(inputs[rows])


@torch.no_grad()
def _compare_accuracy(network: nn.Module, data: Data, row: Row) -> Row:
    """Compute PyTorch's own accuracies.

    Raises
    ------
    RuntimeError
        If rounding does not explain how they differ from those of the row.
    """
    own: Row = {}
    for split in SPLITS:
        inputs = torch.from_numpy(data.inputs(split)).contiguous(memory_format=torch.channels_last)
        scores = torch.cat([network(part) for part in inputs.split(BATCH)])
        accuracy = float(np.mean(scores.argmax(1).numpy() == data.labels[split]))
        found = row[f"{split}.accuracy"]
        if not isinstance(found, float) or abs(found - accuracy) > _TOLERATED:
            raise RuntimeError(f"{split}: accuracy {found}, PyTorch's {accuracy}")
        own[f"torch.{split}.accuracy"] = accuracy
    return own
