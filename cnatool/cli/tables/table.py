"""Tables on standard output, plain text that survives a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import typer

from cnatool._util.text import printable, shorten, transliterate
from cnatool.cli.console import ALL, print_line

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

# Terminals are rarely narrower than what is left of a name that shares a row with numbers.
_LEAST_TEXT = 12
# Text cells may shrink to this share of the terminal before columns move to another block.
_TEXT_SHARE = 4
# Most columns of a table, and on a terminal most rows: the first, and the last few, which may be
# totals.
_MOST_COLUMNS = 100
_MOST_ROWS = 1000
_LAST_ROWS = 100
# Characters of a cell, on a terminal and elsewhere.
_LONGEST_SHOWN = 200
_LONGEST = 1000
# Between two columns: one space of padding, one of the box.
_GAP = 2

Column = tuple[str, Literal["left", "right"]]


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    keys: int | None = None,
    attached: Container[int] = (),
) -> None:
    """Print a table with a header.

    Where the table is wider than the terminal, text wraps inside its cells, and columns that
    still do not fit follow in further blocks, each of which repeats the key columns. Numbers are
    never wrapped or cut. Without a terminal the table has its full width, whatever ``COLUMNS`` and
    ``FORCE_COLOR`` are: interpreters with line editing set the first for the processes that they
    start. A line below a long or wide table says how much is left out.

    Parameters
    ----------
    columns : sequence of (str, str)
        Headers, of one line or more, and the side that cells are aligned to.
    rows : sequence of sequence of str
        Cells, printed literally: names from files are never markup.
    keys : int, optional
        Number of leading columns that identify a row. By default the first column, and the second
        too where it holds text and the first a number.
    attached : container of int
        Columns that stay in one block with the column before them, as an interval with its value.
    """
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(highlight=False)
    terminal = sys.stdout.isatty()
    columns, rows, left_out = _limit(columns, rows, terminal=terminal)
    longest = _LONGEST_SHOWN if terminal else _LONGEST

    def cell_text(cell: str) -> str:
        # Before anything is measured: "alpha" is wider than the α that a terminal may lack.
        text = shorten(printable(shorten(cell, longest)), longest)
        return transliterate(text, console.encoding)

    columns = [("\n".join(map(cell_text, header.split("\n", 2))), side) for header, side in columns]
    rows = [list(map(cell_text, row)) for row in rows]
    if keys is None:
        keys = 2 if [side for _, side in columns[:2]] == ["right", "left"] else 1
    full = [
        max(map(cell_len, (*header.split("\n"), *cells)))
        for (header, _), *cells in zip(columns, *rows, strict=True)
    ]
    ascii_only = not console.encoding.lower().startswith("utf")
    if terminal:
        _print_blocks(console, columns, rows, full, keys, attached, ascii_only=ascii_only)
    else:
        typer.echo("\n".join(_lines(columns, rows, full, rule="-" if ascii_only else "─")))
    for line in left_out:
        print_line(line)


def _limit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, terminal: bool
) -> tuple[Sequence[Column], Sequence[Sequence[str]], list[str]]:
    """Limit the columns and rows of a table; return lines about how many are left out."""
    left_out = []
    if (hidden := len(columns) - _MOST_COLUMNS) > 0:
        columns = columns[:_MOST_COLUMNS]
        rows = [row[:_MOST_COLUMNS] for row in rows]
        left_out.append(f"{hidden:,} more columns are not shown: --json prints all")
    if terminal and (hidden := len(rows) - _MOST_ROWS) > 0:
        last = rows[len(rows) - _LAST_ROWS :]
        rows = [*rows[: _MOST_ROWS - _LAST_ROWS], ["…"] * len(columns), *last]
        left_out.append(f"{hidden:,} rows (…) are not shown: {ALL}")
    return columns, rows, left_out


def _lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int], rule: str
) -> Iterator[str]:
    """Yield the lines of a table in its full width."""
    from rich.cells import cell_len

    def line(cells: Iterable[str]) -> str:
        filled = []
        for cell, width, (_, side) in zip(cells, widths, columns, strict=True):
            blank = " " * (width - cell_len(cell))
            filled.append(f"{blank}{cell}" if side == "right" else f"{cell}{blank}")
        return (" " * _GAP).join(filled)

    headers = [header.split("\n") for header, _ in columns]
    height = max(map(len, headers))
    for place in range(height):
        yield line(
            header[place - height + len(header)] if place >= height - len(header) else ""
            for header in headers
        )
    yield rule * (sum(widths) + _GAP * (len(widths) - 1))
    yield from map(line, rows)


def _print_blocks(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    full: Sequence[int],
    keys: int,
    attached: Container[int],
    *,
    ascii_only: bool,
) -> None:
    """Print a table in blocks of columns that fit the terminal."""
    width = console.width
    text = max(_LEAST_TEXT, width // _TEXT_SHARE)
    least = [
        widest if side == "right" else min(widest, text)
        for (_, side), widest in zip(columns, full, strict=True)
    ]
    for number_of_block, block in enumerate(_blocks(least, keys, attached, width)):
        if number_of_block:
            console.print()
        # A key and one number may be wider than the terminal.
        console.width = max(width, sum(least[i] + _GAP for i in block))
        console.print(
            _table(
                [columns[i] for i in block],
                [[row[i] for i in block] for row in rows],
                [least[i] for i in block],
                ascii_only=ascii_only,
            )
        )


def _blocks(
    widths: Sequence[int], keys: int, attached: Container[int], width: int
) -> list[list[int]]:
    """Divide columns into blocks no wider than a line, each with the key columns first."""
    key = list(range(keys))
    taken = sum(widths[i] + _GAP for i in key) - _GAP
    units: list[list[int]] = []
    for i in range(keys, len(widths)):
        if units and i in attached:
            units[-1].append(i)
        else:
            units.append([i])
    blocks = [list(key)]
    room = width - taken
    for unit in units:
        needed = sum(widths[i] + _GAP for i in unit)
        if needed > room and len(blocks[-1]) > keys:
            blocks.append(list(key))
            room = width - taken
        blocks[-1] += unit
        room -= needed
    return blocks


def _table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    least: Sequence[int],
    *,
    ascii_only: bool,
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    simple = box.SIMPLE_HEAD
    if ascii_only:
        simple = box.Box(str(simple).replace("─", "-"), ascii=True)
    table = Table(box=simple, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for (header, side), width in zip(columns, least, strict=True):
        table.add_column(
            Text(header),
            justify=side,
            overflow="fold",
            no_wrap=side == "right",
            min_width=width,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
