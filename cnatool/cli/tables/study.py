"""A study as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, escape, number_text
from cnatool.cli.console import print_line, print_notes, print_reasons
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.table import print_table
from cnatool.studying.analysis import LEAST_NETWORKS
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
    """Print how each measure correlates with each target, and what was left out.

    With `everything` also variants of a measure, such as CNA by other coefficients, and what
    measures say beyond the hyperparameters.
    """
    if result.convention is not None:
        print_line(f"convention {result.convention}")
    clusters = (
        "each its own cluster"
        if result.settings.cluster is None
        else f"{result.clusters} clusters by {result.settings.cluster}"
    )
    networks = count_text(result.networks, "network")
    print_line(f"{networks}, {clusters}")
    for line in _tag_lines(result.settings):
        print_line(line)
    if result.networks < LEAST_NETWORKS:
        print_line(
            f"fewer than {LEAST_NETWORKS} networks: no correlations; -o DIR writes their measures"
        )
        print_not_scored(result.not_scored)
        print_notes(result.notes)
        return
    shown = [
        correlation
        for correlation in result.correlations
        if everything or not is_variant(correlation.measure)
    ]
    whole = [correlation for correlation in shown if correlation.group is None]
    for target in result.settings.targets:
        _print_target(
            target, [correlation for correlation in whole if correlation.target == target], result
        )
    if result.settings.by is not None:
        for target in result.settings.targets:
            _print_groups(
                target,
                [correlation for correlation in shown if correlation.target == target],
                result,
            )
    for target in result.settings.targets:
        if result.settings.compare is None:
            _print_against_baseline(target, whole, result)
        else:
            _print_comparisons(target, result)
    if everything:
        _print_beyond_hyperparameters(result)
    _print_reasons(whole, result)
    print_not_scored(result.not_scored)
    print_notes(result.notes)


def _tag_lines(settings: StudySettings) -> Iterator[str]:
    """List the tags that count as hyperparameters, and why the others do not."""
    if settings.hyperparameters:
        fixed = f"; {', '.join(settings.held)} held fixed" if settings.held else ""
        yield f"hyperparameters: {', '.join(settings.hyperparameters)}{fixed}"
    elif settings.not_hyperparameters:
        yield "no tag is a hyperparameter, so there is no Ψ, K or sign error"
    if settings.not_hyperparameters:
        tags = ", ".join(f"{tag} ({why})" for tag, why in settings.not_hyperparameters.items())
        yield f"not hyperparameters: {tags}"


def print_not_scored(not_scored: Sequence[NotScored]) -> None:
    """Print the stores that could not be scored by reason; nothing where there are none."""
    if not not_scored:
        return
    by_reason: dict[str, list[str]] = {}
    for store in not_scored:
        # The reason may begin with the path, as errors do.
        path = escape(store.path)
        reason = with_options(store.reason.removeprefix(f"{path}: ").removeprefix(f"{path} "))
        by_reason.setdefault(reason, []).append(store.path)
    print_line("\nnot scored:")
    print_table(
        [("store", "left"), ("reason", "left")],
        [
            [first if not others else f"{first} and {len(others):,} more", reason]
            for reason, (first, *others) in by_reason.items()
        ],
    )


def _print_target(
    target: str, correlations: Sequence[MeasureCorrelation], result: StudyResult
) -> None:
    level = _level(result)
    intervals = any(correlation.pearson.interval is not None for correlation in correlations)
    columns: list[Column] = [("measure", "left"), ("n", "right")]
    for name in ("Pearson", "Spearman", "Kendall τ-b"):
        columns.append((name, "right"))
        if intervals:
            columns.append((f"{level} interval", "right"))
    print_line(f"\ncorrelation with {target}\n")
    print_table(
        columns,
        [
            [f"{_TITLES[correlation.kind]}{correlation.measure}", str(correlation.networks), *cells]
            for correlation in correlations
            if correlation.pearson.value is not None
            for cells in [
                _cells(
                    (correlation.pearson, correlation.spearman, correlation.kendall_b), intervals
                )
            ]
        ],
        attached={3, 5, 7} if intervals else (),
    )


def _level(result: StudyResult) -> str:
    return f"{result.settings.level:.0%}".replace("%", " %")


def _print_against_baseline(
    target: str, whole: Sequence[MeasureCorrelation], result: StudyResult
) -> None:
    """Print whether measures go with a target more than the best trivial baseline does."""
    pearson = {
        correlation.measure: correlation.pearson.value
        for correlation in whole
        if correlation.target == target
    }
    pairs = [
        difference
        for difference in result.differences
        if difference.target == target
        and difference.coefficient == "pearson"
        and difference.magnitude.value is not None
        and measure_kind(difference.second) == "trivial"
    ]
    trivial = {difference.second: abs(pearson.get(difference.second) or 0) for difference in pairs}
    if not trivial:
        return
    best = max(trivial, key=lambda name: trivial[name])
    rows = []
    for difference in pairs:
        if difference.second != best:
            continue
        rows.append(
            [
                difference.first,
                str(difference.networks),
                number_text(difference.magnitude.value, 2),
                _interval(difference.magnitude.interval),
                _judge(difference.magnitude, "yes", "no"),
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


def _judge(difference: StudyEstimate, above: str, below: str) -> str:
    """Return `above` or `below`, by the side of 0 on which the interval of a difference lies."""
    if difference.interval is None:
        return "–"
    low, high = difference.interval
    return above if low > 0 else below if high < 0 else "undecided"


def _print_comparisons(target: str, result: StudyResult) -> None:
    """Print which measure of each pair that was named goes with a target more."""
    pairs = [
        difference
        for difference in result.differences
        if difference.target == target and difference.coefficient == "pearson"
    ]
    print_line(f"\ncorrelation with {target}, compared\n")
    print_table(
        [
            ("first", "left"),
            ("second", "left"),
            ("n", "right"),
            ("|r| of first − |r| of second", "right"),
            (f"{_level(result)} interval", "right"),
            ("stronger", "left"),
        ],
        [
            [
                difference.first,
                difference.second,
                str(difference.networks),
                number_text(difference.magnitude.value, 2),
                _interval(difference.magnitude.interval),
                _judge(difference.magnitude, difference.first, difference.second),
            ]
            for difference in pairs
        ],
    )
    print_reasons(
        "no difference",
        (
            f"{difference.first}, {difference.second}: {difference.magnitude.reason}"
            for difference in pairs
            if difference.magnitude.reason is not None
        ),
    )


def _print_beyond_hyperparameters(result: StudyResult) -> None:
    """Print Ψ, K and the sign error, and which tags they take for hyperparameters."""
    settings = result.settings
    for target in settings.targets:
        measures = [
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
                number_text(row.psi.value, 2),
                _interval(row.psi.interval),
                number_text(row.information.value, 3),
                number_text(row.sign_error.mean, 2),
                number_text(row.sign_error.percentile_90, 2),
                number_text(row.sign_error.max, 2),
                str(row.sign_error.environments),
            ]
            for row in measures
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
            for row in measures
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
    return "–" if edges is None else " … ".join(number_text(edge, 2) for edge in edges)


def _cells(estimates: Sequence[StudyEstimate], intervals: bool) -> list[str]:
    cells = []
    for estimate in estimates:
        cells.append(number_text(estimate.value, 2))
        if intervals:
            cells.append(_interval(estimate.interval))
    return cells


def _print_groups(
    target: str, correlations: Sequence[MeasureCorrelation], result: StudyResult
) -> None:
    by = result.settings.by
    groups = list(dict.fromkeys(correlation.group for correlation in correlations))
    sizes = {
        g: max(correlation.networks for correlation in correlations if correlation.group == g)
        for g in groups
    }
    by_group = {
        (correlation.measure, correlation.group): correlation for correlation in correlations
    }
    print_line(f"\ncorrelation with {target} by {by}: Pearson, Spearman\n")
    print_table(
        [
            ("measure", "left"),
            *((f"{'all' if g is None else g}\nn = {sizes[g]}", "right") for g in groups),
        ],
        [
            [
                f"{_TITLES[correlation.kind]}{correlation.measure}",
                *(
                    f"{number_text(by_group[correlation.measure, g].pearson.value, 2)}, "
                    f"{number_text(by_group[correlation.measure, g].spearman.value, 2)}"
                    for g in groups
                ),
            ]
            for correlation in correlations
            if correlation.group is None and correlation.pearson.value is not None
        ],
    )


def _print_reasons(whole: Sequence[MeasureCorrelation], result: StudyResult) -> None:
    undefined = {correlation.measure for correlation in result.undefined}
    reasons: dict[str, list[str]] = {}
    without: dict[str, list[str]] = {}
    for correlation in whole:
        if correlation.pearson.reason is None:
            if correlation.pearson.interval_reason is not None:
                without.setdefault(correlation.pearson.interval_reason, []).append(
                    correlation.measure
                )
        elif correlation.networks or correlation.measure not in undefined:
            reason = correlation.pearson.reason.removeprefix(f"{correlation.measure} is ")
            reasons.setdefault(reason, []).append(correlation.measure)
    for missing in result.undefined:
        if not is_variant(missing.measure) and measure_kind(missing.measure) is not None:
            text = f"undefined for {count_text(missing.networks, 'network')}: {missing.reason}"
            reasons.setdefault(text, []).append(missing.measure)
    print_reasons(
        "no correlation, or not of all networks",
        (f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()),
    )
    defined = sum(correlation.pearson.value is not None for correlation in whole)
    print_reasons(
        "no interval",
        (
            f"{'all' if len(names) == defined else ', '.join(dict.fromkeys(names))}: {reason}"
            for reason, names in without.items()
        ),
    )
