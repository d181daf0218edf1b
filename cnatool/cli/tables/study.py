"""A study as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import escape
from cnatool.cli.console import print_line, print_notes, print_reasons
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.table import number, print_table
from cnatool.studying.columns import is_variant, measure_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.cli.tables.table import Column
    from cnatool.studying.results import (
        MeasureCorrelation,
        NotScored,
        StudyEstimate,
        StudyResult,
        StudySettings,
    )

_TITLES = {"measure": "", "norm": "norm: ", "trivial": "trivial: "}


def print_study(result: StudyResult, *, everything: bool = False) -> None:
    """Print how each measure correlates with each target, and which stores are left out.

    With `everything` also variants of a measure, such as CNA by other coefficients, and what
    measures say beyond the hyperparameters.
    """
    if result.convention is not None:
        print_line(f"convention {result.convention}")
    clusters = (
        "each by itself"
        if result.settings.cluster is None
        else f"{result.clusters} clusters by {result.settings.cluster}"
    )
    networks = "1 network" if result.networks == 1 else f"{result.networks} networks"
    print_line(f"{networks}, {clusters}")
    for line in _tag_lines(result.settings):
        print_line(line)
    shown = [row for row in result.correlations if everything or not is_variant(row.measure)]
    whole = [row for row in shown if row.group is None]
    for target in result.settings.targets:
        _print_target(target, [row for row in whole if row.target == target], result)
    if result.settings.by is not None:
        for target in result.settings.targets:
            _print_groups(target, [row for row in shown if row.target == target], result)
    for target in result.settings.targets:
        _print_against_baseline(target, whole, result)
    if everything:
        _print_beyond_hyperparameters(result)
    _print_reasons(whole, result)
    print_not_scored(result.not_scored)
    print_notes(result.notes)


def _tag_lines(settings: StudySettings) -> Iterator[str]:
    """Yield lines on the tags that are hyperparameters, and on why the others are not."""
    if settings.hyperparameters:
        fixed = f"; {', '.join(settings.held)} held fixed" if settings.held else ""
        yield f"hyperparameters: {', '.join(settings.hyperparameters)}{fixed}"
    elif settings.not_hyperparameters:
        yield "no tag is a hyperparameter, so there is no Ψ, K and sign error"
    if settings.not_hyperparameters:
        tags = ", ".join(f"{tag} ({why})" for tag, why in settings.not_hyperparameters.items())
        yield f"no hyperparameters: {tags}"


def print_not_scored(not_scored: Sequence[NotScored]) -> None:
    """Print the stores that could not be scored, with the reasons; nothing where there are none."""
    if not not_scored:
        return
    print_line("\nnot scored:")
    print_table(
        [("store", "left"), ("reason", "left")],
        [
            # The reason may begin with the path, as errors do.
            [row.path, with_options(row.reason.removeprefix(f"{path}: ").removeprefix(f"{path} "))]
            for row in not_scored
            for path in [escape(row.path)]
        ],
    )


def _print_target(target: str, rows: Sequence[MeasureCorrelation], result: StudyResult) -> None:
    level = _level(result)
    intervals = any(row.pearson.interval is not None for row in rows)
    columns: list[Column] = [("measure", "left"), ("n", "right")]
    for name in ("Pearson", "Spearman", "Kendall τ-b"):
        columns.append((name, "right"))
        if intervals:
            columns.append((f"{level} interval", "right"))
    print_line(f"\ncorrelation with {target}\n")
    print_table(
        columns,
        [
            [f"{_TITLES[row.kind]}{row.measure}", str(row.networks), *cells]
            for row in rows
            if row.pearson.value is not None
            for cells in [_cells((row.pearson, row.spearman, row.kendall_b), intervals)]
        ],
        attached={3, 5, 7} if intervals else (),
    )


def _level(result: StudyResult) -> str:
    return f"{result.settings.level:.0%}".replace("%", " %")


def _print_against_baseline(
    target: str, whole: Sequence[MeasureCorrelation], result: StudyResult
) -> None:
    """Print whether measures go with a target more than the best trivial baseline does."""
    of = {row.measure: row.pearson.value for row in whole if row.target == target}
    pairs = [
        row
        for row in result.differences
        if row.target == target
        and row.coefficient == "pearson"
        and row.magnitude.value is not None
        and measure_kind(row.second) == "trivial"
    ]
    trivial = {row.second: abs(of.get(row.second) or 0) for row in pairs}
    if not trivial:
        return
    best = max(trivial, key=lambda name: trivial[name])
    rows = []
    for row in pairs:
        if row.second != best:
            continue
        edges = row.magnitude.interval
        verdict = "undecided" if edges is not None else "–"
        if edges is not None and edges[0] > 0:
            verdict = "yes"
        elif edges is not None and edges[1] < 0:
            verdict = "no"
        rows.append(
            [
                row.first,
                str(row.networks),
                number(row.magnitude.value, 2),
                _interval(edges),
                verdict,
            ]
        )
    print_line(f"\ncorrelation with {target}, against the best trivial baseline: {best}\n")
    print_table(
        [
            ("measure", "left"),
            ("n", "right"),
            (f"|r| − |r| of {best}", "right"),
            (f"{_level(result)} interval", "right"),
            ("beats it", "left"),
        ],
        rows,
    )


def _print_beyond_hyperparameters(result: StudyResult) -> None:
    """Print Ψ, K and the sign error, and which tags they take for hyperparameters."""
    settings = result.settings
    for target in settings.targets:
        defined = [
            row
            for row in result.hyperparameters
            if row.target == target
            and not is_variant(row.measure)
            and (row.psi.value is not None or row.sign_error.mean is not None)
        ]
        rows = [
            [
                f"{_TITLES[row.kind]}{row.measure}",
                str(row.networks),
                number(row.psi.value, 2),
                _interval(row.psi.interval),
                number(row.information.value, 3),
                number(row.sign_error.mean, 2),
                number(row.sign_error.percentile_90, 2),
                number(row.sign_error.max, 2),
                str(row.sign_error.environments),
            ]
            for row in defined
        ]
        if not rows:
            continue
        print_line(f"\n{target} beyond the hyperparameters\n")
        print_table(
            [
                ("measure", "left"),
                ("n", "right"),
                ("Ψ", "right"),
                (f"{_level(result)} interval", "right"),
                ("K", "right"),
                ("sign error:\nmean", "right"),
                ("90th\npercentile", "right"),
                ("greatest", "right"),
                ("environments", "right"),
            ],
            rows,
        )
        reasons = {
            text: name
            for row in defined
            for name, text in (
                ("Ψ", row.psi.reason),
                ("Ψ's interval", row.psi.interval_reason),
                ("K", row.information.reason),
                ("sign error", row.sign_error.reason),
            )
            if text is not None
        }
        for text, name in reasons.items():
            print_line(f"  no {name}: {text}")


def _interval(edges: tuple[float, float] | None) -> str:
    return "–" if edges is None else " … ".join(number(edge, 2) for edge in edges)


def _cells(estimates: Sequence[StudyEstimate], intervals: bool) -> list[str]:
    cells = []
    for estimate in estimates:
        cells.append(number(estimate.value, 2))
        if intervals:
            cells.append(_interval(estimate.interval))
    return cells


def _print_groups(target: str, rows: Sequence[MeasureCorrelation], result: StudyResult) -> None:
    by = result.settings.by
    groups = list(dict.fromkeys(row.group for row in rows))
    sizes = {g: max(row.networks for row in rows if row.group == g) for g in groups}
    of = {(row.measure, row.group): row for row in rows}
    print_line(f"\ncorrelation with {target} by {by}: Pearson, Spearman\n")
    print_table(
        [
            ("measure", "left"),
            *((f"{'all' if g is None else g}\nn = {sizes[g]}", "right") for g in groups),
        ],
        [
            [
                f"{_TITLES[row.kind]}{row.measure}",
                *(
                    f"{number(of[row.measure, g].pearson.value, 2)}, "
                    f"{number(of[row.measure, g].spearman.value, 2)}"
                    for g in groups
                ),
            ]
            for row in rows
            if row.group is None and row.pearson.value is not None
        ],
    )


def _print_reasons(whole: Sequence[MeasureCorrelation], result: StudyResult) -> None:
    explained = {row.measure for row in result.undefined}
    reasons: dict[str, list[str]] = {}
    without: dict[str, list[str]] = {}
    for row in whole:
        if row.pearson.reason is None:
            if row.pearson.interval_reason is not None:
                without.setdefault(row.pearson.interval_reason, []).append(row.measure)
        elif row.networks or row.measure not in explained:
            reason = row.pearson.reason.removeprefix(f"{row.measure} is ")
            reasons.setdefault(reason, []).append(row.measure)
    for missing in result.undefined:
        if not is_variant(missing.measure) and measure_kind(missing.measure) is not None:
            text = f"undefined for {missing.networks} networks: {missing.reason}"
            reasons.setdefault(text, []).append(missing.measure)
    print_reasons(
        "no correlation, or not of all networks",
        (f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()),
    )
    defined = sum(row.pearson.value is not None for row in whole)
    print_reasons(
        "no interval",
        (
            f"{'all' if len(names) == defined else ', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in without.items()
        ),
    )
