"""Write the tables of README.md from a file of figures.

They stand between two markers, and nothing else in the file is changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from figures import Report, Row, Side, Spread, read_report

BEGIN = "<!-- figures: written by `python benchmarks/tables.py` -->"
END = "<!-- end of figures -->"


def describe_row(row: Row) -> str:
    """Describe a row in one line, for the terminal."""
    spent = (
        f"; processor time {_number(row.processor_figure.median)}" if row.processor_figure else ""
    )
    sides = "; ".join(_describe_side(side) for side in (row.peer, row.cnatool) if side)
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
    parts = []
    if side.seconds and side.processor_seconds:
        spent = _number(side.processor_seconds.median)
        parts.append(f"{_number(side.seconds.median)} s ({spent} s)")
    if side.megabytes:
        parts.append(f"{side.megabytes.median:.0f} MB")
    return f"{side.title}: {', '.join(parts)}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def make_tables(report: Report) -> str:
    """Make the tables of a report."""
    machine, versions = report.machine, report.versions
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"{machine.cores} cores ({machine.processor}), {machine.memory_gb:.0f} GB, load "
        f"{machine.load[0]} at the beginning and {machine.load[1]} at the end; {software}; "
        f"`{report.command}`.",
        "",
        "| what | peer | cnatool | figure | processor time | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_make_line(row) for result in report.results for row in result.rows]
    left_out = {n: why for result in report.results for n, why in result.left_out.items()}
    if left_out:
        lines += ["", "Left out:"]
        lines += [f"- {name}: {reason}" for name, reason in left_out.items()]
    return "\n".join(lines)


def _make_line(row: Row) -> str:
    goal = "" if row.goal is None else f"≤ {_number(row.goal)}"
    verdict = {None: "", True: "reached", False: "missed"}[row.reached]
    spent: Spread | None = row.processor_figure
    cells = (
        row.what,
        _describe_side(row.peer) if row.peer else "",
        _describe_side(row.cnatool).removeprefix("cnatool: "),
        _describe_figure(row),
        _number(spent.median) if spent else "",
        goal,
        verdict,
    )
    return f"| {' | '.join(cells)} |"


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
