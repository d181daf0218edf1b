"""The reproduction: its script runs, its measures are right, its tables are those of its files."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import scipy.stats
from numpy.typing import NDArray
from support.command import python

if TYPE_CHECKING:
    from correlating import Correlation, Difference

FOLDER = Path(__file__).parents[2] / "examples" / "reproduce"
RESULTS = FOLDER / "results"
AGAIN = RESULTS / "digits-again"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The script's modules, importable as in its own process."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


@pytest.fixture
def modules(scripts: None) -> None:
    """All of them, also those that need PyTorch."""
    pytest.importorskip("torch", reason="the reproduction trains with PyTorch")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_digits_scored_again() -> None:
    networks = pl.read_parquet(AGAIN / "networks.parquet")
    assert len(networks) == networks["id"].n_unique() == 180
    standard, good = pl.col("tag.kind") == "standard", pl.col("test.accuracy") > 0.7
    subsets = {
        "trained": pl.col("tag.epoch") > 0,
        "standard": standard & (pl.col("tag.epoch") > 0),
        "above 70 %": good,
        "standard above 70 %": standard & good,
    }
    for row in read(AGAIN / "correlations.csv"):
        part = networks.filter(subsets[row["subset"]])
        x, y = (part[row[name]].to_numpy() for name in ("measure", "target"))
        assert int(row["networks"]) == len(x)
        if not row["r"]:
            assert row["measure"] == "test.alpha.mean"
            assert np.ptp(x) < 1e-12
            continue
        assert math.isclose(float(row["r"]), scipy.stats.pearsonr(x, y).statistic, rel_tol=1e-5)
        assert float(row["low"]) < float(row["r"]) < float(row["high"])


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny collection: a VGG on the digits at two rates, for one epoch."""
    pytest.importorskip("torch", reason="the reproduction trains with PyTorch")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter needs it")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    folder = tmp_path_factory.mktemp("reproduction")
    table = folder / "networks.parquet"
    words = ["--quick", "--networks", "vgg", "--limit", "1", "--jobs", "1", "-o"]
    # A second time, nothing is left to do; nor is it in another folder with the same table.
    first, second, third = run_again_and_again(
        table, [*words, folder], [*words, folder], [*words, folder / "again", "--table", table]
    )
    assert "1 runs left" in first["said"]
    assert "2 networks of 2 runs" in first["said"]
    assert "left" not in second["said"]
    assert first["table"] == second["table"] == third["table"]
    assert "2 networks of 2 runs" in third["said"]
    # The rules are about the whole collection.
    assert "rule" not in third["said"]
    return folder


_AGAIN_AND_AGAIN = """
import contextlib, io, json, runpy, sys, zlib
from pathlib import Path

table, script, runs = json.loads(sys.argv[1])
ended = []
for words in runs:
    sys.argv = [script, *words]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            code = error.code
    crc = zlib.crc32(Path(table).read_bytes())
    ended.append({"said": said.getvalue(), "table": crc, "code": code})
print(json.dumps(ended))
"""


def run_again_and_again(table: Path, *runs: list[object]) -> list[dict[str, object]]:
    """Run the script several times in one process, which imports PyTorch once.

    Returns what each run printed, a checksum of the table, and its exit code.
    """
    words = [list(map(str, run)) for run in runs]
    arguments = json.dumps([str(table), str(FOLDER / "reproduce.py"), words])
    return json.loads(python(_AGAIN_AND_AGAIN, arguments, cwd=FOLDER))


