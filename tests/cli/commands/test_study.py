"""``cnatool study`` as installed, over stores that the test dumps."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import scipy.stats
from support.command import COMMAND, python, run
from support.families import dump_family
from support.fixtures import difference

import cnatool
from cnatool.schemas import schema_text


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    dump_family(folder, seeds=6)
    return folder


def test_table_json_and_files_say_the_same(here: Path) -> None:
    options = ("stores", "-o", "out", "--cluster", "run", "--by", "shape", "--resamples", 100)
    first = run("study", *options, cwd=here)
    assert "networks: 12 of 12" in first.stderr
    assert "scores were computed before" not in first.stderr
    assert first.stdout.startswith("convention paper\n12 networks, 6 clusters by run\n")
    again = run("study", *options, "--json", cwd=here)
    assert "12 scores were computed before" in again.stderr
    found = json.loads(again.stdout)
    jsonschema.validate(found, json.loads(schema_text("study")))
    # The file names parameters where the command names options.
    written = json.loads((here / "out/study.json").read_text("utf-8"))
    assert difference(written, found, exact=True) is None
    networks = pl.read_parquet(here / "out/networks.parquet")
    assert networks["id"].to_list() == [f"shape{a}-{b}" for a in (0, 1) for b in range(6)]
    table = pl.read_csv(here / "out/correlations.csv", infer_schema_length=None)
    for one in found["correlations"]:
        if one["measure"] != "cna_area":
            continue
        rows = networks
        if one["group"] is not None:
            rows = networks.filter(pl.col("tag.shape") == one["group"])
        pair = rows["cna_area"].to_numpy(), rows[one["target"]].to_numpy()
        assert one["pearson"]["value"] == pytest.approx(scipy.stats.pearsonr(*pair).statistic)
        assert one["spearman"]["value"] == pytest.approx(scipy.stats.spearmanr(*pair).statistic)
        assert one["kendall_b"]["value"] == pytest.approx(scipy.stats.kendalltau(*pair).statistic)
        written = table.filter(
            (pl.col("measure") == "cna_area")
            & (pl.col("target") == one["target"])
            & (pl.col("coefficient") == "kendall_b")
            & pl.col("group").cast(pl.String).eq_missing(pl.lit(one["group"]))
        )
        assert written["value"].to_list() == [one["kendall_b"]["value"]]
        if one["group"] is None:
            low, high = one["pearson"]["interval"]
            assert f"{one['pearson']['value']:.2f}" in first.stdout
            assert f"{low:.2f} … {high:.2f}" in first.stdout
    assert "train.cna.kendall" not in first.stdout
    assert "train.cna.kendall" in run("study", *options, "--all", cwd=here).stdout


def test_glob_of_stores_is_what_the_folder_is(here: Path) -> None:
    stores = sorted((here / "stores").iterdir())
    options = ("--resamples", 0, "--json")
    by_name = run("study", *(path.relative_to(here) for path in stores), *options, cwd=here)
    assert by_name.stdout == run("study", "stores", *options, cwd=here).stdout
    by_python = json.loads(cnatool_json(stores, here))
    assert difference(by_python, json.loads(by_name.stdout), exact=True) is None


def cnatool_json(stores: list[Path], here: Path) -> str:
    code = (
        "import sys, cnatool\n"
        "print(cnatool.study(sys.argv[1:], resamples=0).result.to_json(), end='')"
    )
    return python(code, *(path.relative_to(here) for path in stores), cwd=here)


def test_broken_stores_are_listed(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / "stores", tmp_path / "stores")
    for name in ("shape0-0", "shape0-1"):
        (tmp_path / f"stores/{name}.zarr/zarr.json").write_text("{")
    result = run("study", "stores", "gone.zarr", "--resamples", 0, cwd=tmp_path, code=1)
    assert "3 stores could not be used" in result.stderr
    assert "left out: gone.zarr: no such file or folder.\n" in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 3
    assert all("stores/shape0-" in line and "zarr.json" in line for line in lines[:2])
    text = result.stdout[result.stdout.index("not scored:") :]
    assert "stores/shape0-0.zarr" in text
    assert "gone.zarr" in text
    assert "no such file or folder" in text
    assert "10 networks" in result.stdout
    words = ("stores", "--resamples", 0)
    found = json.loads(run("study", *words, "-o", "out", "--json", cwd=tmp_path, code=1).stdout)
    jsonschema.validate(found, json.loads(schema_text("study")))
    assert [one["path"] for one in found["not_scored"]] == [
        f"stores/shape0-{i}.zarr" for i in (0, 1)
    ]
    assert len(pl.read_parquet(tmp_path / "out/networks.parquet")) == 10
    # The others are as without the broken ones.
    whole = cnatool.study(sorted((tmp_path / "stores").iterdir())[2:], resamples=0)
    assert found["correlations"] == json.loads(whole.result.to_json())["correlations"]
    # Damage has another exit code than a path that holds nothing.
    said = run("study", *words, "-o", "strict", "--strict", cwd=tmp_path, code=3).stderr
    assert "shape0-0.zarr" in said
    assert "shape0-1.zarr" not in said
    assert not (tmp_path / "strict/study.json").exists()
    run("study", "gone.zarr", *words, "--strict", cwd=tmp_path, code=2)
    assert "no network could be scored. gone.zarr: no such" in (
        run("study", "gone.zarr", cwd=tmp_path, code=2).stderr
    )


def test_columns_from_elsewhere(here: Path, tmp_path: Path) -> None:
    rows = [f"shape{a}-{b},{a + b * b}" for a in (0, 1) for b in range(6)]
    (tmp_path / "extra.csv").write_text("id,sharpness\n" + "\n".join(rows), "utf-8")
    text = run(
        "study", here / "stores", "--from", "extra.csv", "--resamples", 0, cwd=tmp_path
    ).stdout
    assert "sharpness" in text
    compare = ("--compare", "sharpness,margin", "--json")
    found = json.loads(
        run("study", here / "stores", "--from", "extra.csv", *compare, cwd=tmp_path).stdout
    )
    assert {(d["first"], d["second"]) for d in found["differences"]} == {("sharpness", "margin")}
    words = ("--target", "gap_loss", "--target", "gap_accuracy", *compare[:2], "--cluster", "run")
    text = run(
        "study", here / "stores", "--from", "extra.csv", *words, "--resamples", 20, cwd=tmp_path
    ).stdout
    headings = [line for line in text.splitlines() if line.startswith("correlation with")]
    assert headings == [
        f"correlation with {target}{end}"
        for end in ("", ", compared")
        for target in ("gap_loss", "gap_accuracy")
    ]
    assert re.search(r"\nsharpness +margin +12 +-?0\.\d\d ", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to study: give STORE, or networks by --from."),
        (("stores", "--by", "x"), "--by x: no network has this tag; there are run, seed, shape."),
        (("stores", "--compare", "a"), "--compare a: write it as MEASURE,MEASURE."),
        (("stores", "--target", "loss"), "--target loss: no column of numbers has this name."),
        (("stores", "--set", "x"), "--set x: write it as KEY=VALUE."),
        (("stores", "--convention", "x"), "--convention 'x': choose"),
        (("--from", "x.txt"), "--from x.txt: the name must end in .parquet or .csv."),
        (("--from", "x.csv"), "--from x.csv cannot be read"),
        (("stores", "-o", "data/train.npz"), "--output data/train.npz: not a folder."),
        (("stores", "-o", "inner.zarr"), "--output inner.zarr: this is a Zarr store."),
        (("stores", "-o", "inner.zarr/new/st"), "inner.zarr is a store. Name a folder outside"),
    ],
)
def test_what_cannot_be_meant(here: Path, words: tuple[str, ...], message: str) -> None:
    if "inner.zarr" in "".join(words) and not (here / "inner.zarr").exists():
        shutil.copytree(next((here / "stores").glob("*.zarr")), here / "inner.zarr")
    assert message in run("study", *words, cwd=here, code=2).stderr


# A study of the demo's networks.
FAMILY = ("study", "demo", "--cluster", "run", "--by", "run", "--resamples", 0)


@pytest.fixture(scope="module")
def family(demo: Path) -> str:
    """The document of that study, whose folder is ``family``."""
    return run(*FAMILY, "-o", "family", "--json", cwd=demo).stdout


def test_family_of_the_demo(demo: Path, family: str) -> None:
    result = run(*FAMILY, "-o", "family", cwd=demo)
    assert "36 networks, 4 clusters by run" in result.stdout
    networks = pl.read_parquet(demo / "family/networks.parquet")
    accuracy = networks["test.accuracy"].to_numpy()
    for measure in ("margin", "cna_margin", "test.cna", "train.accuracy"):
        values = networks[measure].to_numpy()
        row = next(line for line in result.stdout.splitlines() if f"{measure} " in line)
        assert [float(word) for word in row.split()[-3:]] == [
            pytest.approx(peer(values, accuracy).statistic, abs=0.0051)
            for peer in (scipy.stats.pearsonr, scipy.stats.spearmanr, scipy.stats.kendalltau)
        ]


def test_interrupted_study_goes_on(demo: Path, family: str) -> None:
    words = [COMMAND, *map(str, FAMILY), "-o", "cut"]
    with subprocess.Popen(words, cwd=demo, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(list((demo / "cut").glob("scores/*.json"))) < 3:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=600)[1]
    assert process.returncode == 130
    assert "scores so far are in cut; the same command continues from there" in said
    again = run(*FAMILY, "-o", "cut", "--json", cwd=demo)
    assert 3 <= int(re.search(r"(\d+) scores were computed before", again.stderr)[1]) <= 36
    assert again.stdout == family


def test_studying_needs_no_runtime(here: Path) -> None:
    code = (
        "import sys, cnatool\n"
        "cnatool.study('stores', resamples=0)\n"
        "print([n for n in ('onnx', 'onnxruntime', 'torch', 'scipy') if n in sys.modules])"
    )
    assert python(code, cwd=here) == "[]\n"
    assert callable(cnatool.study)
