"""From trained networks to results: dumps, scores, studies, pictures, and the small files kept."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import torch
from collection import Workplace
from training import Run, is_trained

import cnatool

# The measures that the tables show, in this order where nothing sorts them.
MEASURES = (
    "train.cna",
    "test.cna",
    "cna_area",
    "margin",
    "cna_margin",
    "log.l2",
    "log.spectral",
    "log.l2_path",
    "log.bound_2018",
    "train.accuracy",
    "train.loss",
    "log.parameter_norm",
    "log.distance",
)
_OF_CNA = ("train.cna", "test.cna", "cna_area", "cna_margin")
_KEPT = ("test.accuracy", "test.loss", "gap", *MEASURES)
_TAGS = ("dataset", "network", "kind", "seed", "run", "epoch")
_COEFFICIENTS = ("pearson", "spearman", "kendall_b", "quadratic_r2")
_GOOD = 0.7
# PyTorch and ONNX Runtime add in different orders: a sample in a thousand may fall on another side.
_TOLERATED = 0.001
_FIGURES = ("bins", "gap", "measures")


def dump_all(place: Workplace) -> None:
    """Dump every checkpoint, with sums instead of activations; stores of equal inputs share them.

    Goes on where it was cut off.
    """
    bases: dict[tuple[str, bool], Path] = {}
    runs = place.collection.runs()
    for number, run in enumerate(runs, start=1):
        data = place.data_folder(run)
        for epoch in run.epochs:
            store = place.stores / run.name / f"epoch{epoch:03}.zarr"
            store.parent.mkdir(parents=True, exist_ok=True)
            base = bases.setdefault((run.dataset, run.kind == "noise"), store)
            cnatool.dump(
                run.checkpoint(place.models, epoch),
                data,
                store,
                keep="statistics",
                initial_model=run.checkpoint(place.models, 0),
                inputs_from=None if base == store else base,
                tags=_tags(run, epoch),
                resume=True,
            )
        if number % 5 == 0 or number == len(runs):
            print(f"dumped {number} of {len(runs)} runs", flush=True)


def _tags(run: Run, epoch: int) -> dict[str, str]:
    return {
        "dataset": run.dataset,
        "network": run.network,
        "kind": run.kind,
        "seed": str(run.seed),
        "run": run.name,
        "epoch": str(epoch),
    }


def study_all(place: Workplace) -> None:
    """Study all networks, those of more than 70 % test accuracy, and those at the end of training.

    All by the convention `paper`, and CNA by `legacy` too, as the authors' older scripts have it.
    Writes the small files that `tables.py` makes tables from, and draws.
    """
    several = len(place.collection.datasets) > 1
    by = "dataset" if several else "network"
    whole = place.folder / "study"
    _study(whole, by, place.stores)
    networks = pl.read_parquet(whole / "networks.parquet")
    good = pl.col("test.accuracy") > _GOOD
    subsets = {
        "above 70 %": networks.filter(good),
        "trained": networks.filter(pl.col("tag.epoch") == str(place.collection.epochs[-1])),
    }
    found = list(_correlations("all", whole))
    for name, part in subsets.items():
        if part.is_empty():
            continue
        found += _correlations(name, _studied_again(place, name.split()[0], part, by))
    again = _studied_again(place, "kinds", networks, "kind")
    found += [row for row in _correlations("kinds", again) if row["group"] is not None]
    legacy = place.folder / "study-legacy"
    _study(legacy, by, place.stores, "--convention", "legacy")
    folders = {"paper": whole, "legacy": legacy}
    others = pl.read_parquet(legacy / "networks.parquet").filter(good)
    if not others.is_empty():
        folders |= {
            "paper, above 70 %": place.folder / "study-above",
            "legacy, above 70 %": _studied_again(place, "legacy-above", others, by),
        }
    for name, folder in folders.items():
        rows = (row for row in _correlations("conventions", folder) if row["group"] is None)
        found += [row | {"group": name} for row in rows if row["measure"] in _OF_CNA]
    place.results.mkdir(exist_ok=True)
    _write_csv(place.results / "correlations.csv", found)
    _write_csv(place.results / "networks.csv", _rows(networks))
    _write_csv(place.results / "bins.csv", _bins(whole))
    facts = {
        **asdict(place.collection),
        "networks_studied": len(networks),
        "runs": len(place.collection.runs()),
        "above_70_percent": len(subsets["above 70 %"]),
        "versions": {"cnatool": cnatool.__version__, "torch": torch.__version__.partition("+")[0]},
        "seconds": {stage: round(value) for stage, value in place.seconds.items()},
        "accuracy_differs_from_pytorch_by": _difference(place, networks),
    }
    (place.results / "collection.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(whole, place.folder / "figures")


def _study(folder: Path, by: str, *words: object) -> None:
    # One comparison instead of one with each baseline, which would take most of the time.
    compared = ("--compare", "cna_margin,margin")
    _cnatool("study", *words, "-o", folder, "--cluster", "run", "--by", by, *compared)


def _studied_again(place: Workplace, name: str, networks: pl.DataFrame, by: str) -> Path:
    """Study some of the networks, and give the folder of that study."""
    folder = place.folder / f"study-{name}"
    folder.mkdir(exist_ok=True)
    networks.write_parquet(folder / "chosen.parquet")
    _study(folder, by, "--from", folder / "chosen.parquet")
    return folder


def _cnatool(*words: object) -> None:
    command = [sys.executable, "-m", "cnatool", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _correlations(subset: str, folder: Path) -> Iterable[dict[str, object]]:
    """Give a row for each measure, group and target, with all coefficients of the tables."""
    frame = pl.read_parquet(folder / "correlations.parquet").filter(
        pl.col("measure").is_in(MEASURES) & pl.col("coefficient").is_in(_COEFFICIENTS)
    )
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    for one in frame.iter_rows(named=True):
        head = {key: one[key] for key in ("group", "target", "measure", "kind", "networks")}
        row = rows.setdefault(tuple(head.values()), {"subset": subset, **head})
        row["clusters"] = one["clusters"]
        row[one["coefficient"]] = _digits(one["value"])
        if one["coefficient"] == "pearson":
            row |= {"low": _digits(one["low"]), "high": _digits(one["high"])}
    return rows.values()


def _rows(networks: pl.DataFrame) -> Iterable[dict[str, object]]:
    for one in networks.iter_rows(named=True):
        tags = {name: one[f"tag.{name}"] for name in _TAGS}
        # To the last digit: of rounded numbers some would be equal, and their ranks others.
        yield tags | {name: one.get(name) for name in _KEPT}


def _bins(folder: Path) -> Iterable[dict[str, object]]:
    """Give the means over 25 networks each, by rising test accuracy (paper Fig. 7)."""
    for one in pl.read_parquet(folder / "bins.parquet").iter_rows(named=True):
        means = {name: _digits(one.get(name)) for name in ("test.accuracy", *_OF_CNA)}
        yield {"networks": one["networks"], **means}


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _write_csv(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", restval=None)
        writer.writeheader()
        writer.writerows(rows)


def _difference(place: Workplace, networks: pl.DataFrame) -> float:
    """Give by how much accuracy of the stores differs from PyTorch's at most.

    Raises
    ------
    RuntimeError
        If that is more than rounding explains.
    """
    found = {(one["tag.run"], int(one["tag.epoch"])): one for one in networks.iter_rows(named=True)}
    most = 0.0
    for run in place.collection.runs():
        assert is_trained(run, place.models)
        for record in json.loads((place.models / run.name / "training.json").read_text()):
            one = found[run.name, int(record["epoch"])]
            for column in ("train.accuracy", "test.accuracy"):
                most = max(most, abs(one[column] - record[column]))
    if most > _TOLERATED:
        raise RuntimeError(f"accuracy differs from PyTorch's by {most:.4f}")
    return most


def draw(study: Path, folder: Path) -> None:
    """Draw the figures of a study, where what `cnatool plot` takes is installed."""
    if not all(map(find_spec, ("altair", "vl_convert"))):
        print("no pictures: they need `python -m pip install 'cnatool[plot]'`")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in _FIGURES:
        _cnatool("plot", study, "--figure", name, "-o", folder / f"{name}.svg")