_BY_HAND = """
import json, sys
from pathlib import Path
import numpy as np, torch
from collection import list_runs
from networks import build
from tasks import read_task
from torch import nn
from training import start

models, run = Path(sys.argv[1]) / "models", list_runs(("digits",), ("vgg",), 1, 1)[0]
data = read_task("digits", {})
found = {}
for mode in ("evaluation", "training"):
    network = start(run, data)
    network.load_state_dict(torch.load(run.checkpoint_path(models, 1), weights_only=True))
    network.train(mode == "training")
    sums = {}

    def add(number):
        def hook(_, __, z):
            sums.setdefault(number, []).append(z.double().flatten(1).sum(1))

        return hook

    # What enters each ReLU; the last linear operator leads to the output and does not count.
    for number, (before, module) in enumerate(zip(network, network[1:])):
        if isinstance(module, nn.ReLU):
            before.register_forward_hook(add(number))
    scores = []
    with torch.no_grad():
        for part in torch.from_numpy(data.inputs("test")).split(512):
            scores.append(network(part))
    z = torch.stack([torch.cat(sums[number]) for number in sorted(sums)]).numpy()
    alpha = []
    for image in data.images["test"]:
        shares = np.bincount(image.ravel(), minlength=256) / image.size
        alpha.append(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())
    beta = [np.polyfit(np.arange(len(z)), column, 1)[0] for column in z.T]
    accuracy = (torch.cat(scores).argmax(1).numpy() == data.labels["test"]).mean()
    found[mode] = [len(z), np.corrcoef(alpha, beta)[0, 1], accuracy]
print(json.dumps(found))
"""


def test_measures_equal_those_computed_by_hand(quick: Path) -> None:
    """CNA of one network from forward hooks and NumPy, in evaluation and in training mode."""
    networks = pl.read_parquet(quick / "networks.parquet")
    assert networks["id"].n_unique() == len(networks) == 2
    row = networks.filter(pl.col("id") == "digits-vgg-standard-rate0.05-seed0-epoch001").row(
        0, named=True
    )
    found = json.loads(python(_BY_HAND, quick, cwd=FOLDER))
    for mode, prefix in (("evaluation", ""), ("training", "training-mode:")):
        layers, cna, accuracy = found[mode]
        assert layers == 6
        assert math.isclose(row[f"{prefix}test.cna"], cna, abs_tol=1e-5)
        assert row[f"{prefix}test.accuracy"] == accuracy
    assert row["torch.test.accuracy"] == row["test.accuracy"]
    assert row["training-mode:test.cna"] != row["test.cna"]
    assert all(row[name] is not None for name in ("log.l2_path", "log.bound_2018", "cna_margin"))
    assert row["area=reference:cna_area"] != row["cna_area"]


