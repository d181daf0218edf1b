"""``cnatool trajectory`` and ``cnatool landscape`` as installed, over the demo's networks."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from support.command import python, run

import cnatool
from cnatool.schemas import schema_text

EPOCHS = [0, 1, 2, 3, 5, 8, 12, 20, 40]


@pytest.fixture(scope="module")
def here(demo: Path) -> Path:
    """The demo's stores, and one of its runs with whole activations."""
    data = Path(str(files("cnatool.demo") / "data"))
    (demo / "whole").mkdir()
    for model in sorted((data / "networks").glob("conv-epoch*.onnx")):
        tag = f"epoch={int(model.stem[-3:])}"
        store = f"whole/{model.stem}.h5"
        run("dump", model, data / "digits", "-o", store, "--keep", "full", "--tag", tag, cwd=demo)
    return demo


def numbers(line: str) -> list[str]:
    return re.findall(r"-?\d+\.?\d*|–", line)


@pytest.fixture(scope="module")
def trajectory(here: Path) -> subprocess.CompletedProcess[str]:
    """What a trajectory of the demo prints, whose folder is ``out``."""
    return run("trajectory", "demo", "--by", "run", "-o", "out", cwd=here)


def test_tables_are_what_single_scores_say(
    here: Path, trajectory: subprocess.CompletedProcess[str]
) -> None:
    result = trajectory
    assert "wrote out" in result.stderr
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    sections = dict(re.findall(r"run (\S+): 9 steps\n(.*?)(?=\nrun |\Z)", result.stdout, re.S))
    assert list(sections) == ["adam", "conv", "noisy-labels", "sgd"]
    for name, text in sections.items():
        rows = [numbers(line) for line in text.splitlines() if re.match(r" +\d+ ", line)]
        assert [int(row[0]) for row in rows] == EPOCHS * 2
        # Some steps of each run.
        for epoch, row, errors in [*zip(EPOCHS, rows[:9], rows[9:], strict=True)][::4]:
            score = cnatool.score(
                here / f"demo/{name}-epoch{epoch:03d}.zarr",
                overrides={"resamples": 0, "area_resamples": 0, "permutations": 0},
            )
            train, test = score.splits["train"], score.splits["test"]
            expected = [
                *(train.accuracy, test.accuracy, train.loss, test.loss),
                *(train.cna.value, test.cna.value, score.cna_area.value, score.cna_margin.value),
            ]
            assert row[1:] == [f"{value:z.4f}" for value in expected]
            assert errors[1:] == [f"{group.error:.4f}" for group in test.alpha_groups]


@pytest.mark.usefixtures("trajectory")
def test_json_and_files_say_the_same(here: Path) -> None:
    words = ("trajectory", "demo", "--by", "run", "--order", "epoch", "-o", "out", "--json")
    first = run(*words, cwd=here)
    again = run(*words, cwd=here)
    assert "36 scores were computed before" in again.stderr
    assert first.stdout == again.stdout
    found = json.loads(first.stdout)
    jsonschema.validate(found, json.loads(schema_text("trajectory")))
    assert (here / "out/trajectory.json").read_text("utf-8") == first.stdout
    steps = pl.read_parquet(here / "out/steps.parquet")
    errors = pl.read_parquet(here / "out/error_by_alpha.parquet")
    assert len(steps) == 36
    assert len(errors) == 36 * 2 * 5
    flat = [(run["name"], one) for run in found["runs"] for one in run["steps"]]
    for row, (name, one) in zip(steps.to_dicts(), flat, strict=True):
        assert (row["run"], row["step"], row["id"]) == (name, one["step"], one["id"])
        assert row["cna_margin"] == one["cna_margin"]["value"]
        assert row["test.cna"] == one["splits"]["test"]["cna"]["value"]
    # A study goes on with the scores that were kept.
    stores = sorted((here / "demo").glob("sgd-*.zarr"))
    study = run("study", *stores, "-o", "out", "--resamples", 0, cwd=here)
    assert "9 scores were computed before" in study.stderr


