"""The reproduction: its tables are those of its files, its files are right, its script runs."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
from support.command import python

import cnatool

FOLDER = Path(__file__).parents[2] / "examples" / "reproduce"
RESULTS = sorted(path.parent for path in FOLDER.glob("results/*/collection.json"))
COEFFICIENTS = {
    "pearson": scipy.stats.pearsonr,
    "spearman": scipy.stats.spearmanr,
    "kendall_b": scipy.stats.kendalltau,
}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reproduction_tables", FOLDER / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_docs_have_the_tables_of_the_result_files(tables: ModuleType) -> None:
    text = tables.DOCS.read_text("utf-8")
    assert list(tables.list_collections()) == RESULTS != []
    assert tables.insert_tables(text, RESULTS) == text
    for folder in RESULTS:
        assert tables.render(folder) in text


def chosen(row: dict[str, str], networks: list[dict[str, str]], by: str) -> list[dict[str, str]]:
    """Give the networks that a row of correlations is of; those by the paper's convention."""
    last = str(max(int(one["epoch"]) for one in networks))
    subset, group = row["subset"], row["group"]
    return [
        one
        for one in networks
        if (subset != "above 70 %" or float(one["test.accuracy"]) > 0.7)
        and (subset != "trained" or one["epoch"] == last)
        and (not group or one["kind" if subset == "kinds" else by] == group)
    ]


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_correlations_are_those_of_the_networks(folder: Path) -> None:
    networks = read(folder / "networks.csv")
    facts = json.loads((folder / "collection.json").read_text())
    assert facts["networks_studied"] == len(networks) == facts["runs"] * len(facts["epochs"]) >= 60
    assert len({(one["run"], one["epoch"]) for one in networks}) == len(networks)
    by = "dataset" if len(facts["datasets"]) > 1 else "network"
    checked = 0
    for row in read(folder / "correlations.csv"):
        if row["subset"] == "conventions":
            continue
        pairs = [
            (float(one[row["measure"]]), float(one[row["target"]]))
            for one in chosen(row, networks, by)
            if one[row["measure"]] and one[row["target"]]
        ]
        assert int(row["networks"]) == len(pairs)
        for name, coefficient in COEFFICIENTS.items():
            if not row[name]:
                continue
            # Six digits of coefficients are kept.
            found, truth = float(row[name]), coefficient(*np.array(pairs).T).statistic
            assert math.isclose(found, truth, abs_tol=2e-6), (row, name, truth)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_bins_are_means_of_the_networks(folder: Path) -> None:
    networks = sorted(read(folder / "networks.csv"), key=lambda one: float(one["test.accuracy"]))
    for number, row in enumerate(read(folder / "bins.csv")):
        own = networks[25 * number : 25 * number + 25]
        assert int(row["networks"]) == len(own) > 0
        for name in row.keys() - {"networks"}:
            mean = np.mean([float(one[name]) for one in own])
            assert math.isclose(float(row[name]), mean, rel_tol=1e-5), (number, name)
    assert 25 * number + len(own) == len(networks)


def test_a_small_collection(tmp_path: Path) -> None:
    """From training to results, twice; the second time nothing is left to do."""
    pytest.importorskip("torch", reason="the reproduction trains with PyTorch")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter needs it")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    words = "--quick --networks vgg --kinds standard,shuffled-50 --epochs 0,2 --seeds 1"
    command = [FOLDER / "reproduce.py", *words.split()]
    command += ["--rows", "400", "--test-rows", "100", "-o", tmp_path / "out"]
    assert "training 2 runs" in python(*command)
    results = tmp_path / "out/results"
    facts = json.loads((results / "collection.json").read_text())
    assert facts["networks_studied"] == 4
    assert facts["accuracy_differs_from_pytorch_by"] <= 0.001
    networks = read(results / "networks.csv")
    assert {one["kind"] for one in networks} == {"standard", "shuffled-50"}
    stores = sorted((tmp_path / "out/stores").glob("*/*.zarr"))
    held = [s for s in stores if cnatool.open(s).splits["train"].record.inputs_from is None]
    assert len(stores) == 4
    assert len(held) == 1
    assert all(cnatool.verify(store).faults == () for store in stores)
    one, other = (
        cnatool.open(tmp_path / f"out/stores/digits-vgg-{kind}-seed0/epoch002.zarr")
        for kind in ("standard", "shuffled-50")
    )
    labels = [np.asarray(store.splits["train"].labels) for store in (one, other)]
    assert 0.3 < np.mean(labels[0] != labels[1]) <= 0.5
    np.testing.assert_array_equal(np.sort(labels[0]), np.sort(labels[1]))
    times = {store: store.stat().st_mtime_ns for store in stores}
    command += ["--until", "dump"]
    assert "training" not in python(*command)
    assert {store: store.stat().st_mtime_ns for store in stores} == times
    # Another collection has no place in this folder.
    command = [sys.executable, *command, "--seeds", "2"]
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert third.returncode == 1
    assert "is of another collection" in third.stderr


_CUT = """
import sys
from pathlib import Path
import torch
from datasets import read_data, vary_data
from networks import Exporter
from training import Run, train

torch.set_num_threads(1)
data = read_data("digits", None, 300, 50)
run = Run("digits", "standard", "resnet", 3, (0, 1, 2))
whole, cut = Path(sys.argv[1]) / "whole", Path(sys.argv[1]) / "cut"
train(run, data, Exporter(data.shape), whole)


class Cut(Exporter):
    def write(self, network, path):
        if path.name == "epoch002.onnx":
            raise KeyboardInterrupt
        super().write(network, path)


try:
    train(run, data, Cut(data.shape), cut)
except KeyboardInterrupt:
    train(run, data, Exporter(data.shape), cut)
for epoch in run.epochs:
    one, other = (run.checkpoint_path(folder, epoch).read_bytes() for folder in (whole, cut))
    assert one == other, epoch
assert run.checkpoint_path(cut, 0).read_bytes() != run.checkpoint_path(cut, 2).read_bytes()
noise = vary_data(data, "digits", "noise")
assert abs(noise.images["train"].mean() - data.images["train"].mean()) < 30
assert (noise.images["train"][:50] != noise.images["test"]).any()
"""


def test_training_that_was_cut_off_ends_in_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the reproduction trains with PyTorch")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter needs it")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    python(_CUT, tmp_path, cwd=FOLDER)
