"""The tables of the earlier collections in docs/reproduction.md, made from result files.

python examples/reproduce/earlier_tables.py            prints them
python examples/reproduce/earlier_tables.py --write    inserts them into the docs
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from docs_tables import NONE, Table, format_estimate, format_number, format_table, insert_into_docs

RESULTS = Path(__file__).parent / "results"
AGAIN = RESULTS / "digits-again"
_SUBSETS = {
    "all": "all checkpoints",
    "above 70 %": "test accuracy above 70 %",
    "trained": "the end of training",
}

Row = dict[str, str]


def render(folder: Path) -> str:
    """Render the tables of one collection in Markdown.

    Parameters
    ----------
    folder : Path
        Folder with ``collection.json`` and ``correlations.csv``, as version 0.1.0 wrote them.
    """
    facts = json.loads((folder / "collection.json").read_text())
    with (folder / "correlations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = [_render_facts(facts)]
    for subset, title in _SUBSETS.items():
        chosen = [row for row in rows if row["subset"] == subset and not row["group"]]
        if chosen:
            count = max(int(row["networks"]) for row in chosen)
            clusters = max(int(row["clusters"]) for row in chosen)
            head = f"**{title[0].upper()}{title[1:]}**: {count} networks of {clusters} runs"
            parts += [head, format_table(_rank_measures(chosen))]
    with (folder / "bins.csv").open(newline="") as file:
        parts += [
            "**Means over bins by test accuracy** (Fig. 7)",
            format_table(_list_bins(list(csv.DictReader(file)))),
        ]
    several = len(facts["datasets"]) > 1
    for subset, by in (("all", "dataset" if several else "network"), ("kinds", "kind of data")):
        chosen = [row for row in rows if row["subset"] == subset and row["target"] != "gap"]
        table = _group_measures(chosen)
        if len(table[0]) > 2:
            parts += [
                f"**By {by}**, all checkpoints: Pearson with test accuracy",
                format_table(table),
            ]
    chosen = [row for row in rows if row["subset"] == "conventions" and row["target"] != "gap"]
    parts += [
        "**By convention**: Pearson with test accuracy",
        format_table(_group_measures(chosen)),
    ]
    return "\n\n".join(parts) + "\n"


def _render_facts(facts: dict[str, object]) -> str:
    seconds = facts["seconds"]
    assert isinstance(seconds, dict)
    stages = ", ".join(f"{stage} {_minutes(value)}" for stage, value in seconds.items())
    versions = facts["versions"]
    assert isinstance(versions, dict)
    lines = [
        f"{facts['networks_studied']} networks: {facts['runs']} runs, each at the epochs "
        f"{_join(facts['epochs'])}.",
        f"Data: {_join(facts['datasets'])}; {_rows(facts['rows'])} training and "
        f"{_rows(facts['test_rows'])} test samples; {_join(facts['kinds'])}.",
        f"Networks: {_join(facts['networks'])}. Seeds: {facts['seeds']}.",
        f"Time: {stages}. Accuracy differs from PyTorch's by at most "
        f"{facts['accuracy_differs_from_pytorch_by']:.2g}. PyTorch {versions['torch']}.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _rank_measures(rows: Sequence[Row]) -> Table:
    """Return one row per measure, by falling magnitude of the correlation with test accuracy."""
    targets: dict[str, dict[str, Row]] = {"test.accuracy": {}, "gap": {}}
    for row in rows:
        targets[row["target"]][row["measure"]] = row
    order = sorted(
        targets["test.accuracy"].values(), key=lambda row: -abs(float(row["pearson"] or "0"))
    )
    head = ["measure", "n", "accuracy: r", "95 %", "ρ", "τ-b", "gap: r", "95 %", "ρ", "τ-b"]
    table = [head]
    for row in order:
        gap = targets["gap"][row["measure"]]
        table.append([_name(row), row["networks"], *_numbers(row), *_numbers(gap)])
    return table


def _numbers(row: Row) -> list[str]:
    low, high = _number(row["low"]), _number(row["high"])
    interval = NONE if NONE in (low, high) else f"{low} … {high}"
    return [_number(row["pearson"]), interval, _number(row["spearman"]), _number(row["kendall_b"])]


def _group_measures(rows: Sequence[Row]) -> Table:
    """Return one row per measure and one column per group, with the number of its networks."""
    groups = list(dict.fromkeys(row["group"] for row in rows if row["group"]))
    measures = list(dict.fromkeys((row["measure"], _name(row)) for row in rows))
    cells = {(row["group"], row["measure"]): row for row in rows}
    counts = {
        group: max(int(row["networks"]) for row in rows if row["group"] == group)
        for group in groups
    }
    table = [["measure", *(f"{group}, n = {counts[group]}" for group in groups)]]
    for measure, name in measures:
        values = [cells.get((group, measure)) for group in groups]
        table.append([name, *(_number(row["pearson"]) if row else NONE for row in values)])
    return table


def _list_bins(rows: Sequence[Row]) -> Table:
    """Return one row per bin."""
    count, *means = rows[0]
    table = [[count, *(f"`{name}`" for name in means)]]
    return table + [[row[count], *(_number(row[name]) for name in means)] for row in rows]


def _name(row: Row) -> str:
    kind = "" if row["kind"] == "measure" else f"{row['kind']}: "
    return f"{kind}`{row['measure']}`"


def _number(text: str) -> str:
    return format_number(float(text) if text else None)


def _join(values: object) -> str:
    assert isinstance(values, list)
    return ", ".join(map(str, values))


def _rows(count: object) -> str:
    return "all" if count is None else f"the first {count:,}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def render_again(folder: Path) -> str:
    """Render the table of the collection for the digits that was trained and scored again.

    Parameters
    ----------
    folder : Path
        Folder with ``correlations.csv``: ``subset``, ``target``, ``measure``, ``networks``, ``r``,
        ``low`` and ``high``.
    """
    with (folder / "correlations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = {(row["subset"], row["target"], row["measure"]): row for row in rows}
    columns = [
        ("above 70 %", "test.accuracy"),
        ("standard above 70 %", "test.accuracy"),
        ("trained", "gap_accuracy"),
        ("standard", "gap_accuracy"),
        ("trained", "gap_loss"),
    ]
    head = ["measure"]
    for subset, target in columns:
        size = max(int(row["networks"]) for row in rows if row["subset"] == subset)
        head.append(f"`{target}`, {subset}, n = {size}")
    table = [head]
    for measure in dict.fromkeys(row["measure"] for row in rows):
        found = [cells[*column, measure] for column in columns]
        table.append([f"`{measure}`", *map(_r_with_interval, found)])
    return format_table(table) + "\n"


def _r_with_interval(row: Row) -> str:
    value, low, high = (float(row[name]) if row[name] else None for name in ("r", "low", "high"))
    return format_estimate(value, low, high)


def list_collections() -> Iterator[Path]:
    """Yield the folders with results, sorted by name."""
    return (path.parent for path in sorted(RESULTS.glob("*/collection.json")))


def render_all() -> Iterator[tuple[str, str]]:
    """Yield the tables of every collection, by the names of their marks in the docs."""
    yield AGAIN.name, render_again(AGAIN)
    for folder in list_collections():
        yield folder.name, render(folder)


def main() -> None:
    """Print the tables, or insert them into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md")
    if parser.parse_args().write:
        insert_into_docs(render_all())
        return
    for name, tables in render_all():
        print(f"## {name}\n\n{tables}\n")


if __name__ == "__main__":
    main()
