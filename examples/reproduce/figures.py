"""Figures 4 to 7 of the paper, from the networks of docs/reproduction.md.

python examples/reproduce/figures.py full --cifar10 FOLDER -o pictures

``full`` is the folder that reproduce.py has written. The checkpoints of three runs of one task,
those with the seed given by ``--seed``, are dumped again, for Fig. 4 (accuracy, loss and CNA over
training), Fig. 5 (CNA over the plane of the activations of one of the runs) and Fig. 6 (error by
groups of rising α). Fig. 7 (test accuracy over CNA) is drawn from the table of all networks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from collection import RATES, SEEDS, check_whole, list_runs
from correlating import ACCURACY, CNA, RESAMPLES, Subset
from measuring import MEASURED, dump_network
from networks import NETWORKS, Exporter
from tasks import TASKS, Data, read_task, write_data
from training import History, Run, start

import cnatool

# The network of Fig. 5, and the samples of each split of which whole activations are stored.
PLANE = "vgg"
_PLANE_ROWS = 500


def find_run(task: str, network: str, seed: int) -> Run:
    """Return the run of a task and an architecture at the first rate."""
    runs = list_runs((task,), (network,))
    return next(run for run in runs if (run.rate, run.seed) == (RATES[0], seed))


def dump_run(run: Run, data: Data, models: Path, work: Path, **options: Any) -> Iterator[Path]:
    """Dump the checkpoints of a run, the untrained network first, and yield the stores."""
    history = History(**json.loads((models / run.name / "history.json").read_text()))
    network, exporter = start(run, data).eval(), Exporter(data.shape)
    for epoch in history.epochs:
        path = run.checkpoint_path(models, epoch)
        network.load_state_dict(torch.load(path, weights_only=True))
        store = work / f"{run.network}-epoch{epoch:03}.zarr"
        tags = {"network": run.network, "epoch": str(epoch)}
        dump_network(network, exporter, work / "data", store, tags=tags, **options)
        yield store


def draw_training(
    runs: Sequence[Run], data: Data, models: Path, work: Path, pictures: Path
) -> None:
    """Draw Fig. 4 and Fig. 6 of some runs."""
    write_data(data, work / "data")
    stores = [
        store
        for run in runs
        for store in dump_run(run, data, models, work, keep="statistics", limit=MEASURED)
    ]
    trajectory = cnatool.trajectory(stores, order="epoch", by="network")
    for figure in ("trajectory", "error-by-alpha"):
        cnatool.plot(trajectory, figure).save(pictures / f"reproduction-{figure}.svg")


def draw_plane(run: Run, data: Data, models: Path, work: Path, pictures: Path) -> None:
    """Draw Fig. 5 of a run."""
    write_data(data, work / "data")
    stores = list(dump_run(run, data, models, work, limit=_PLANE_ROWS))
    landscape = cnatool.landscape(stores, order="epoch", samples=_PLANE_ROWS)
    cnatool.plot(landscape, "landscape").save(
        pictures / "reproduction-landscape.png", scale_factor=2
    )


def draw_accuracy(networks: pl.DataFrame, pictures: Path) -> None:
    """Draw Fig. 7: the standard networks above 70 % test accuracy, by task."""
    columns = ["id", "tag.task", "tag.run", ACCURACY, *CNA.values()]
    study = cnatool.study(
        frame=Subset("good").select(networks).select(columns),
        cluster="task",
        hyperparameters=(),
        resamples=RESAMPLES,
    )
    chart = cnatool.plot(study, "bins", measure=list(CNA.values()), by="task")
    chart.save(pictures / "reproduction-bins.svg")


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with networks.parquet and models")
    parser.add_argument("--task", default="cifar10", choices=tuple(TASKS))
    parser.add_argument("--seed", type=int, default=0, choices=range(SEEDS), help="of the runs")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="with MNIST's four IDX files")
    parser.add_argument("--cifar10", type=Path, metavar="FOLDER", help="with two Parquet files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    sources = {"mnist": options.mnist, "cifar10": options.cifar10}
    data = read_task(options.task, {name: path for name, path in sources.items() if path})
    pictures: Path = options.output
    pictures.mkdir(parents=True, exist_ok=True)
    models = options.folder / "models"
    runs = {name: find_run(options.task, name, options.seed) for name in NETWORKS}
    with tempfile.TemporaryDirectory() as work:
        draw_training(list(runs.values()), data, models, Path(work), pictures)
    with tempfile.TemporaryDirectory() as work:
        draw_plane(runs[PLANE], data, models, Path(work), pictures)
    table = options.folder / "networks.parquet"
    networks = pl.read_parquet(table)
    check_whole(networks, table)
    draw_accuracy(networks, pictures)


if __name__ == "__main__":
    main()
