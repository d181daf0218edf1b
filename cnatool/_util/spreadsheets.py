"""CSV that is safe to open in a spreadsheet: no cell is interpreted as a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO, Literal

    import polars

# The start of a formula, possibly after characters that some programs trim, and after quotes, so
# that quotes that are added can be told from those that were there. Full-width signs count in
# Japanese versions. https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = r"^'*[\s\p{Cc}\p{Cf}]*[=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]|^'*[\t\r\n]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_QUOTE = "'"
# Cell separators other than the comma; text with one of them is put in double quotes.
_SEPARATOR = r"[;\t|]"


def write_csv(
    frame: polars.DataFrame, target: str | Path | IO[bytes], *, header: bool = True
) -> None:
    """Write a frame as CSV, its text quoted by `to_spreadsheet`."""
    safe = to_spreadsheet(frame)
    quotes: Literal["necessary", "non_numeric"] = (
        "non_numeric" if _has_separator(safe) else "necessary"
    )
    safe.write_csv(target, include_header=header, quote_style=quotes)


def to_spreadsheet(frame: polars.DataFrame) -> polars.DataFrame:
    """Put a single quote before headers and text cells that look like a formula.

    These begin with ``=``, ``+``, ``-``, ``@`` (or a full-width form of one), possibly after blanks
    or control characters, or with a tab, a return or a line feed, and are not plain numbers.
    Columns of numbers are unchanged. `from_spreadsheet` is the inverse.
    """
    import polars as pl

    kinds = pl.Categorical, pl.Enum
    named = [name for name, dtype in frame.schema.items() if isinstance(dtype, kinds)]
    return _map_text(frame.with_columns(pl.col(named).cast(pl.String)), _quote)


def from_spreadsheet(frame: polars.DataFrame) -> polars.DataFrame:
    """Remove the single quotes that `to_spreadsheet` adds."""
    return _map_text(frame, _unquote)


def _map_text(
    frame: polars.DataFrame, change: Callable[[polars.Expr], polars.Expr]
) -> polars.DataFrame:
    """Apply a function to all strings of a frame, and to its column names."""
    import polars as pl

    names = pl.select(change(pl.lit(pl.Series(frame.columns, dtype=pl.String)))).to_series()
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    changed = frame.with_columns(change(pl.col(name)).alias(name) for name in texts)
    changed.columns = names.to_list()
    return changed


def _quote(text: polars.Expr) -> polars.Expr:
    import polars as pl

    formula = text.str.contains(_FORMULA) & ~text.str.contains(_NUMBER)
    return pl.when(formula).then(pl.lit(_QUOTE) + text).otherwise(text)


def _unquote(text: polars.Expr) -> polars.Expr:
    import polars as pl

    rest = text.str.slice(1)
    made = text.str.starts_with(_QUOTE) & rest.str.contains(_FORMULA)
    return pl.when(made).then(rest).otherwise(text)


def _has_separator(frame: polars.DataFrame) -> bool:
    """Whether a string contains a cell separator other than the comma."""
    import polars as pl

    texts = (column for column in frame if column.dtype == pl.String)
    return any(column.str.contains(_SEPARATOR).any() for column in texts)
