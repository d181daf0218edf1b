"""Tables on standard output, plain text that survives a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cnatool.text import printable, transliterated

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = ["Column", "number", "print_table"]

# Terminals are rarely narrower than what is left of a name that shares a row with numbers.
_LEAST_TEXT = 12
# Text cells may shrink to this share of the terminal before columns move to another block.
_TEXT_SHARE = 4
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
    never wrapped or cut. Without a terminal the table has its full width, whatever ``COLUMNS``
    is: interpreters with line editing set it for the processes that they start.

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
    # Before anything is measured: "alpha" is wider than the α that a terminal may lack.
    columns = [(transliterated(header, console.encoding), side) for header, side in columns]
    rows = [[transliterated(printable(cell), console.encoding) for cell in row] for row in rows]
    if keys is None:
        keys = 2 if [side for _, side in columns[:2]] == ["right", "left"] else 1
    full = [
        max(map(cell_len, (*header.split("\n"), *cells)))
        for (header, _), *cells in zip(columns, *rows, strict=True)
    ]
    width = _width(console)
    if width is None:
        least = full
        blocks = [list(range(len(columns)))]
    else:
        text = max(_LEAST_TEXT, width // _TEXT_SHARE)
        least = [
            widest if side == "right" else min(widest, text)
            for (_, side), widest in zip(columns, full, strict=True)
        ]
        blocks = _blocks(least, keys, attached, width)
    for number_of_block, block in enumerate(blocks):
        if number_of_block:
            console.print()
        # A key and one number may be wider than the terminal.
        room = sum((full if width is None else least)[i] + _GAP for i in block)
        console.width = room if width is None else max(width, room)
        console.print(
            _table(
                [columns[i] for i in block],
                [[row[i] for i in block] for row in rows],
                [least[i] for i in block],
                ascii_only=not console.encoding.lower().startswith("utf"),
            )
        )


def _width(console: Console) -> int | None:
    """Return the number of characters that a line has room for; None where nothing limits it."""
    return console.width if console.is_terminal else None


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


def number(value: float | None, digits: int = 4) -> str:
    """Write a number for a table, no zero with a sign; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"