def test_a_run_that_ended_at_another_limit_is_refused(quick: Path, tmp_path: Path) -> None:
    """Whether it is in the table or, where the table lacks it, among the models."""
    words = ["--quick", "--networks", "vgg", "--limit", "2", "--jobs", "1", "-o", quick]
    other = ["--table", tmp_path / "networks.parquet"]
    for ended in run_again_and_again(quick / "networks.parquet", words, [*words, *other]):
        message = "seed0 ended at epoch 1, and its limit is 2. Use the `--limit`"
        assert message in str(ended["code"])


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
@pytest.mark.usefixtures("modules")
def test_figures(quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vl_convert", reason="figures are written by it")
    import figures
    from tasks import read_task

    monkeypatch.setattr(figures, "RESAMPLES", 40)
    data = read_task("digits", {}).head(100)
    runs = [figures.find_run("digits", "vgg", 0)]
    figures.draw_training(runs, data, quick / "models", tmp_path, tmp_path)
    figures.draw_accuracy(make_networks(), tmp_path)
    assert {path.name: "CNA" in path.read_text() for path in tmp_path.glob("*.svg")} == {
        "reproduction-trajectory.svg": True,
        "reproduction-error-by-alpha.svg": False,
        "reproduction-bins.svg": True,
    }


_CUT = """
import dataclasses
import sys
from pathlib import Path
import torch
import training
from collection import list_runs
from tasks import read_task, vary_data

torch.set_num_threads(1)
data = read_task("digits", {}).head(300)
run = list_runs(("digits",), ("vgg",), 1, 3)[0]
whole, cut = Path(sys.argv[1]) / "whole", Path(sys.argv[1]) / "cut"
training._STATE_SECONDS = 0
training.train(run, data, whole)

epochs, original = [], training._train_epoch


def train_epoch(*arguments):
    if len(epochs) == 2:
        raise KeyboardInterrupt
    epochs.append(1)
    return original(*arguments)


training._train_epoch = train_epoch
try:
    training.train(run, data, cut)
except KeyboardInterrupt:
    training._train_epoch = original
    # A limit that the training is beyond changes nothing.
    try:
        training.train(dataclasses.replace(run, limit=1), data, cut)
    except SystemExit as error:
        assert "has reached epoch 2, beyond the limit of 1" in str(error)
    else:
        raise AssertionError
    history = training.train(run, data, cut)
assert history.epochs == [0, 1, 2, 3] and not history.converged
assert history.losses == training.train(run, data, whole).losses
for epoch in history.epochs:
    one, other = (torch.load(run.checkpoint_path(folder, epoch)) for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one), epoch
noise = vary_data(data, "digits", "noise")
assert abs(noise.images["train"].mean() - data.images["train"].mean()) < 30
assert (noise.images["train"][:50] != noise.images["test"][:50]).any()
shuffled = vary_data(data, "digits", "shuffled-50").labels["train"]
assert 0.3 < (shuffled != data.labels["train"]).mean() <= 0.5
assert (sorted(shuffled) == sorted(data.labels["train"]))
"""


def test_training_that_was_cut_off_ends_in_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the reproduction trains with PyTorch")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    python(_CUT, tmp_path, cwd=FOLDER)


def make_networks() -> pl.DataFrame:
    """Networks of eight tasks and a set to memorise, with measures at random."""
    from correlating import MEASURES
    from tasks import KINDS, TASKS

    rng = np.random.default_rng(0)
    rows = []
    for task in (*TASKS, "cifar10-2000"):
        kinds = (
            KINDS if task == "mnist-2000" else KINDS[1:] if task == "cifar10-2000" else KINDS[:1]
        )
        level = rng.standard_normal()
        for kind in kinds:
            for run in range(4):
                for epoch in (1, 2, 4):
                    row = {name: level + rng.standard_normal() for name in MEASURES}
                    accuracy = rng.uniform(0.5, 1)
                    rows.append(
                        {
                            "id": f"{task}-{kind}-{run}-{epoch}",
                            "tag.task": task,
                            "tag.kind": kind,
                            "tag.run": f"{task}-{kind}-{run}",
                            "tag.network": "mlp",
                            "tag.epoch": str(epoch),
                            "tag.last": str(epoch == 4),
                            "tag.converged": str(run != 3),
                            **row,
                            "test.alpha.mean": level,
                            "test.accuracy": accuracy,
                            "test.cna": accuracy + level + 0.3 * rng.standard_normal(),
                            "gap_accuracy": rng.uniform(),
                            "gap_loss": rng.uniform(),
                        }
                    )
    return pl.DataFrame(rows)


def resample(
    networks: pl.DataFrame, cluster: str, columns: list[str]
) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    parts = [
        part.select(columns).to_numpy()
        for _, part in networks.group_by(cluster, maintain_order=True)
    ]
    for _ in range(20_000):
        yield np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])


