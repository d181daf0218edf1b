"""Folders of studies, trajectories and landscapes: what later commands read of them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

import cnatool
from campaigns.answers import Refused, answer, check_equal
from campaigns.damage import Folder
from campaigns.specimens import QUICK, make_model_and_data, small_chunks
from cnatool.studying.read import read_results

_NETWORKS = 4


class Results:
    """A folder of kept results, and what commands make of it while it is whole."""

    def __init__(self, name: str, folder: Path, readers: Mapping[str, Callable[[], str]]) -> None:
        self.name = name
        self.folder = Folder(folder)
        self._readers = readers
        self._truth = {}
        for each, read in readers.items():
            self._truth[each] = read()
            self.folder.restore()

    def damage(self, rng: random.Random) -> str:
        """Do some damage; say what."""
        name = self.folder.file(rng)
        if rng.random() < 0.75:
            return self.folder.damage(name, rng)
        ways = (self.folder.delete, self.folder.rename, self.folder.duplicate, self.folder.exchange)
        return rng.choice(ways)(name, rng)

    def result(self, rng: random.Random) -> str:
        """Say what commands make of the damage."""
        name = rng.choice(list(self._readers))
        found = answer(self._readers[name])
        if not isinstance(found, Refused):
            check_equal(found, [self._truth[name]], name)
        return f"{name} {'refuses' if isinstance(found, Refused) else 'equal'}"


def results(folder: Path) -> list[Results]:
    """Make stores, and study them."""
    with small_chunks():
        for number in range(_NETWORKS):
            made = folder / f"made{number}"
            make_model_and_data(made, weights=number)
            (folder / "stores").mkdir(exist_ok=True)
            cnatool.dump(
                made / "m.onnx",
                made / "data",
                folder / "stores" / f"{number}.zarr",
                threads=1,
                tags={"epoch": str(number)},
            )
    stores = sorted((folder / "stores").iterdir())
    study, trajectory, landscape = (folder / name for name in ("study", "series", "plane"))

    def again() -> str:
        return cnatool.study(stores, folder=study, resamples=0).networks.write_csv()

    def steps() -> str:
        return cnatool.trajectory(stores, folder=trajectory, overrides=QUICK).steps.write_csv()

    def plane() -> str:
        return cnatool.landscape(stores, folder=landscape, samples=20, grid=3).points.write_csv()

    def plotted(path: Path, figure: str) -> Callable[[], str]:
        return lambda: json.dumps(cnatool.plot(path, figure).to_dict())

    again(), steps(), plane()
    return [
        Results(
            "study",
            study,
            {
                "study": again,
                "reading": lambda: str(_read(study, "study")),
                "plot": plotted(study, "bins"),
                "--from": lambda: cnatool.study(
                    frame=study / "networks.parquet", resamples=0
                ).result.to_json(),
            },
        ),
        Results(
            "trajectory",
            trajectory,
            {
                "trajectory": steps,
                "reading": lambda: str(_read(trajectory, "trajectory")),
                "plot": plotted(trajectory, "trajectory"),
            },
        ),
        Results(
            "landscape",
            landscape,
            {
                "reading": lambda: str(_read(landscape, "landscape")),
                "plot": plotted(landscape, "landscape"),
            },
        ),
    ]


def _read(folder: Path, name: str) -> list[str]:
    found = read_results(folder, name)
    values = [getattr(found, each.name) for each in dataclasses.fields(found)]
    frames = [value.write_csv() for value in values if isinstance(value, pl.DataFrame)]
    return [*frames, found.result.to_json()]
