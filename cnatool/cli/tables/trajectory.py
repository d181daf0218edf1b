"""Checkpoints along training as tables."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cnatool._util.text import count_text, number_text, printable
from cnatool.cli.console import first_parts, print_line, print_notes, print_reasons
from cnatool.cli.tables.study import print_not_scored
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.cli.tables.table import Column
    from cnatool.studying.results import RunResult, StepResult, TrajectoryResult

# So many splits of short names fit a terminal side by side, and so many groups of α.
_SPLITS = 2
_SHORT = 8
_GROUPS = 7
_TEST = "test"


def print_trajectory(result: TrajectoryResult) -> None:
    """Print each run step by step, error by α over its steps, and what is undefined or left out."""
    print_line(f"convention {result.convention}")
    title = step_title(result.order)
    for run in first_parts(result.runs, "runs"):
        name = "" if run.name is None else f"{printable(result.by)} {printable(run.name)}: "
        print_line(f"\n{name}{count_text(len(run.steps), 'step')}\n")
        names = list(dict.fromkeys(name for step in run.steps for name in step.splits))
        for number_, shown in enumerate(
            first_parts(list(_side_by_side(names)), "tables of splits")
        ):
            if number_:
                print_line("")
            _print_steps(title, run.steps, shown, pair=not number_)
        _print_errors(title, run, _TEST if _TEST in names else names[0])
    print_reasons("undefined (–)", dict.fromkeys(_reasons(result, title)))
    print_not_scored(result.not_scored)
    print_notes(result.notes)


def step_title(order: str | None) -> str:
    """Name the column of steps, by the tag that numbers them, which a store named."""
    return "step" if order is None else printable(order)


def step_text(step: float) -> str:
    """Write a step: whole numbers without a point."""
    return f"{step:.12g}"


def _side_by_side(names: Sequence[str]) -> Iterator[list[str]]:
    size = _SPLITS if max(map(len, names)) <= _SHORT else 1
    rest = iter(names)
    while some := list(islice(rest, size)):
        yield some


def _print_steps(
    title: str, steps: Sequence[StepResult], names: Sequence[str], *, pair: bool
) -> None:
    columns: list[Column] = [(title, "right")]
    for what in ("accuracy", "loss", "CNA"):
        columns += [(f"{what}\n{name}", "right") for name in names]
    if pair:
        columns += [("CNA-A", "right"), ("CNA-M", "right")]
    rows = []
    for step in steps:
        splits = [step.splits.get(name) for name in names]
        values = [
            *(None if split is None else split.accuracy for split in splits),
            *(None if split is None else split.loss for split in splits),
            *(None if split is None else split.cna.value for split in splits),
        ]
        if pair:
            values += [step.cna_area.value, step.cna_margin.value]
        rows.append([step_text(step.step), *map(number_text, values)])
    print_table(columns, rows)


def _print_errors(title: str, run: RunResult, name: str) -> None:
    """Print a split's error by quantiles of α over the steps (paper Fig. 6)."""
    steps = [step for step in run.steps if name in step.splits]
    # α is of the samples, the same at all steps.
    groups = steps[0].splits[name].alpha_groups
    if all(step.splits[name].performance_reason is not None for step in steps):
        return
    print_line(f"\nerror on {name} by quantiles of α\n")
    shown = range(min(len(groups), _GROUPS))
    print_table(
        [
            (title, "right"),
            *(
                (f"{number_text(group.alpha_min, 2)} …\n{number_text(group.alpha_max, 2)}", "right")
                for group in groups[:_GROUPS]
            ),
        ],
        [
            [
                step_text(step.step),
                *(number_text(step.splits[name].alpha_groups[i].error) for i in shown),
            ]
            for step in steps
        ],
    )
    if len(groups) > _GROUPS:
        print_line(f"and {len(groups) - _GROUPS} more groups, in the files that -o writes")


def _reasons(result: TrajectoryResult, title: str) -> Iterator[str]:
    """Yield why numbers are undefined; steps with the same reason share a line."""
    places: dict[tuple[str, str], list[str]] = {}
    for run in result.runs:
        for step in run.steps:
            where = f"{'' if run.name is None else f'{printable(run.name)} '}{step_text(step.step)}"
            missing = [("CNA-A", step.cna_area.reason), ("CNA-M", step.cna_margin.reason)]
            for name, split in step.splits.items():
                missing.append((f"accuracy and loss of {name}", split.performance_reason))
                missing.append((f"CNA of {name}", split.cna.reason))
            for what, reason in missing:
                if reason is not None:
                    places.setdefault((what, reason), []).append(where)
    steps = sum(len(run.steps) for run in result.runs)
    for (what, reason), inside in places.items():
        where = "all steps" if len(inside) == steps else f"{title} {', '.join(inside)}"
        yield f"{what} at {where}: {reason}"
