"""The examples for trackers log what `cnatool.trajectory` and `cnatool.study` find."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from support.command import python

import cnatool

ROOT = Path(__file__).parents[2]
DEMO = Path(cnatool.__file__).parent / "demo" / "data"
EPOCHS = (0, 1, 3)
RUNS = ("adam", "sgd")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trackers")
    (folder / "stores").mkdir()
    for run in RUNS:
        for epoch in EPOCHS:
            name = f"{run}-epoch{epoch:03}"
            cnatool.dump(
                DEMO / f"networks/{name}.onnx",
                DEMO / "digits",
                folder / f"stores/{name}.zarr",
                keep="statistics",
                tags={"run": run, "optimizer": run, "epoch": str(epoch)},
            )
    return folder


def log(name: str, folder: Path, *, installed: bool) -> str:
    if installed != (importlib.util.find_spec(name) is not None):
        pytest.skip(f"{name} is {'not ' if installed else ''}installed")
    script = ROOT / f"examples/log_to_{name}.py"
    return python(script, folder / "stores", "--output", folder / name, cwd=folder)


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """CNA of the test split by step, run by run."""
    steps = cnatool.trajectory(folder / "stores", by="run").steps
    rows = steps.select("run", "step", "test.cna").sort("run", "step").rows()
    return {run: [(step, cna) for other, step, cna in rows if other == run] for run in RUNS}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_the_tracker_its_name_is_said(name: str, here: Path) -> None:
    assert "python -m pip install" in log(name, here, installed=False)


def test_mlflow(here: Path) -> None:
    assert "logged 2 runs and a study" in log("mlflow", here, installed=True)
    code = """
import json, os, sys
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow
client = mlflow.MlflowClient(sys.argv[1])
[experiment] = [e for e in client.search_experiments() if e.name == "cnatool"]
for run in client.search_runs([experiment.experiment_id]):
    id = run.info.run_id
    print(json.dumps({
        "name": run.info.run_name, "params": run.data.params, "metrics": run.data.metrics,
        "cna": [(m.step, m.value) for m in client.get_metric_history(id, "test.cna")],
        "files": [file.path for file in client.list_artifacts(id, "study")],
    }))
"""
    printed = python(code, (here / "mlflow/mlflow").as_uri()).splitlines()
    logged: dict[str, Any] = {run["name"]: run for run in map(json.loads, printed)}
    assert logged.keys() == {*RUNS, "study"}
    for run, series in expected(here).items():
        assert logged[run]["params"] == {"optimizer": run, "run": run}
        assert sorted(map(tuple, logged[run]["cna"])) == series
    study = cnatool.study(here / "stores", cluster="run").result
    found = {
        f"{each.target}.{each.measure}.pearson": each.pearson.value
        for each in study.correlations
        if each.pearson.value is not None
    }
    assert logged["study"]["metrics"].items() >= found.items()
    assert "study/study.json" in logged["study"]["files"]


def test_wandb(here: Path) -> None:
    assert "logged 2 runs and a study" in log("wandb", here, installed=True)
    runs = sorted((here / "wandb/wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == len(RUNS) + 1
    # Protocol buffers in the log format of LevelDB.
    code = """
import json, struct, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7

def read_records(data):
    at, parts = HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
        size, kind = struct.unpack_from("<HB", data, at + 4)
        parts.append(data[at + HEADER : at + HEADER + size])
        at += HEADER + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []

for path in sys.argv[1:]:
    rows, name = [], ""
    for data in read_records(Path(path).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        name = record.run.display_name or name
        row = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
        if "test.cna" in row:
            rows.append((int(row["_step"]), float(row["test.cna"])))
    print(json.dumps([name, rows]))
"""
    logged = dict(map(json.loads, python(code, *runs).splitlines()))
    assert logged.keys() == {*RUNS, "study"}
    for run, series in expected(here).items():
        assert [tuple(row) for row in logged[run]] == series
