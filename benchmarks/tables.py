"""Write the tables of README.md from a file of figures.

Only the text between two markers is replaced.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from figures import Machine, Report, Row, Side, read_report

BEGIN = "<!-- figures: written by `python benchmarks/tables.py` -->"
END = "<!-- end of figures -->"


def describe_row(row: Row) -> str:
    """Describe a row in one line, for the terminal."""
    spent = (
        f"; processor time {_number(row.processor_figure.median)}" if row.processor_figure else ""
    )
    sides = "; ".join(_describe_side(side) for side in (row.peer, row.measured) if side)
    return f"{row.what}: {_describe_figure(row)}{spent}{_describe_goal(row)} [{sides}]"


def _describe_figure(row: Row) -> str:
    figure = row.figure
    spread = ""
    if figure.lowest != figure.highest:
        spread = f" ({_number(figure.lowest)} to {_number(figure.highest)})"
    unit = "" if row.unit == "times" else f" {row.unit}"
    return f"{_number(figure.median)}{unit}{spread}"


def _describe_goal(row: Row) -> str:
    if row.goal is None:
        return ""
    return f", goal ≤ {_number(row.goal)}: {'reached' if row.reached else 'missed'}"


def _describe_side(side: Side) -> str:
    spent = _number(side.processor_seconds.median)
    peak = f", {side.megabytes.median:,.0f} MB" if side.megabytes else ""
    return f"{side.title}: {_number(side.seconds.median)} s ({spent} s){peak}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def make_tables(report: Report) -> str:
    """Make the tables of a report: of the figures with a goal, and of those without."""
    machine, versions = report.machine, report.versions
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    begin, end = machine.load
    rows = [row for result in report.results for row in result.rows]
    with_goal = [row for row in rows if row.goal is not None]
    others = [row for row in rows if row.goal is None]
    reached = sum(row.reached is True for row in with_goal)
    lines = [
        f"`{report.command}` on {machine.cores} cores ({machine.processor}) with "
        f"{machine.memory_gb:.0f} GB and a load of {begin:.1f} at the beginning and {end:.1f} at "
        f"the end; {software}. "
        + (_warn(machine) or f"{reached} of {len(with_goal)} goals are reached."),
        *_make_table(with_goal, ("goal", "")),
        *(_make_table(others, ()) if others else ()),
    ]
    left_out = {n: why for result in report.results for n, why in result.left_out.items()}
    if left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {name}: {reason}" for name, reason in left_out.items()]
    return "\n".join(lines)


def _warn(machine: Machine) -> str:
    """Return a warning about figures from a busy machine; the run itself keeps it busy, too."""
    if machine.load[0] <= machine.cores / 2 and machine.load[1] <= 2 * machine.cores:
        return ""
    return (
        "**The machine was busy with other work.** ONNX Runtime's threads wait by spinning, so "
        "plain inference suffers most, and these figures do not show whether the goals are met."
    )


def _make_table(rows: list[Row], more: tuple[str, ...]) -> list[str]:
    """Make the lines of a table, which a blank line opens."""
    titles = ("what", "peer", "cnatool", "figure", "processor time", *more)
    lines = [_list_cells(row)[: len(titles)] for row in rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *lines))]


def _list_cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    spent = row.processor_figure
    return [
        row.what,
        _describe_side(row.peer) if row.peer else "",
        _describe_side(row.measured).removeprefix("cnatool: "),
        _describe_figure(row),
        _number(spent.median) if spent else "",
        "" if row.goal is None else f"≤ {_number(row.goal)}",
        {None: "", True: "reached", False: "missed"}[row.reached],
    ]


def fill(text: str, tables: str) -> str:
    """Return a text with the tables between its markers."""
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise SystemExit(f"the text has no {BEGIN} … {END}")
    return f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}"


def main() -> None:
    """Rewrite the README."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, nargs="?", default=here / "figures.json")
    parser.add_argument("--readme", type=Path, default=here / "README.md")
    options = parser.parse_args()
    text = options.readme.read_text("utf-8")
    options.readme.write_text(fill(text, make_tables(read_report(options.figures))), "utf-8")


if __name__ == "__main__":
    main()