@pytest.mark.usefixtures("modules")
def test_correlations_of_the_rules_equal_scipy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import correlating
    from correlating import (
        AREAS,
        CNA,
        CNA_MARGIN,
        MEAN_ALPHA,
        OTHERS,
        correlate,
        read_correlations,
        write_correlations,
    )
    from study_tables import list_tables

    monkeypatch.setattr(correlating, "RESAMPLES", 3000)
    few = (*CNA.values(), *AREAS.values(), CNA_MARGIN, *OTHERS, MEAN_ALPHA)
    monkeypatch.setattr(correlating, "MEASURES", few)
    networks = make_networks()
    correlations, differences = correlate(networks)
    subsets = split_networks(networks)
    found_in = {(each.kind, each.task) for each in correlations}
    assert found_in >= {("good", None), ("all", None), ("last", None), ("good", "mnist")}
    for each in correlations:
        part, task = subsets[each.kind], each.task
        if task:
            part = part.filter(pl.col("tag.task") == task)
        x, y = part[each.measure].to_numpy(), part[each.target].to_numpy()
        assert each.networks == len(x)
        assert each.clusters == part["tag.run" if task else "tag.task"].n_unique()
        if task and each.measure == "test.alpha.mean":
            assert each.value is None
            continue
        assert math.isclose(each.value, scipy.stats.pearsonr(x, y).statistic, abs_tol=1e-9)
    one = next(c for c in correlations if (c.kind, c.measure) == ("good", "test.cna"))
    other = next(d for d in differences if (d.kind, d.first) == ("good", "test.cna"))
    check_intervals(one, other, subsets["good"])
    write_correlations(tmp_path, correlations, differences)
    assert read_correlations(tmp_path) == (correlations, differences)
    pairs = {(each.kind, each.second) for each in differences if each.first == "cna_margin"}
    assert {("all", "log.l2_path"), ("last", "train.accuracy"), ("all", "margin")} <= pairs
    check_tables(dict(list_tables(networks, correlations, differences)), one)


def check_tables(tables: dict[str, str], cna: Correlation) -> None:
    """Check tables of `make_networks`, whose numbers are those of its correlations."""
    from docs_tables import insert

    cells = {name: [row.strip("| ").split(" | ") for row in table.splitlines()]
             for name, table in tables.items()}  # fmt: skip
    for name, rows in cells.items():
        assert len({len(row) for row in rows}) == 1, name
    assert len(cells["verdicts"]) == 2 + 12
    assert cells["networks"][2][:6] == ["`digits`", "standard", "mlp", "4", "3", "4"]
    assert ["`mnist-2000`", "noise", "mlp", "4", "3", "4"] in [row[:6] for row in cells["networks"]]
    rows = {row[0]: row[1:] for row in cells["accuracy"]}
    assert rows["`test.cna`"][0] == str(cna.networks)
    words = re.findall(r"-?[\d.]+", rows["`test.cna`"][1].replace("−", "-"))
    assert list(map(float, words)) == pytest.approx([cna.value, cna.low, cna.high], abs=0.005)
    tasks = list(dict.fromkeys(make_networks()["tag.task"]))[:-1]
    assert [row[0].strip("`") for row in cells["gap_loss-within-tasks"][2:]] == tasks
    assert r"\|r\| of CNA-M" in tables["margin-leads"]
    text = "\n".join(f"<!-- {name}: begin --> earlier <!-- {name}: end -->" for name in tables)
    inserted = insert(text, tables.items())
    assert "earlier" not in inserted
    assert tables["margin-leads"] in inserted
    assert insert(inserted, tables.items()) == inserted


@pytest.mark.usefixtures("modules")
def test_the_networks_are_those_of_all_runs() -> None:
    from collection import check_whole, list_runs
    from tasks import TASKS

    table = RESULTS / "networks.parquet"
    networks = pl.read_parquet(table)
    check_whole(networks, table)
    assert networks["id"].n_unique() == len(networks) == 842
    assert set(networks.filter(pl.col("tag.kind") == "standard")["tag.task"]) == set(TASKS)
    last = networks.filter(pl.col("tag.last") == "True")
    assert len(last) == len(list_runs())
    for split in ("train", "test"):
        differences = networks[f"{split}.accuracy"] - networks[f"torch.{split}.accuracy"]
        assert differences.abs().max() == 0


