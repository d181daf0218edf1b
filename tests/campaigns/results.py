"""Folders of studies, trajectories and landscapes: what later commands read of them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl

import cnatool
from campaigns.answers import Refused, answer, check_equal
from campaigns.damage import Folder
from campaigns.specimens import QUICK, make_model_and_data, small_chunks
from cnatool.studying.read import read_results

_NETWORKS = 4

_Readers: TypeAlias = Mapping[str, Callable[[], str]]


class Results:
    """A folder of kept results, and what commands make of it while it is whole."""

    def __init__(
        self,
        name: str,
        folder: Path,
        make: Callable[[], object],
        readers: _Readers,
    ) -> None:
        self.name = name
        make()
        self.folder = Folder(folder)
        self._readers = readers
        self._truth: dict[str, str] = {}

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
            if name not in self._truth:
                self.folder.restore()
                self._truth[name] = self._readers[name]()
            check_equal(found, [self._truth[name]], name)
        return f"{name} {'refuses' if isinstance(found, Refused) else 'equal'}"


def results(folder: Path) -> list[Callable[[], Results]]:
    """Give what studies stores, in one way or another; the first one makes these."""
    stores = [folder / "stores" / f"{number}.zarr" for number in range(_NETWORKS)]
    study, trajectory, landscape = (folder / name for name in ("study", "series", "plane"))

    def again() -> str:
        return cnatool.study(stores, folder=study, resamples=0).networks.write_csv()

    def steps() -> str:
        return cnatool.trajectory(stores, folder=trajectory, overrides=QUICK).steps.write_csv()

    def plane() -> str:
        return cnatool.landscape(stores, folder=landscape, samples=20, grid=3).points.write_csv()

    def plotted(path: Path, figure: str) -> Callable[[], str]:
        return lambda: json.dumps(cnatool.plot(path, figure).to_dict())

    def made(name: str, folder: Path, make: Callable[[], str], readers: _Readers) -> Results:
        _make_stores(folder.parent, stores)
        return Results(name, folder, make, readers)

    return [
        partial(
            made,
            "study",
            study,
            again,
            {
                "study": again,
                "reading": lambda: str(_read(study, "study")),
                "plot": plotted(study, "bins"),
                "--from": lambda: cnatool.study(
                    frame=study / "networks.parquet", resamples=0
                ).result.to_json(),
            },
        ),
        partial(
            made,
            "trajectory",
            trajectory,
            steps,
            {
                "trajectory": steps,
                "reading": lambda: str(_read(trajectory, "trajectory")),
                "plot": plotted(trajectory, "trajectory"),
            },
        ),
        partial(
            made,
            "landscape",
            landscape,
            plane,
            {
                "reading": lambda: str(_read(landscape, "landscape")),
                "plot": plotted(landscape, "landscape"),
            },
        ),
    ]


def _make_stores(folder: Path, stores: list[Path]) -> None:
    if stores[0].exists():
        return
    stores[0].parent.mkdir()
    with small_chunks():
        for number, store in enumerate(stores):
            made = folder / f"made{number}"
            make_model_and_data(made, weights=number)
            tags = {"epoch": str(number)}
            cnatool.dump(made / "m.onnx", made / "data", store, threads=1, tags=tags)


def _read(folder: Path, name: str) -> list[str]:
    found = read_results(folder, name)
    values = [getattr(found, each.name) for each in dataclasses.fields(found)]
    frames = [value.write_csv() for value in values if isinstance(value, pl.DataFrame)]
    return [*frames, found.result.to_json()]