def test_some_steps_could_not_be_scored(here: Path) -> None:
    words = ("trajectory", "demo/adam-epoch001.zarr", "demo/adam-epoch002.zarr", "gone.zarr")
    result = run(*words, cwd=here, code=1)
    assert "1 store could not be used" in result.stderr
    assert "left out: gone.zarr: no such file or folder.\n" in result.stderr
    assert "no such file or folder" in result.stdout
    assert "2 steps" in result.stdout
    said = run(*words, "--strict", "-o", "strict", cwd=here, code=2).stderr
    assert "gone.zarr: no such file or folder." in said
    assert not (here / "strict/trajectory.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo",), "several stores have the same epoch, and run separates them: give --order"),
        (("demo", "--by", "x"), "--by x: no store has this tag; there are run, epoch, "),
        (("demo", "--by", "run", "--order", "x"), "--order x: no store has this tag"),
        (("gone.zarr",), "no network could be scored. gone.zarr: no such file or folder."),
        (("demo", "--by", "run", "-o", "demo/sgd-epoch000.zarr/zarr.json"), "not a folder"),
        (("demo", "--by", "run", "-o", "demo/sgd-epoch000.zarr"), "this is a Zarr store"),
        (("demo", "--by", "run", "--set", "x=1"), "--set: no field 'x' in a convention"),
    ],
)
def test_what_is_no_trajectory(here: Path, words: tuple[str, ...], message: str) -> None:
    assert message in run("trajectory", *words, cwd=here, code=2).stderr


def test_landscape(here: Path) -> None:
    words = ("landscape", "whole", "--grid", 5, "-o", "land")
    result = run(*words, cwd=here)
    assert "wrote land" in result.stderr
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    found = json.loads(run(*words, "--json", cwd=here).stdout)
    jsonschema.validate(found, json.loads(schema_text("landscape")))
    assert (found["samples"], found["split"], len(found["grid"])) == (100, "train", 25)
    points = pl.read_parquet(here / "land/landscape_points.parquet")
    assert points["step"].to_list() == EPOCHS
    rows = [numbers(line) for line in result.stdout.splitlines() if re.match(r" +\d+ ", line)]
    for row, one in zip(rows, points.to_dicts(), strict=True):
        expected = [one["x"], one["y"], one["cna"], one["cna_projected"]]
        assert [row[1], row[2], row[4], row[5]] == [f"{value:z.4f}" for value in expected]
    assert f"{100 * sum(found['variance_shares'][:2]):.1f} % of their variance" in result.stdout
    # The variance that the plane holds, from what each point has of it.
    square = points["x"] ** 2 + points["y"] ** 2
    assert square.sum() / (square / points["captured"]).sum() == pytest.approx(
        sum(found["variance_shares"][:2])
    )
    values = pl.read_csv(here / "land/landscape_grid.csv")["cna"].to_numpy()
    assert f"{values.min():z.4f} … {values.max():z.4f}" in result.stdout
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo", "--by", "run"), "are stored. Dump with --keep full"),
        (("whole/conv-epoch000.h5", "whole/conv-epoch001.h5"), "at least three checkpoints"),
        (("whole", "--split", "x"), "has no such split; it has train, test."),
        (("whole", "--grid", "1"), "--grid 1: give from 2 to 200 points"),
        (("whole", "gone.h5", "--strict"), "gone.h5: no such file or folder."),
        (
            ("whole/conv-epoch000.h5", "whole/conv-epoch001.h5", "gone.h5"),
            "at least three checkpoints, but there are 2. gone.h5: no such file or folder.",
        ),
    ],
)
def test_what_is_no_landscape(here: Path, words: tuple[str, ...], message: str) -> None:
    result = run("landscape", *words, "-o", "none", cwd=here, code=2)
    assert message in result.stderr
    assert not (here / "none").exists()


def test_they_need_no_runtime(here: Path) -> None:
    code = (
        "import sys, cnatool\n"
        "cnatool.trajectory([f'demo/sgd-epoch{epoch:03}.zarr' for epoch in (0, 1, 40)])\n"
        "cnatool.landscape('whole', grid=2)\n"
        "print([n for n in ('onnx', 'onnxruntime', 'torch', 'scipy') if n in sys.modules])"
    )
    assert python(code, cwd=here) == "[]\n"
