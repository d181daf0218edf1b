"""``cnatool report`` as installed."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
from support.command import run
from support.pages import Blocks, record

QUICK = ("--set", "resamples=0", "--set", "area_resamples=0", "--set", "permutations=0")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    record(tmp_path / "net.zarr")
    return tmp_path


def test_the_page_is_named_after_the_store(here: Path) -> None:
    result = run("report", "net.zarr", *QUICK, cwd=here)
    assert result.stdout == ""
    assert result.stderr.startswith("wrote net.html, ")
    view = Blocks(here / "net.html").blocks["view-0"]
    assert view["convention"] == "paper+resamples=0+area_resamples=0+permutations=0"


def test_options_reach_the_page(here: Path) -> None:
    words = ("--title", "My <page>", "--max-samples", 30, "-o", "p.html")
    result = run("report", "net.zarr", *words, *QUICK, "--convention", "legacy", cwd=here)
    assert "net: 30 of 240 samples are shown, chosen at random with seed 0" in result.stderr
    page = Blocks(here / "p.html")
    assert page.blocks["view-0"]["convention"].startswith("legacy+")
    assert "<title>My &lt;page&gt;</title>" in (here / "p.html").read_text("utf-8")


def test_an_existing_page_is_kept(here: Path) -> None:
    (here / "net.html").write_text("mine")
    result = run("report", "net.zarr", cwd=here, code=2)
    assert "net.html is already there: name another file, or pass --overwrite." in result.stderr
    assert (here / "net.html").read_text() == "mine"
    run("report", "net.zarr", *QUICK, "--overwrite", cwd=here)
    assert (here / "net.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_the_page_opens_in_the_browser(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    result = run("report", "net.zarr", *QUICK, "--open", cwd=here)
    assert opened == [(here / "net.html").resolve().as_uri()]
    assert (
        f"no browser could be started: open {here.resolve() / 'net.html'} in one" in result.stderr
    )


def test_a_store_that_is_left_out(here: Path) -> None:
    result = run("report", "net.zarr", "missing.zarr", *QUICK, cwd=here, code=1)
    assert "left out: missing.zarr" in result.stderr
    assert list(Blocks(here / "report.html").blocks) == ["view-0", *pictures(here / "report.html")]
    run("report", "net.zarr", "missing.zarr", "-o", "b.html", "--strict", cwd=here, code=2)
    assert not (here / "b.html").exists()


def pictures(path: Path) -> list[str]:
    return [name for name in Blocks(path).blocks if name.startswith("pictures-")]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("missing.zarr",), "missing.zarr"),
        ((".", "--max-samples", 0), "--max-samples 0: give 1 or more."),
        (("net.zarr", "-o", "page.pdf"), "must end in .html"),
        (("net.zarr", "--set", "bins=none"), "bins"),
        (("net.zarr", "--scores-output", "none"), "has no such output"),
    ],
)
def test_errors_are_short(words: tuple[object, ...], error: str, here: Path) -> None:
    result = run("report", *words, cwd=here, code=2)
    assert error in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(here.glob("*.html"))
