"""``cnatool plot`` as installed, on the stores of the demo."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image
from support.charts import captions, rows
from support.command import python, run

import cnatool

pytest.importorskip("altair", reason="pictures are drawn with Altair")
pytest.importorskip("vl_convert", reason="pictures are written by vl-convert")

STORE = "demo/noisy-labels-epoch012.zarr"


@pytest.fixture(scope="module")
def here(demo: Path) -> Path:
    run("study", "demo", "-o", "study", "--cluster", "run", "--resamples", 0, cwd=demo)
    run("trajectory", "demo", "--by", "run", "-o", "trajectory", cwd=demo)
    return demo


@pytest.mark.parametrize(
    ("source", "figure"),
    [
        (STORE, "depth-profile"),
        (STORE, "alpha-beta"),
        (STORE, "error-by-alpha"),
        ("study", "trajectory"),
        ("study", "bins"),
        ("study", "gap"),
        ("study", "measures"),
        ("trajectory", "trajectory"),
        ("trajectory", "error-by-alpha"),
    ],
)
def test_every_figure_of_the_demo(here: Path, source: str, figure: str) -> None:
    result = run("plot", source, "--figure", figure, "-o", "p.png", cwd=here)
    assert (result.stdout, result.stderr) == ("", "wrote p.png\n")
    with Image.open(here / "p.png") as picture:
        assert picture.format == "PNG"
        # Two inches to a page's width, at two pixels to one.
        assert 2 * 192 < picture.width < 7.5 * 192


def test_options_reach_the_figure(here: Path) -> None:
    words = ("plot", STORE, "--figure", "alpha-beta", "--split", "test")
    words += ("--convention", "legacy", "--set", "window=10", "--width", 111, "--height", 77)
    run(*words, "-o", "p.json", cwd=here)
    chart = json.loads((here / "p.json").read_text("utf-8"))
    assert "convention legacy+window=10; line: running mean over 10 samples" in captions(chart)
    points, curve = rows(chart, "alpha")
    samples = cnatool.score_samples(here / STORE, convention="legacy").filter(split="test")
    assert [row["beta"] for row in points] == samples["beta"].to_list()
    assert len(curve) == len(samples) - 9
    assert '"width": 111' in json.dumps(chart)
    assert '"height": 77' in json.dumps(chart)


def test_a_page_and_a_drawing(here: Path) -> None:
    run("plot", "study", "--figure", "bins", "--by", "run", "-o", "p.svg", cwd=here)
    root = ET.parse(here / "p.svg").getroot()
    said = "".join(root.itertext())
    assert all(run in said for run in ("adam", "conv", "noisy-labels", "sgd"))
    run("plot", "study", "--figure", "bins", "-o", "p.html", cwd=here)
    assert (here / "p.html").read_text("utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (STORE, "--figure", "bins"),
            "--figure bins is drawn from the folder of a study: `cnatool study … --output DIR`. "
            "This is a store, for which there are depth-profile, alpha-beta, area, error-by-alpha.",
        ),
        (
            ("study", "--figure", "alpha-beta"),
            "This is a study, for which there are trajectory, bins, gap, measures.",
        ),
        (
            (STORE, "--figure", "x"),
            "--figure x: no such figure. There are depth-profile, alpha-beta, area, "
            "error-by-alpha, trajectory, landscape, bins, gap, measures.",
        ),
        (
            ("study", "--figure", "bins", "--split", "test"),
            "--split is not for --figure bins, which takes --measure, --by.",
        ),
        (("study", "--figure", "bins", "--set", "bins=3"), "--set is not for --figure bins"),
        (("study", "--figure", "bins", "--measure", "x"), "--measure x: the study has no such"),
        (("study", "--figure", "gap", "--by", "epoch"), "this tag has 9 values, but a reader can"),
        (("study", "--figure", "measures", "--coefficient", "x"), "there are pearson, spearman"),
        (("study", "--figure", "trajectory", "--order", "x"), "--order x: no store has this tag"),
        ((STORE, "--figure", "alpha-beta", "--split", "x"), "there are train, test."),
        ((STORE, "--figure", "alpha-beta", "--width", "-1"), "--width -1: give pixels"),
        ((STORE, "--figure", "alpha-beta", "--scale", "0"), "--scale 0: give"),
        (("study", "--figure", "bins", "--width", "9999", "--scale", "9"), "pixels large: reduce"),
        (("demo", "--figure", "alpha-beta"), "demo: more than 12 stores are too many for one"),
        (("study", STORE, "--figure", "bins"), "a figure is of one study"),
        (("study/scores", "--figure", "bins"), "study/scores: no store is in this folder"),
        (("nothing", "--figure", "alpha-beta"), "nothing"),
    ],
)
def test_what_cannot_be_meant(here: Path, words: tuple[str, ...], message: str) -> None:
    assert message in run("plot", *words, "-o", "no.png", cwd=here, code=2).stderr
    assert not (here / "no.png").exists()


@pytest.mark.parametrize("name", ["study.json", "networks.parquet"])
def test_a_broken_study(here: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(here / "study", tmp_path / "s")
    (tmp_path / "s" / name).write_bytes(b"{}")
    said = run("plot", "s", "--figure", "gap", "-o", "p.png", cwd=tmp_path, code=2).stderr
    assert f"s/{name} cannot be read: " in said
    assert "Run `cnatool study … --output s` again." in said


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_without_the_extra(here: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = run("plot", STORE, "--figure", "alpha-beta", "-o", "no.png", cwd=here, code=2)
    assert "which is not installed: python -m pip install 'cnatool[plot]'" in result.stderr


def test_plotting_needs_no_runtime(here: Path) -> None:
    code = (
        "import sys, cnatool\n"
        "cnatool.plot('study', 'bins')\n"
        f"cnatool.plot({STORE!r}, 'alpha-beta').to_dict()\n"
        "print([n for n in ('onnx', 'onnxruntime', 'torch', 'pandas') if n in sys.modules])"
    )
    assert python(code, cwd=here) == "[]\n"
