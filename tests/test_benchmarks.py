"""The benchmarks run, and the documents say what the file of figures says."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cnatool

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
README = BENCHMARKS / "README.md"


def start(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script with the package that is tested."""
    package = str(Path(cnatool.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": package},
    )


def run(script: str, *words: object) -> str:
    """Run a script that succeeds; return what it prints."""
    done = start(script, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_measurement_becomes_a_row_of_the_table(tmp_path: Path) -> None:
    figures, readme = tmp_path / "figures.json", tmp_path / "README.md"
    words = ("--scale", "0.002", "--rounds", "1", "--quick")
    places = ("--cache", tmp_path / "cache", "--json", figures)
    printed = run("all.py", *words, *places, "--only", "statistics/mlp")
    report = json.loads(figures.read_bytes())
    assert report["machine"]["cores"] >= 1
    assert {"cnatool", "Python", "numpy", "onnxruntime"} <= report["versions"].keys()
    [result] = report["results"]
    assert [row["goal"] for row in result["rows"]] == [1.05, 1.05]
    for row in result["rows"]:
        ratio = row["measured"]["seconds"]["median"] / row["peer"]["seconds"]["median"]
        assert abs(row["figure"]["median"] / ratio - 1) < 0.01
        assert row["reached"] == (row["figure"]["median"] <= 1.05)
        assert row["what"] in printed
    assert not list((tmp_path / "cache").glob("output-*"))

    shutil.copy(README, readme)
    run("tables.py", figures, "--readme", readme)
    once = readme.read_text("utf-8")
    assert all(row["what"] in once for row in result["rows"])
    run("tables.py", figures, "--readme", readme)
    assert readme.read_text("utf-8") == once

    both = ("--only", "statistics/mlp", "score/small")
    kept = run("all.py", *words, *places, *both, "--continue")
    assert all(row["what"] in kept for row in result["rows"])
    results = json.loads(figures.read_bytes())["results"]
    assert results[0] == result
    assert [each["name"] for each in results] == ["statistics/mlp", "score/small"]


def test_the_readme_has_the_tables_of_the_figures(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    shutil.copy(README, readme)
    run("tables.py", "--readme", readme)
    assert readme.read_text("utf-8") == README.read_text("utf-8")


def test_wrong_names_and_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    for words, reason in (
        (("--only", "statistics/*", "nosuch"), "no measurement is called 'nosuch': statistics/mlp"),
        (("--rounds", "0"), "--rounds is at least 1"),
        (("--scale", "-1"), "--scale is above 0"),
    ):
        done = start("all.py", *words, "--json", figures, "--cache", tmp_path)
        assert done.returncode
        assert reason in done.stderr
    assert not figures.exists()


@pytest.mark.parametrize(
    "script",
    sorted(path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()),
)
def test_a_script_says_how_it_is_called(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    printed = capsys.readouterr().out.lower()
    assert "usage" in printed or f"{script} " in printed
