"""The table of the digits of version 0.1.0 in docs/reproduction.md, made from its results.

python examples/reproduce/digits_again.py            prints it
python examples/reproduce/digits_again.py --write    inserts it into the docs
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from docs_tables import format_estimate, format_table, insert_into_docs

RESULTS = Path(__file__).parent / "results" / "digits-again"
# Subsets of the networks, and what measures are correlated with over them.
_COLUMNS = (
    ("above 70 %", "test.accuracy"),
    ("standard above 70 %", "test.accuracy"),
    ("trained", "gap_accuracy"),
    ("standard", "gap_accuracy"),
    ("trained", "gap_loss"),
)

Row = dict[str, str]


def render(folder: Path = RESULTS) -> str:
    """Render the table in Markdown.

    Parameters
    ----------
    folder : Path
        Folder with ``correlations.csv``: ``subset``, ``target``, ``measure``, ``networks``, ``r``,
        ``low`` and ``high``.
    """
    with (folder / "correlations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = {(row["subset"], row["target"], row["measure"]): row for row in rows}
    head = ["measure"]
    for subset, target in _COLUMNS:
        size = max(int(row["networks"]) for row in rows if row["subset"] == subset)
        head.append(f"`{target}`, {subset}, n = {size}")
    table = [head]
    for measure in dict.fromkeys(row["measure"] for row in rows):
        found = [cells[*column, measure] for column in _COLUMNS]
        table.append([f"`{measure}`", *map(_format, found)])
    return format_table(table)


def _format(row: Row) -> str:
    value, low, high = (float(row[name]) if row[name] else None for name in ("r", "low", "high"))
    return format_estimate(value, low, high)


def main() -> None:
    """Print the table, or insert it into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md")
    if parser.parse_args().write:
        insert_into_docs([(RESULTS.name, render())])
    else:
        print(render())


if __name__ == "__main__":
    main()