def split_networks(networks: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Select the subsets of the rules."""
    standard = pl.col("tag.kind") == "standard"
    every = networks.filter(standard | (pl.col("tag.converged") == "True"))
    return {
        "good": networks.filter(standard & (pl.col("test.accuracy") > 0.7)),
        "all": every,
        "last": every.filter(pl.col("tag.last") == "True"),
    }


@pytest.mark.usefixtures("modules")
def test_coefficients_over_parts_of_the_networks_equal_scipy() -> None:
    from study_tables import list_selections

    networks = pl.read_parquet(RESULTS / "networks.parquet")
    _, *rows = list_selections(networks)
    found = {title: cells for title, *cells in rows}
    standard = networks.filter(pl.col("tag.kind") == "standard")
    memorising = networks.filter(pl.col("tag.kind") != "standard")
    good = standard.filter(pl.col("test.accuracy") > 0.7)
    for title, correlate, all_of_row, good_of_row in (
        ("all networks", scipy.stats.pearsonr, networks, good),
        ("all networks, by ranks", scipy.stats.spearmanr, networks, good),
        ("standard networks", scipy.stats.pearsonr, standard, good),
        ("memorising networks", scipy.stats.pearsonr, memorising, None),
    ):
        for place, (measure, target, part) in enumerate(
            (
                ("test.cna", "test.accuracy", good_of_row),
                ("cna_margin", "gap_accuracy", all_of_row),
                ("train.accuracy", "gap_accuracy", all_of_row),
            )
        ):
            cell, size = found[title][2 * place : 2 * place + 2]
            if part is None:
                assert (cell, size) == ("–", "0")
                continue
            assert int(size) == len(part)
            truth = correlate(part[measure], part[target]).statistic
            assert math.isclose(float(cell.replace("−", "-")), truth, abs_tol=0.0051)


@pytest.mark.usefixtures("modules")
def test_how_often_a_rule_would_hold() -> None:
    from correlating import Subset
    from docs_tables import DOCS
    from power import correlate, estimate_power, sum_by_task

    rng = np.random.default_rng(1)
    x, y, tasks = rng.normal(size=60), rng.normal(size=60), np.repeat([0, 1, 2], 20)
    # Tasks 0 and 2, the last one twice.
    both = np.concatenate([np.arange(20), np.arange(40, 60), np.arange(40, 60)])
    found = correlate(np.array([1.0, 0.0, 2.0]) @ sum_by_task(x, y, tasks))
    assert math.isclose(found, scipy.stats.pearsonr(x[both], y[both]).statistic)
    networks = Subset("good").select(pl.read_parquet(RESULTS / "networks.parquet"))
    # Without a relation, an interval of 95 % lies above 0 seldom.
    assert estimate_power(networks, 0.0)[0] < 0.06
    text = DOCS.read_text("utf-8")
    half, third = (100 * estimate_power(networks, true)[0] for true in (0.5, 0.3))
    assert f"0 in {half:.0f} % of the simulations, with 0.3 in {third:.0f} %" in text
    assert estimate_power(networks, 0.8)[1] < 0.01


@pytest.mark.usefixtures("modules")
def test_the_results_equal_scipy() -> None:
    """All coefficients, and the intervals behind the rules over all tasks, from the networks."""
    from correlating import MEASURES, OTHERS, SUBSETS, read_correlations

    subsets = split_networks(pl.read_parquet(RESULTS / "networks.parquet"))
    correlations, differences = read_correlations(RESULTS)
    assert {(each.kind, each.task) for each in correlations} == {
        (subset.kind, subset.task) for subset in SUBSETS
    }
    assert {each.measure for each in correlations} == set(MEASURES)

    def select(each: Correlation | Difference, *measures: str) -> pl.DataFrame:
        part = subsets[each.kind]
        if each.task:
            part = part.filter(pl.col("tag.task") == each.task)
        part = part.drop_nulls([each.target, *measures])
        assert each.networks == len(part)
        assert each.clusters == part["tag.run" if each.task else "tag.task"].n_unique()
        return part

    def correlate(part: pl.DataFrame, measure: str, target: str) -> float:
        return scipy.stats.pearsonr(part[measure], part[target]).statistic

    for each in correlations:
        part = select(each, each.measure)
        if each.value is None:
            assert len(part) < 3 or np.ptp(part[each.measure].to_numpy()) < 1e-9
            continue
        truth = correlate(part, each.measure, each.target)
        assert math.isclose(each.value, truth, abs_tol=1e-9), each
        assert each.low is None or each.low <= each.value <= each.high
    for each in differences:
        part = select(each, each.first, each.second)
        first, second = (abs(correlate(part, m, each.target)) for m in (each.first, each.second))
        assert math.isclose(each.value, first - second, abs_tol=1e-9), each
    assert {each.second for each in differences if each.kind == "all"} == set(OTHERS)
    for kind, target, first, second in (
        ("good", "test.accuracy", "test.cna", "test.alpha.mean"),
        ("good", "test.accuracy", "test.cna.smoothed", "test.alpha.mean"),
        ("all", "gap_accuracy", "cna_margin", "train.accuracy"),
    ):
        one = next(
            each
            for each in correlations
            if (each.kind, each.task, each.target, each.measure) == (kind, None, target, first)
        )
        other = next(
            each
            for each in differences
            if (each.kind, each.target, each.first, each.second) == (kind, target, first, second)
        )
        check_intervals(one, other, subsets[kind].drop_nulls([first, second, target]))


def check_intervals(one: Correlation, other: Difference, networks: pl.DataFrame) -> None:
    """Check them against a bootstrap of whole tasks written out."""
    columns = [other.first, other.target, other.second]
    found = [
        [(r := np.corrcoef(rows.T))[0, 1], abs(r[0, 1]) - abs(r[1, 2])]
        for rows in resample(networks, "tag.task", columns)
    ]
    # The expanded percentile interval (Hesterberg 2015).
    k = networks["tag.task"].n_unique()
    tail = scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, k - 1) * math.sqrt(k / (k - 1)))
    truth = np.nanquantile(found, (tail, 1 - tail), axis=0)
    for each, (low, high) in zip((one, other), truth.T, strict=True):
        assert math.isclose(each.low, low, abs_tol=0.05)
        assert math.isclose(each.high, high, abs_tol=0.05)


@pytest.mark.usefixtures("modules")
def test_the_docs_have_the_tables_of_the_results() -> None:
    import digits_again
    from correlating import read_correlations
    from docs_tables import DOCS, insert
    from study_tables import list_tables

    networks = pl.read_parquet(RESULTS / "networks.parquet")
    parts = dict(list_tables(networks, *read_correlations(RESULTS)))
    parts["digits-again"] = digits_again.render()
    text = DOCS.read_text("utf-8")
    assert len(parts) == 12
    assert all(part in text for part in parts.values())
    assert insert(text, parts.items()) == text


@pytest.mark.usefixtures("modules")
def test_the_rest_is_estimated_from_runs_on_the_same_images() -> None:
    from collection import estimate_seconds, list_runs

    digits, mnist, animals, whole = (
        list_runs((task,), ("vgg",), 1)[0]
        for task in ("digits", "mnist", "cifar10-animals", "cifar10")
    )
    known = {digits: 10.0, mnist: 100.0, animals: 200.0}
    assert estimate_seconds([whole, whole], known) == 2 * 500
    assert estimate_seconds([list_runs(("mnist",), ("mlp",), 1)[0]], known) is None


@pytest.mark.usefixtures("modules")
def test_nothing_is_decided_before_all_runs_have_ended() -> None:
    from collection import check_whole, list_runs

    runs = [run.name for run in list_runs()]
    whole = pl.DataFrame({"tag.run": [*runs, runs[0]]})
    check_whole(whole, Path("t.parquet"))
    with pytest.raises(SystemExit, match=r"t.parquet: 2 of 144 runs are missing"):
        check_whole(pl.DataFrame({"tag.run": runs[2:]}), Path("t.parquet"))
    with pytest.raises(SystemExit, match="another is not a run of this collection"):
        check_whole(pl.DataFrame({"tag.run": [*runs, "another"]}), Path("t.parquet"))


@pytest.mark.usefixtures("modules")
def test_rules_hold_where_all_they_ask_for_holds() -> None:
    from correlating import AREAS, CNA, MEASURES, OTHERS, Correlation, Difference
    from rules import apply_rules, list_lines
    from tasks import TASKS

    def correlation(kind: str, task: str | None, target: str, measure: str) -> Correlation:
        published = (kind, task) == ("all", "mnist") and measure in AREAS.values()
        high = 0.9 if published else 0.99
        return Correlation(
            kind=kind,
            task=task,
            target=target,
            measure=measure,
            networks=9,
            clusters=3,
            value=0.3,
            low=0.2,
            high=high,
        )

    def difference(kind: str, target: str, first: str, second: str) -> Difference:
        return Difference(
            kind=kind,
            task=None,
            target=target,
            first=first,
            second=second,
            networks=9,
            clusters=8,
            value=0.2,
            low=0.1,
            high=0.3,
        )

    accuracy, gaps = "test.accuracy", ("gap_accuracy", "gap_loss")
    targets = [("good", accuracy), *(("all", gap) for gap in gaps)]
    rows = [
        correlation(kind, task, target, measure)
        for kind, target in targets
        for task in (None, *TASKS)
        for measure in MEASURES
    ]
    pairs = [difference("good", accuracy, cna, "test.alpha.mean") for cna in CNA.values()]
    pairs += [difference("all", gap, "cna_margin", other) for gap in gaps for other in OTHERS]
    verdicts = apply_rules(rows, pairs)
    assert [verdict.rule for verdict in verdicts] == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5]
    assert all(verdict.holds for verdict in verdicts)
    assert next(list_lines(verdicts)).startswith("rule 1, raw CNA: holds (0.30 (0.20 … 0.99);")

    def spoil(
        found: Sequence[Correlation] | Sequence[Difference],
        new: dict[str, object],
        **where: str | None,
    ) -> set[tuple[int, str]]:
        """Return what fails once some of them are changed."""
        changed = [
            replace(each, **new)
            if all(getattr(each, name) == value for name, value in where.items())
            else each
            for each in found
        ]
        assert changed != found
        again = (changed, pairs) if found is rows else (rows, changed)
        return {(each.rule, each.of) for each in apply_rules(*again) if not each.holds}

    cna = {"measure": "test.cna", "target": "test.accuracy"}
    assert spoil(rows, {"low": -0.1}, kind="good", task=None, **cna) == {(1, "raw CNA")}
    assert spoil(pairs, {"low": -0.1}, first="test.cna.smoothed") == {(1, "smoothed CNA")}
    assert spoil(rows, {"value": -0.1}, kind="good", task="mnist", **cna) == set()
    assert spoil(rows, {"networks": 2}, **cna) == {(2, "raw CNA")}
    assert spoil(pairs, {"low": 0.0}, target="gap_loss", second="margin") == {(3, "gap_loss")}
    area = {"measure": "cna_area", "target": "gap_accuracy"}
    assert spoil(rows, {"low": -0.1}, **area) == {(4, "total, gap_accuracy")}
    assert spoil(rows, {"high": 0.99}, kind="all", task="mnist", **area) == {(5, "gap_accuracy")}
    # An area without an interval contradicts nothing.
    missing = {"measure": "area=reference:cna_area", "kind": "all", "task": "mnist"}
    assert spoil(rows, {"low": None, "high": None}, **missing) == {
        (5, "gap_accuracy"),
        (5, "gap_loss"),
    }
    assert spoil(rows, {"low": None}, measure="legacy:test.cna") == {
        (5, "gap_accuracy"),
        (5, "gap_loss"),
    }
