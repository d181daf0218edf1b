"""Results of trained networks: dumps, studies, figures, and the small files that are kept."""

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

# The measures in the tables, in the order of unsorted ones.
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
# PyTorch and ONNX Runtime sum in different orders: one prediction in a thousand may differ.
_TOLERATED = 0.001
_FIGURES = ("bins", "gap", "measures")


def dump_all(place: Workplace) -> None:
    """Dump statistics of every checkpoint, or continue; stores of the same inputs share them."""
    bases: dict[tuple[str, bool], Path] = {}
    runs = place.collection.runs()
    for number, run in enumerate(runs, start=1):
        data = place.write_data(run)
        for epoch in run.epochs:
            store = place.stores / run.name / f"epoch{epoch:03}.zarr"
            store.parent.mkdir(parents=True, exist_ok=True)
            base = bases.setdefault((run.dataset, run.kind == "noise"), store)
            cnatool.dump(
                run.checkpoint_path(place.models, epoch),
                data,
                store,
                keep="statistics",
                initial_model=run.checkpoint_path(place.models, 0),
                inputs_from=None if base == store else base,
                tags=_make_tags(run, epoch),
                resume=True,
            )
        if number % 5 == 0 or number == len(runs):
            print(f"dumped {number} of {len(runs)} runs", flush=True)


def _make_tags(run: Run, epoch: int) -> dict[str, str]:
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

    The convention is `paper`, and for CNA also `legacy`, that of the authors' older scripts. Writes
    the small files from which `tables.py` makes tables, and the figures.
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
    correlations = list(_list_correlations("all", whole))
    for name, part in subsets.items():
        if part.is_empty():
            continue
        correlations += _list_correlations(name, _study_part(place, name.split()[0], part, by))
    again = _study_part(place, "kinds", networks, "kind")
    correlations += [row for row in _list_correlations("kinds", again) if row["group"] is not None]
    legacy = place.folder / "study-legacy"
    _study(legacy, by, place.stores, "--convention", "legacy")
    folders = {"paper": whole, "legacy": legacy}
    others = pl.read_parquet(legacy / "networks.parquet").filter(good)
    if not others.is_empty():
        folders |= {
            "paper, above 70 %": place.folder / "study-above",
            "legacy, above 70 %": _study_part(place, "legacy-above", others, by),
        }
    for name, folder in folders.items():
        rows = (row for row in _list_correlations("conventions", folder) if row["group"] is None)
        correlations += [row | {"group": name} for row in rows if row["measure"] in _OF_CNA]
    place.results.mkdir(exist_ok=True)
    _write_csv(place.results / "correlations.csv", correlations)
    _write_csv(place.results / "networks.csv", _list_networks(networks))
    _write_csv(place.results / "bins.csv", _list_bins(whole))
    facts = {
        **asdict(place.collection),
        "networks_studied": len(networks),
        "runs": len(place.collection.runs()),
        "above_70_percent": len(subsets["above 70 %"]),
        "versions": {"cnatool": cnatool.__version__, "torch": torch.__version__.partition("+")[0]},
        "seconds": {stage: round(value) for stage, value in place.seconds.items()},
        "accuracy_differs_from_pytorch_by": _compare_accuracy(place, networks),
    }
    (place.results / "collection.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(whole, place.folder / "figures")


def _study(folder: Path, by: str, *words: object) -> None:
    # A single comparison, since that with each baseline would take most of the time.
    comparison = ("--compare", "cna_margin,margin")
    _cnatool("study", *words, "-o", folder, "--cluster", "run", "--by", by, *comparison)


def _study_part(place: Workplace, name: str, networks: pl.DataFrame, by: str) -> Path:
    """Study some of the networks, and return the folder of that study."""
    folder = place.folder / f"study-{name}"
    folder.mkdir(exist_ok=True)
    networks.write_parquet(folder / "chosen.parquet")
    _study(folder, by, "--from", folder / "chosen.parquet")
    return folder


def _cnatool(*words: object) -> None:
    command = [sys.executable, "-m", "cnatool", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _list_correlations(subset: str, folder: Path) -> Iterable[dict[str, object]]:
    """Return a row per measure, group and target, with all coefficients of the tables."""
    frame = pl.read_parquet(folder / "correlations.parquet").filter(
        pl.col("measure").is_in(MEASURES) & pl.col("coefficient").is_in(_COEFFICIENTS)
    )
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    for line in frame.iter_rows(named=True):
        head = {key: line[key] for key in ("group", "target", "measure", "kind", "networks")}
        row = rows.setdefault(tuple(head.values()), {"subset": subset, **head})
        row["clusters"] = line["clusters"]
        row[line["coefficient"]] = _round(line["value"])
        if line["coefficient"] == "pearson":
            row |= {"low": _round(line["low"]), "high": _round(line["high"])}
    return rows.values()


def _list_networks(networks: pl.DataFrame) -> Iterable[dict[str, object]]:
    for row in networks.iter_rows(named=True):
        tags = {name: row[f"tag.{name}"] for name in _TAGS}
        # Not rounded, since rounding would make some numbers equal and change their ranks.
        yield tags | {name: row.get(name) for name in _KEPT}


def _list_bins(folder: Path) -> Iterable[dict[str, object]]:
    """Yield the means over 25 networks each, by rising test accuracy (paper Fig. 7)."""
    for row in pl.read_parquet(folder / "bins.parquet").iter_rows(named=True):
        means = {name: _round(row.get(name)) for name in ("test.accuracy", *_OF_CNA)}
        yield {"networks": row["networks"], **means}


def _round(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _write_csv(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", restval=None)
        writer.writeheader()
        writer.writerows(rows)


def _compare_accuracy(place: Workplace, networks: pl.DataFrame) -> float:
    """Return the largest difference between accuracies of stores and of PyTorch.

    Raises
    ------
    RuntimeError
        If rounding does not explain it.
    """
    rows = {(row["tag.run"], int(row["tag.epoch"])): row for row in networks.iter_rows(named=True)}
    most = 0.0
    for run in place.collection.runs():
        assert is_trained(run, place.models)
        for record in json.loads((place.models / run.name / "training.json").read_text()):
            row = rows[run.name, int(record["epoch"])]
            for column in ("train.accuracy", "test.accuracy"):
                most = max(most, abs(row[column] - record[column]))
    if most > _TOLERATED:
        raise RuntimeError(f"accuracy differs from PyTorch's by {most:.4f}")
    return most


def draw(study: Path, folder: Path) -> None:
    """Draw the figures of a study, if the packages for `cnatool plot` are installed."""
    if not all(map(find_spec, ("altair", "vl_convert"))):
        print("no figures: they need `python -m pip install 'cnatool[plot]'`")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in _FIGURES:
        _cnatool("plot", study, "--figure", name, "-o", folder / f"{name}.svg")
