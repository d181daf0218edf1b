"""The tables of docs/reproduction.md, made from what reproduce.py has written.

python examples/reproduce/study_tables.py FOLDER            prints them
python examples/reproduce/study_tables.py FOLDER --write    inserts them into the docs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import polars as pl
from collection import check_whole
from correlating import (
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
    Estimate,
    Subset,
    read_correlations,
)
from docs_tables import (
    NONE,
    Table,
    format_estimate,
    format_number,
    format_table,
    insert_into_docs,
)
from rules import Evidence, apply_rules
from tasks import STANDARD, TASKS

# What is correlated with test accuracy, and with the gap.
_WITH_ACCURACY = (
    *CNA.values(),
    SMOOTHED_OF_SCRIPTS,
    "reference:test.cna",
    "training-mode:test.cna",
    "training-mode:test.cna.smoothed",
    "training-mode:legacy:test.cna",
    MEAN_ALPHA,
    CNA_MARGIN,
    *OTHERS,
)
_WITH_GAP = (
    CNA_MARGIN,
    "margin_split=test:cna_margin",
    "reference:cna_margin",
    "legacy:cna_margin",
    *AREAS.values(),
    "legacy:cna_area",
    *CNA.values(),
    SMOOTHED_OF_SCRIPTS,
    "training-mode:test.cna",
    "training-mode:legacy:test.cna",
    MEAN_ALPHA,
    *OTHERS,
)
_WITHIN_TASKS = (*AREAS.values(), *CNA.values(), SMOOTHED_OF_SCRIPTS, CNA_MARGIN, "train.accuracy")


def list_networks(networks: pl.DataFrame) -> Table:
    """List the runs of each task, kind of data and architecture: how they ended."""
    rows = [["task", "data", "network", "runs", "converged", "epochs", "test accuracy"]]
    last = networks.filter(pl.col("tag.last") == "True").with_columns(
        epochs=pl.col("tag.epoch").cast(pl.Int64)
    )
    keys = ["tag.task", "tag.kind", "tag.network"]
    # Standard runs first, in the order of the tasks.
    names = dict.fromkeys((*TASKS, *last["tag.task"].unique().sort()))
    order = {name: place for place, name in enumerate(names)}
    last = last.sort(
        pl.col("tag.kind") != STANDARD,
        pl.col("tag.task").replace_strict(order, return_dtype=pl.Int64),
        "tag.kind",
        "tag.network",
    )
    for key, part in last.group_by(keys, maintain_order=True):
        task, kind, network = map(str, key)
        converged = int((part["tag.converged"] == "True").sum())
        rows.append(
            [
                f"`{task}`",
                kind,
                network,
                str(len(part)),
                str(converged),
                _range(part["epochs"], str),
                _range(part[ACCURACY], lambda value: f"{100 * value:.1f} %"),
            ]
        )
    return rows


def list_verdicts(correlations: Sequence[Correlation], differences: Sequence[Difference]) -> Table:
    """List what each rule says."""
    rows = [["rule", "decided for", "outcome", "numbers"]]
    for verdict in apply_rules(correlations, differences):
        outcome = "holds" if verdict.holds else "does not hold"
        rows.append([str(verdict.rule), verdict.of, outcome, verdict.evidence])
    return rows


def list_measures(evidence: Evidence, subset: Subset, measures: Sequence[str]) -> Table:
    """List r of measures with the targets of a subset, with intervals."""
    rows = [["measure", "n", *(f"`{target}`" for target in subset.targets)]]
    for measure in measures:
        found = [evidence.correlation(subset, target, measure) for target in subset.targets]
        sizes = sorted({str(each.networks) for each in found if each is not None})
        if sizes:
            rows.append([f"`{measure}`", ", ".join(sizes), *map(_format, found)])
    return rows


def list_tasks(evidence: Evidence, kind: str, target: str, measures: Sequence[str]) -> Table:
    """List r of measures with a target within each task, with intervals and numbers of networks."""
    rows = [["task", *(f"`{measure}`" for measure in measures)]]
    for task in TASKS:
        found = [evidence.correlation(Subset(kind, task), target, each) for each in measures]
        rows.append([f"`{task}`", *map(_format_with_size, found)])
    return rows


def list_differences(evidence: Evidence, subset: Subset) -> Table:
    """List how much |r| of CNA-M exceeds that of each other measure."""
    rows = [["|r| of CNA-M minus |r| of", "n", *(f"`{gap}`" for gap in GAPS)]]
    for other in OTHERS:
        found = [evidence.difference(subset, gap, CNA_MARGIN, other) for gap in GAPS]
        sizes = sorted({str(each.networks) for each in found if each is not None})
        rows.append([f"`{other}`", ", ".join(sizes), *map(_format, found)])
    return rows


# What is correlated over parts of the networks: a measure with a target, of a subset.
_SELECTED = (
    (CNA["raw"], ACCURACY, Subset("good")),
    (CNA_MARGIN, GAPS[0], Subset("all")),
    ("train.accuracy", GAPS[0], Subset("all")),
)


def list_selections(networks: pl.DataFrame) -> Table:
    """List coefficients over parts of the networks, without intervals."""
    every, standard = pl.lit(value=True), pl.col("tag.kind") == STANDARD
    parts: list[tuple[str, pl.Expr, Literal["pearson", "spearman"]]] = [
        ("all networks", every, "pearson"),
        ("all networks, by ranks", every, "spearman"),
        ("at the end of training", pl.col("tag.last") == "True", "pearson"),
        ("standard networks", standard, "pearson"),
        ("memorising networks", ~standard, "pearson"),
        *((name, pl.col("tag.network") == name, "pearson") for name in ("mlp", "vgg", "resnet")),
    ]
    heads = [f"`{measure}` with `{target}`" for measure, target, _ in _SELECTED]
    rows = [["over", *(part for head in heads for part in (head, "n"))]]
    for title, part, method in parts:
        cells = [title]
        for measure, target, subset in _SELECTED:
            both = subset.select(networks).filter(part).drop_nulls([measure, target])
            r = both.select(pl.corr(measure, target, method=method)).item() if len(both) else None
            cells += [format_number(r), str(len(both))]
        rows.append(cells)
    return rows


def list_tables(
    networks: pl.DataFrame,
    correlations: Sequence[Correlation],
    differences: Sequence[Difference],
) -> Iterator[tuple[str, str]]:
    """Yield all tables in Markdown, by the names of their marks in the docs."""
    evidence = Evidence(correlations, differences)
    good, every, last = Subset("good"), Subset("all"), Subset("last")
    yield "networks", format_table(list_networks(networks), words=3)
    yield "verdicts", format_table(list_verdicts(correlations, differences), words=4)
    yield "accuracy", format_table(list_measures(evidence, good, _WITH_ACCURACY))
    cna = (*CNA.values(), SMOOTHED_OF_SCRIPTS)
    yield "accuracy-within-tasks", format_table(list_tasks(evidence, "good", ACCURACY, cna))
    yield "gap", format_table(list_measures(evidence, every, _WITH_GAP))
    yield "gap-of-last", format_table(list_measures(evidence, last, _WITH_GAP))
    yield "margin-leads", format_table(list_differences(evidence, every))
    yield "margin-leads-of-last", format_table(list_differences(evidence, last))
    yield "sensitivity", format_table(list_selections(networks))
    for gap in GAPS:
        table = list_tasks(evidence, "all", gap, _WITHIN_TASKS)
        yield f"{gap}-within-tasks", format_table(table)


def _format(found: Estimate | None) -> str:
    return NONE if found is None else format_estimate(found.value, found.low, found.high)


def _format_with_size(found: Correlation | None) -> str:
    if found is None:
        return NONE
    return f"{_format(found)}, n = {found.networks}, {found.clusters} runs"


def _range(values: pl.Series, write: Callable[[float], str]) -> str:
    least, greatest = values.min(), values.max()
    assert isinstance(least, float | int)
    assert isinstance(greatest, float | int)
    return " … ".join(dict.fromkeys([write(least), write(greatest)]))


def main() -> None:
    """Print the tables, or insert them into the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="with networks.parquet, correlations.csv and differences.csv",
    )
    parser.add_argument("--write", action="store_true", help="into docs/reproduction.md")
    options = parser.parse_args()
    table = options.folder / "networks.parquet"
    networks = pl.read_parquet(table)
    check_whole(networks, table)
    tables = list_tables(networks, *read_correlations(options.folder))
    if options.write:
        insert_into_docs(tables)
        return
    for name, table in tables:
        print(f"## {name}\n\n{table}\n")


if __name__ == "__main__":
    main()
