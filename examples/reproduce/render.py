"""The tables of the larger study in docs/reproduction.md, made from the table of networks.

python examples/reproduce/render.py networks.parquet            prints them
python examples/reproduce/render.py networks.parquet --write    inserts them into the docs
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
from deciding import (
    ACCURACY,
    AREAS,
    CNA,
    CNA_MARGIN,
    GAPS,
    MEAN_ALPHA,
    OTHERS,
    SMOOTHED_OF_SCRIPTS,
    Correlation,
    Difference,
    correlate,
)
from rules import Evidence, apply_rules
from tasks import TASKS

DOCS = Path(__file__).parents[2] / "docs" / "reproduction.md"
NONE = "–"
_MARKS = "<!-- {0}: begin -->", "<!-- {0}: end -->"
# What is correlated with test accuracy, and with the gap.
_WITH_ACCURACY = (
    *CNA.values(),
    SMOOTHED_OF_SCRIPTS,
    "reference:test.cna",
    "training-mode:test.cna",
    "training-mode:test.cna.smoothed",
    MEAN_ALPHA,
    CNA_MARGIN,
    *OTHERS,
)
_WITH_GAP = (
    CNA_MARGIN,
    "margin_split=test:cna_margin",
    "legacy:cna_margin",
    *AREAS.values(),
    *CNA.values(),
    SMOOTHED_OF_SCRIPTS,
    MEAN_ALPHA,
    *OTHERS,
)
_WITHIN_TASKS = (*AREAS.values(), *CNA.values(), SMOOTHED_OF_SCRIPTS, CNA_MARGIN, "train.accuracy")

Table = Sequence[Sequence[str]]


def render_networks(networks: pl.DataFrame) -> Table:
    """List the runs of each task and architecture: how they ended, and their last accuracies."""
    rows = [["task", "network", "data", "runs", "converged", "epochs", "test accuracy"]]
    last = networks.filter(pl.col("tag.last") == "True").with_columns(
        pl.when(pl.col("tag.kind") == "standard")
        .then(pl.lit("standard"))
        .otherwise(pl.lit("memorised"))
        .alias("data"),
        pl.col("tag.epoch").cast(pl.Int64).alias("epochs"),
    )
    keys = ["tag.task", "data", "tag.network"]
    for (task, data, network), part in last.group_by(keys, maintain_order=True):
        converged = (part["tag.converged"] == "True").sum()
        rows.append(
            [
                f"`{task}`",
                str(network),
                str(data),
                str(len(part)),
                str(converged),
                _range(part["epochs"], str),
                _range(part[ACCURACY], lambda value: f"{100 * value:.1f} %"),
            ]
        )
    return rows


def render_verdicts(
    correlations: Sequence[Correlation], differences: Sequence[Difference]
) -> Table:
    """List what each rule says."""
    rows = [["rule", "decided for", "outcome", "numbers"]]
    for verdict in apply_rules(correlations, differences):
        outcome = "holds" if verdict.holds else "does not hold"
        rows.append([str(verdict.rule), verdict.of, outcome, verdict.evidence])
    return rows


def render_subset(
    evidence: Evidence, subset: str, targets: Sequence[str], measures: Sequence[str]
) -> Table:
    """List r of measures with targets over a subset, with intervals."""
    rows = [["measure", "n", *(f"`{target}`" for target in targets)]]
    for measure in measures:
        found = [evidence.correlation(subset, target, measure) for target in targets]
        sizes = {each.networks for each in found if each is not None}
        if sizes:
            rows.append([f"`{measure}`", _join(sizes), *map(format_correlation, found)])
    return rows


def render_tasks(evidence: Evidence, subset: str, target: str, measures: Sequence[str]) -> Table:
    """List r of measures with a target within each task, with intervals."""
    found = {task: evidence.correlation(f"{subset} {task}", target, measures[0]) for task in TASKS}
    heads = [f"`{task}`, n = {each.networks}" for task, each in found.items() if each is not None]
    tasks = [task for task, each in found.items() if each is not None]
    rows = [["measure", *heads]]
    rows += [
        [
            f"`{measure}`",
            *(
                format_correlation(evidence.correlation(f"{subset} {task}", target, measure))
                for task in tasks
            ),
        ]
        for measure in measures
    ]
    return rows


def render_differences(differences: Sequence[Difference], subset: str) -> Table:
    """List how much |r| of CNA-M exceeds that of each other measure."""
    found = {
        (each.target, each.second): each
        for each in differences
        if each.subset == subset and each.first == CNA_MARGIN
    }
    rows = [["|r| of CNA-M minus |r| of", *(f"`{gap}`" for gap in GAPS)]]
    for other in OTHERS:
        cells = (found.get((gap, other)) for gap in GAPS)
        rows.append([f"`{other}`", *map(format_difference, cells)])
    return rows


def list_tables(
    networks: pl.DataFrame,
    correlations: Sequence[Correlation],
    differences: Sequence[Difference],
) -> Iterator[tuple[str, Table]]:
    """Yield all tables by the names of their marks in the docs."""
    evidence = Evidence(correlations, differences)
    yield "networks", render_networks(networks)
    yield "verdicts", render_verdicts(correlations, differences)
    yield "accuracy", render_subset(evidence, "good", [ACCURACY], _WITH_ACCURACY)
    yield (
        "accuracy-within-tasks",
        render_tasks(evidence, "good", ACCURACY, (*CNA.values(), SMOOTHED_OF_SCRIPTS)),
    )
    for subset in ("all", "last"):
        yield f"gap-{subset}", render_subset(evidence, subset, GAPS, _WITH_GAP)
    yield "margin-leads", render_differences(differences, "all")
    for gap in GAPS:
        yield f"{gap}-within-tasks", render_tasks(evidence, "all", gap, _WITHIN_TASKS)


def format_correlation(found: Correlation | None) -> str:
    """Write r with its interval."""
    return NONE if found is None else _format(found.r, found.low, found.high)


def format_difference(found: Difference | None) -> str:
    """Write a difference with its interval."""
    return NONE if found is None else _format(found.difference, found.low, found.high)


def format_table(table: Table) -> str:
    """Write a table in Markdown."""
    head, *body = table
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def insert_tables(text: str, tables: Iterator[tuple[str, Table]]) -> str:
    """Insert tables into a text, between the marks with their names."""
    for name, table in tables:
        begin, end = (mark.format(name) for mark in _MARKS)
        if begin not in text or end not in text:
            raise SystemExit(f"{DOCS}: no marks {begin} and {end}.")
        new = f"{begin}\n\n{format_table(table)}\n\n{end}"
        between = f"{re.escape(begin)}.*?{re.escape(end)}"
        text = re.sub(between, lambda _, new=new: new, text, flags=re.DOTALL)
    return text


def _format(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return NONE
    if low is None or high is None:
        return _number(value)
    return f"{_number(value)} ({_number(low)} … {_number(high)})"


def _number(value: float) -> str:
    # No −0.00.
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _range(values: pl.Series, write: Callable[[float], str]) -> str:
    ends = [write(value) for value in (values.min(), values.max())]
    return " … ".join(dict.fromkeys(ends))


def _join(sizes: set[int]) -> str:
    return ", ".join(map(str, sorted(sizes)))


def main() -> None:
    """Print the tables, or insert them into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", type=Path, metavar="networks.parquet")
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md")
    options = parser.parse_args()
    networks = pl.read_parquet(options.networks)
    tables = list_tables(networks, *correlate(networks))
    if options.write:
        DOCS.write_text(insert_tables(DOCS.read_text("utf-8"), tables), "utf-8")
        return
    for name, table in tables:
        print(f"## {name}\n\n{format_table(table)}\n")


if __name__ == "__main__":
    main()
