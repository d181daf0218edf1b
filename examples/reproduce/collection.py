"""A collection of networks: its settings, its files and its training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from datasets import Data, read_data, vary_data, write_data
from networks import Exporter
from training import Run, estimate_seconds, is_trained, train


@dataclass(frozen=True)
class Collection:
    """The settings of a collection, which are kept with its results.

    Attributes
    ----------
    datasets, kinds, networks : tuple of str
        Every combination is trained.
    seeds : int
        Number of seeds, 0, 1, …, of each combination.
    epochs : tuple of int
        Epochs with a checkpoint.
    rows, test_rows : int or None
        Samples of each split; None for all.
    """

    datasets: tuple[str, ...]
    kinds: tuple[str, ...]
    networks: tuple[str, ...]
    seeds: int
    epochs: tuple[int, ...]
    rows: int | None = None
    test_rows: int | None = None

    def runs(self) -> list[Run]:
        """List the runs, all combinations with one seed before those with the next."""
        return [
            Run(dataset, kind, network, seed, self.epochs)
            for seed in range(self.seeds)
            for dataset in self.datasets
            for kind in self.kinds
            for network in self.networks
        ]


QUICK = Collection(
    datasets=("digits",),
    kinds=("standard", "shuffled-10", "shuffled-30", "shuffled-50", "noise"),
    networks=("mlp", "vgg", "resnet"),
    seeds=2,
    epochs=(0, 1, 2, 5, 10, 20),
)
FULL = Collection(
    datasets=("digits", "mnist", "cifar10"),
    kinds=(
        "standard",
        "shuffled-10",
        "shuffled-20",
        "shuffled-30",
        "shuffled-40",
        "shuffled-50",
        "noise",
    ),
    networks=("mlp", "vgg", "resnet"),
    seeds=3,
    epochs=(0, 1, 2, 4, 8, 14, 20),
)


class Workplace:
    """The folder of a collection.

    Parameters
    ----------
    folder : Path
        Holds ``models``, ``data``, ``stores`` and ``study``.
    collection : Collection
        Must be the one with which the folder was created.
    folders : dict of str to Path
        Folders of the datasets.
    """

    def __init__(self, folder: Path, collection: Collection, folders: dict[str, Path]) -> None:
        self.folder = folder
        self.collection = collection
        self._folders = folders
        self._read: dict[str, Data] = {}
        self._exporters: dict[tuple[str, str], Exporter] = {}
        folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(asdict(collection), indent=1) + "\n"
        path = folder / "collection.json"
        if path.exists() and path.read_text() != settings:
            raise SystemExit(f"{path} is of another collection: name another folder with --output.")
        path.write_text(settings)

    @cached_property
    def models(self) -> Path:
        """Folder of the networks, with one folder per run."""
        return self.folder / "models"

    @cached_property
    def stores(self) -> Path:
        """Folder of the stores, with one folder per run."""
        return self.folder / "stores"

    @cached_property
    def results(self) -> Path:
        """Folder of the small files from which `tables.py` makes tables."""
        return self.folder / "results"

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each stage so far, over all attempts."""
        path = self.folder / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def measure_time(self, stage: str) -> Iterator[None]:
        """Add the time of the body to that of a stage, even if it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start
            (self.folder / "seconds.json").write_text(json.dumps(spent, indent=1) + "\n")

    def read_data(self, run: Run) -> Data:
        """Read the data of a run."""
        if run.dataset not in self._read:
            most = self.collection.rows, self.collection.test_rows
            self._read[run.dataset] = read_data(run.dataset, self._folders.get(run.dataset), *most)
        return vary_data(self._read[run.dataset], run.dataset, run.kind)

    def write_data(self, run: Run) -> Path:
        """Write the data of a run for `cnatool dump`, and return their folder."""
        folder = self.folder / "data" / f"{run.dataset}-{run.kind}"
        write_data(self.read_data(run), folder)
        return folder

    def train_all(self) -> None:
        """Train the runs that are not trained yet, and print an estimate of the time."""
        runs = [run for run in self.collection.runs() if not is_trained(run, self.models)]
        if not runs:
            return
        each = {
            (run.dataset, run.network): estimate_seconds(run, self.read_data(run))
            for run in {(run.dataset, run.network): run for run in runs}.values()
        }
        total = sum(each[run.dataset, run.network] for run in runs)
        print(f"training {len(runs)} runs: about {_duration(total)}", flush=True)
        estimated = done = 0.0
        for number, run in enumerate(runs, start=1):
            start = time.perf_counter()
            exporter = self._exporters.setdefault(
                (run.dataset, run.network), Exporter(self.read_data(run).shape)
            )
            train(run, self.read_data(run), exporter, self.models)
            done += time.perf_counter() - start
            estimated += each[run.dataset, run.network]
            rest = (total - estimated) * done / estimated
            print(f"{number} of {len(runs)} {run.name}: {_duration(rest)} left", flush=True)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
