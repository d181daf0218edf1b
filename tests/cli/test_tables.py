"""Tables wider than the terminal."""

from __future__ import annotations

import re
import sys

import pytest
from rich.cells import cell_len

from cnatool.cli.console import first_parts, print_line, print_lines
from cnatool.cli.tables.table import Column, print_table

_COLUMNS: list[Column] = [
    ("depth", "right"),
    ("layer", "left"),
    ("operator", "left"),
    ("mean z", "right"),
    ("CNA", "right"),
    ("95 % interval", "right"),
    ("samples", "right"),
]
_ROWS = [
    [
        str(depth),
        f"/model/layers.{depth}/self_attn/q_proj/MatMul_output_0",
        "MatMul",
        f"{depth * -1234.5678:.4f}",
        f"{depth / 7:.4f}",
        f"{depth / 9:.4f} … {depth / 5:.4f}",
        "60000",
    ]
    for depth in range(1, 4)
]


def _terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _terminal(monkeypatch, width)
    print_table(_COLUMNS, _ROWS, attached={5})
    lines = _lines(capsys)
    assert max(map(cell_len, lines)) <= width
    for cell in (cell for row in _ROWS for i, cell in enumerate(row) if i in (3, 5)):
        assert sum(line.count(cell) for line in lines) == 1
    # Each block repeats what identifies a row, and an interval stays beside its value.
    heads = [line for line in lines if "depth" in line]
    assert all("layer" in line for line in heads)
    assert [line.count("95 % interval") for line in heads] == [line.count("CNA") for line in heads]
    assert sum(line.count("CNA") for line in heads) == 1
    assert (len(heads) == 1) == (width >= 100)


@pytest.mark.parametrize("width", [10, 20, 40, 60, 200])
def test_numbers_are_never_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _terminal(monkeypatch, width)
    cells = ["-9484.7612 … -8681.7234", "123456789.0123", "-0.5000"]
    columns: list[Column] = [
        ("layer", "left"),
        ("from … to", "right"),
        ("z", "right"),
        ("c", "right"),
    ]
    print_table(columns, [["a/very/long/name/of/a/layer/in/some/block", *cells]])
    shown = "\n".join(_lines(capsys))
    for cell in cells:
        assert shown.count(cell) == 1
    assert "from … to" in shown
    assert "layer" in shown


@pytest.mark.parametrize(
    "environment",
    [{}, {"COLUMNS": "40"}, {"COLUMNS": "wide"}]
    + [
        {name: "1", "COLUMNS": "40"} for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE")
    ],
)
def test_a_pipe_keeps_the_full_width(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_table(_COLUMNS, _ROWS)
    head, _, *rows = _lines(capsys)
    assert [header for header, _ in _COLUMNS] == re.split(r"\s{2,}", head.strip())
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == _ROWS


@pytest.mark.parametrize(
    ("sides", "keys", "repeated"),
    [
        (["left", "right", "right", "right"], None, "a"),
        (["right", "left", "right", "right"], None, "ab"),
        (["right", "right", "right", "right"], None, "a"),
        (["left", "left", "right", "right"], 2, "ab"),
    ],
)
def test_the_columns_that_identify_a_row_are_repeated(
    sides: list[str],
    keys: int | None,
    repeated: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _terminal(monkeypatch, 24)
    columns = list(zip("abcd", sides, strict=True))
    print_table(columns, [["1", "2", "3" * 18, "4" * 18]], keys=keys)  # type: ignore[arg-type]
    text = "\n".join(_lines(capsys))
    assert [text.count(letter) for letter in "abcd"] == [
        2 if letter in repeated else 1 for letter in "abcd"
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_of_20000_columns_is_cut_and_says_so(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if terminal:
        _terminal(monkeypatch, 120)
    columns: list[Column] = [("layer", "left"), *((f"g{i}", "right") for i in range(20_000))]
    print_table(columns, [["a", *map(str, range(20_000))]])
    text = "\n".join(_lines(capsys))
    assert len(text) < 10_000
    assert "19,901 more columns are not shown: --json prints all" in text
    assert re.search(r"\bg98\b", text)
    assert not re.search(r"\bg99\b", text)


def test_a_terminal_is_spared_most_rows_of_very_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[str(i), f"t{i}"] for i in range(20_000)]
    print_table([("#", "right"), ("tensor", "left")], rows)
    assert [line.split() for line in _lines(capsys)[2:]] == rows
    _terminal(monkeypatch, 80)
    print_table([("#", "right"), ("tensor", "left")], rows)
    *lines, last = _lines(capsys)
    found = [line.split() for line in lines[2:]]
    assert found == [*rows[:900], ["…", "…"], *rows[-100:]]
    assert last == "19,000 rows (…) are not shown: --json or a pipe prints all"


@pytest.mark.parametrize("terminal", [True, False])
def test_cells_and_headers_are_literal_and_bounded(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if terminal:
        _terminal(monkeypatch, 4000)
    hostile = "[bold]x[/bold] [link=http://e.org]y[/link] :smile:"
    names = [hostile, "a\x1b[31m\x9b\u202eb", "long" * 1_000_000]
    print_table([(name, "left") for name in names], [names])
    header, _, row = _lines(capsys)
    assert header == row
    assert hostile in row
    assert r"'a\x1b[31m\x9b\u202eb'" in row
    assert row.rstrip().endswith("longlong")
    assert len(row) < 1200


def test_a_terminal_is_spared_most_lines_of_a_long_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_lines(f"fault {i}" for i in range(20_000))
    assert _lines(capsys) == [f"fault {i}" for i in range(20_000)]
    _terminal(monkeypatch, 80)
    print_lines(f"fault {i}" for i in range(20_000))
    *lines, last = _lines(capsys)
    assert lines == [f"fault {i}" for i in range(200)]
    said = "are not shown: --json or a pipe prints all"
    assert last == f"19,800 more lines {said}"
    assert list(first_parts(range(60), "splits")) == list(range(50))
    assert _lines(capsys) == [f"10 more splits {said}"]


def test_empty_lines_around_a_text_stay_and_names_make_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_line("\nsplit a\nnote: all is well\n")
    print_line("")
    assert capsys.readouterr().out == "\nsplit a\\nnote: all is well\n\n\n"
