"""Tables on standard output, plain text that survives a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cnatool.text import printable, transliterated

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Column", "number", "print_table"]

_UNBOUNDED = 100_000
# Names are not folded to less than this.
_FOLDED = 12

Column = tuple[str, Literal["left", "right"]]


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header.

    Parameters
    ----------
    columns : sequence of (str, str)
        Headers, of one line or more, and which side they keep to.
    rows : sequence of sequence of str
        Cells, printed as they are: names from files are never markup.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    # Before anything is measured: "alpha" is wider than the α that a terminal may lack.
    columns = [(transliterated(header, console.encoding), side) for header, side in columns]
    rows = [[transliterated(printable(cell), console.encoding) for cell in row] for row in rows]
    simple = box.SIMPLE_HEAD
    if not console.encoding.lower().startswith("utf"):
        simple = box.Box(str(simple).replace("─", "-"), ascii=True)
    table = Table(box=simple, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for (header, side), *cells in zip(columns, *rows, strict=True):
        # Names may fold; a number in two parts, or cut off, would be read as another.
        right = side == "right"
        widest = max(map(cell_len, (*header.split("\n"), *cells)))
        table.add_column(
            Text(header),
            justify=side,
            overflow="fold",
            no_wrap=right,
            min_width=widest if right else min(widest, _FOLDED),
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    wide = console.options.update(width=_UNBOUNDED, max_width=_UNBOUNDED)
    needed = console.measure(table, options=wide)
    # Without a terminal there is no width to keep to, and a folded name is hard to read on.
    least = needed.minimum if console.is_terminal else needed.maximum
    console.width = max(console.width, least)
    console.print(table)


def number(value: float | None, digits: int = 4) -> str:
    """Write a number for a table, no zero with a sign; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"
