"""Result files → the tables of docs/reproduction.md.

python examples/reproduce/tables.py            prints them
python examples/reproduce/tables.py --write    puts them into the docs, between their marks
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[2] / "docs" / "reproduction.md"
_MARKS = "<!-- {0}: begin -->\n", "<!-- {0}: end -->\n"
_NONE = "–"
_SUBSETS = {
    "all": "all checkpoints",
    "above 70 %": "test accuracy above 70 %",
    "trained": "the end of training",
}

Row = dict[str, str]


def rendered(folder: Path) -> str:
    """Write the tables of one collection in Markdown.

    Parameters
    ----------
    folder : Path
        With ``collection.json`` and ``correlations.csv``, as `reproduce.py` writes them.
    """
    facts = json.loads((folder / "collection.json").read_text())
    with (folder / "correlations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = [_facts(facts)]
    for subset, title in _SUBSETS.items():
        chosen = [row for row in rows if row["subset"] == subset and not row["group"]]
        if chosen:
            count = max(int(row["networks"]) for row in chosen)
            clusters = max(int(row["clusters"]) for row in chosen)
            head = f"**{title[0].upper()}{title[1:]}**: {count} networks of {clusters} runs"
            parts += [head, _table(_ranked(chosen))]
    with (folder / "bins.csv").open(newline="") as file:
        parts += [
            "**Means over bins by test accuracy** (Fig. 7)",
            _table(_binned(list(csv.DictReader(file)))),
        ]
    several = len(facts["datasets"]) > 1
    for subset, by in (("all", "dataset" if several else "network"), ("kinds", "kind of data")):
        chosen = [row for row in rows if row["subset"] == subset and row["target"] != "gap"]
        table = _by_group(chosen)
        if len(table[0]) > 2:
            parts += [f"**By {by}**, all checkpoints: Pearson with test accuracy", _table(table)]
    chosen = [row for row in rows if row["subset"] == "conventions" and row["target"] != "gap"]
    parts += ["**By convention**: Pearson with test accuracy", _table(_by_group(chosen))]
    return "\n\n".join(parts) + "\n"


def _facts(facts: dict[str, object]) -> str:
    seconds = facts["seconds"]
    assert isinstance(seconds, dict)
    stages = ", ".join(f"{stage} {_minutes(value)}" for stage, value in seconds.items())
    versions = facts["versions"]
    assert isinstance(versions, dict)
    lines = [
        f"{facts['networks_studied']} networks: {facts['runs']} runs, each at the epochs "
        f"{_listed(facts['epochs'])}.",
        f"Data: {_listed(facts['datasets'])}; {_rows(facts['rows'])} training and "
        f"{_rows(facts['test_rows'])} test samples; {_listed(facts['kinds'])}.",
        f"Networks: {_listed(facts['networks'])}. Seeds: {facts['seeds']}.",
        f"Time: {stages}. Accuracy differs from PyTorch's by at most "
        f"{facts['accuracy_differs_from_pytorch_by']:.2g}. PyTorch {versions['torch']}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _ranked(rows: Sequence[Row]) -> list[list[str]]:
    """Give a row a measure, those first that go most with test accuracy, whatever their sign."""
    of: dict[str, dict[str, Row]] = {"test.accuracy": {}, "gap": {}}
    for row in rows:
        of[row["target"]][row["measure"]] = row
    order = sorted(of["test.accuracy"].values(), key=lambda row: -abs(float(row["pearson"] or "0")))
    head = ["measure", "n", "accuracy: r", "95 %", "ρ", "τ-b", "gap: r", "95 %", "ρ", "τ-b"]
    table = [head]
    for row in order:
        gap = of["gap"][row["measure"]]
        table.append([_name(row), row["networks"], *_numbers(row), *_numbers(gap)])
    return table


def _numbers(row: Row) -> list[str]:
    low, high = _number(row["low"]), _number(row["high"])
    interval = _NONE if _NONE in (low, high) else f"{low} … {high}"
    return [_number(row["pearson"]), interval, _number(row["spearman"]), _number(row["kendall_b"])]


def _by_group(rows: Sequence[Row]) -> list[list[str]]:
    """Give a row a measure and a column a group, with the networks that each is of."""
    groups = list(dict.fromkeys(row["group"] for row in rows if row["group"]))
    measures = list(dict.fromkeys((row["measure"], _name(row)) for row in rows))
    found = {(row["group"], row["measure"]): row for row in rows}
    counts = {
        group: max(int(row["networks"]) for row in rows if row["group"] == group)
        for group in groups
    }
    table = [["measure", *(f"{group}, n = {counts[group]}" for group in groups)]]
    for measure, name in measures:
        cells = [found.get((group, measure)) for group in groups]
        table.append([name, *(_number(row["pearson"]) if row else _NONE for row in cells)])
    return table


def _binned(rows: Sequence[Row]) -> list[list[str]]:
    """Give a row a bin."""
    count, *means = rows[0]
    table = [[count, *(f"`{name}`" for name in means)]]
    return table + [[row[count], *(_number(row[name]) for name in means)] for row in rows]


def _name(row: Row) -> str:
    kind = "" if row["kind"] == "measure" else f"{row['kind']}: "
    return f"{kind}`{row['measure']}`"


def _number(text: str) -> str:
    # A minus sign as long as a plus, and no -0.00.
    return _NONE if not text else f"{float(text) + 0.0:.2f}".replace("-0.00", "0.00")


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _listed(values: object) -> str:
    assert isinstance(values, list)
    return ", ".join(map(str, values))


def _rows(count: object) -> str:
    return "all" if count is None else f"the first {count:,}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def collections() -> Iterator[Path]:
    """Give the folders with results, in order of their names."""
    return (path.parent for path in sorted(RESULTS.glob("*/collection.json")))


def with_tables(text: str, folders: Iterable[Path]) -> str:
    """Put tables into a text, between the marks of each collection's name."""
    for folder in folders:
        begin, end = (mark.format(folder.name) for mark in _MARKS)
        if begin not in text or end not in text:
            raise SystemExit(f"{DOCS}: no marks {begin.strip()} and {end.strip()}.")
        between = f"{re.escape(begin)}.*?{re.escape(end)}"
        made = f"{begin}\n{rendered(folder)}\n{end}"
        text = re.sub(between, lambda _, made=made: made, text, flags=re.DOTALL)
    return text


def main() -> None:
    """Print the tables, or put them into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md")
    if parser.parse_args().write:
        DOCS.write_text(with_tables(DOCS.read_text("utf-8"), collections()), "utf-8")
        return
    for folder in collections():
        print(f"## {folder.name}\n\n{rendered(folder)}")


if __name__ == "__main__":
    main()
