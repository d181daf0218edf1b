"""Which networks a collection holds, where its files are, and its training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from datasets import Data, of_kind, read_data, write_data
from networks import Exporter
from training import Run, is_trained, seconds, train


@dataclass(frozen=True)
class Collection:
    """All settings of a collection; they are kept beside its results.

    Attributes
    ----------
    datasets, kinds, networks : tuple of str
        Every combination is trained.
    seeds : int
        So many times each, with the seeds 0, 1, ….
    epochs : tuple of int
        After which there is a checkpoint.
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
        """List the runs; all combinations come once before any comes with a second seed."""
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
    """The folder in which a collection is made.

    Parameters
    ----------
    folder : Path
        Holds ``models``, ``data``, ``stores`` and ``study``.
    collection : Collection
        Must be the one that the folder was begun with.
    folders : dict of str to Path
        Where datasets are.
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
            raise SystemExit(f"{path} is of another collection: name another folder with -o.")
        path.write_text(settings)

    @cached_property
    def models(self) -> Path:
        """Where networks are, a folder a run."""
        return self.folder / "models"

    @cached_property
    def stores(self) -> Path:
        """Where stores are, a folder a run."""
        return self.folder / "stores"

    @cached_property
    def results(self) -> Path:
        """Where the small files are that `tables.py` makes tables from."""
        return self.folder / "results"

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took up to now, all attempts together."""
        path = self.folder / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add to the time of a stage, however it ends."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start
            (self.folder / "seconds.json").write_text(json.dumps(spent, indent=1) + "\n")

    def data(self, run: Run) -> Data:
        """Give the data of a run."""
        if run.dataset not in self._read:
            most = self.collection.rows, self.collection.test_rows
            self._read[run.dataset] = read_data(run.dataset, self._folders.get(run.dataset), *most)
        return of_kind(self._read[run.dataset], run.dataset, run.kind)

    def data_folder(self, run: Run) -> Path:
        """Write the data of a run where `cnatool dump` reads them, and give that folder."""
        folder = self.folder / "data" / f"{run.dataset}-{run.kind}"
        write_data(self.data(run), folder)
        return folder

    def train_all(self) -> None:
        """Train what is not trained yet, and say beforehand how long it will take."""
        runs = [run for run in self.collection.runs() if not is_trained(run, self.models)]
        if not runs:
            return
        each = {
            (run.dataset, run.network): seconds(run, self.data(run))
            for run in {(run.dataset, run.network): run for run in runs}.values()
        }
        left = sum(each[run.dataset, run.network] for run in runs)
        print(f"training {len(runs)} runs: about {_duration(left)}", flush=True)
        judged = done = 0.0
        for number, run in enumerate(runs, start=1):
            start = time.perf_counter()
            exporter = self._exporters.setdefault(
                (run.dataset, run.network), Exporter(self.data(run).shape)
            )
            train(run, self.data(run), exporter, self.models)
            done += time.perf_counter() - start
            judged += each[run.dataset, run.network]
            rest = (left - judged) * done / judged
            print(f"{number} of {len(runs)} {run.name}: {_duration(rest)} left", flush=True)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
