"""A result of scoring as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.cli.console import say
from cnatool.cli.tables import number, print_table
from cnatool.text import with_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.metrics.estimate import Estimate, ResampledEstimate
    from cnatool.results import ScoreResult

__all__ = ["print_score"]


def print_score(result: ScoreResult, *, everything: bool = False) -> None:
    """Print a result as tables; with `everything` also what a first look does not need."""
    say(f"convention {result.convention}\n")
    _print_splits(result)
    _print_pair(result)
    if everything:
        _print_coefficients(result)
        _print_alpha_groups(result)
    reasons = list(_reasons(result))
    if reasons:
        say("\nundefined (–):")
        for reason in reasons:
            say(f"  {reason}")
    layers = [
        f"{layer.depth} {with_operator(layer.name, layer.operator)}" for layer in result.layers
    ]
    say(f"\n{len(result.layers)} layers: {', '.join(layers)}")
    kinds = {split.outputs for split in result.splits.values()} - {None}
    read = f", read as {kinds.pop()}" if kinds else ""
    say(f"output: {result.output.name}{read}")
    if result.alpha_codec is not None:
        say(f"α: {result.alpha_codec}")
    for line in result.notes:
        say(f"note: {line}")


def _print_splits(result: ScoreResult) -> None:
    print_table(
        [
            ("split", "left"),
            ("samples", "right"),
            ("accuracy", "right"),
            ("loss", "right"),
            ("α mean", "right"),
            ("β mean", "right"),
            ("CNA", "right"),
            (_interval_header(result), "right"),
            ("p", "right"),
        ],
        [
            [
                name,
                str(split.samples),
                number(split.accuracy),
                number(split.loss),
                number(split.alpha.mean),
                number(split.beta.mean),
                number(split.cna.value),
                _interval(split.cna.interval),
                "–" if split.cna.p_value is None else f"{split.cna.p_value:.2g}",
            ]
            for name, split in result.splits.items()
        ],
    )


def _print_pair(result: ScoreResult) -> None:
    say("")
    print_table(
        [
            ("measure", "left"),
            ("form", "left"),
            ("value", "right"),
            (_interval_header(result), "right"),
        ],
        [
            [name, form, number(found.value), _interval(getattr(found, "interval", None))]
            for name, form, found in _pair_rows(result)
        ],
    )


def _pair_rows(result: ScoreResult) -> list[tuple[str, str, Estimate | ResampledEstimate]]:
    fields = result.convention.fields
    return [
        ("gap", f"{fields.gap}, train and test", result.gap),
        ("CNA-A", fields.area, result.cna_area),
        ("margin", f"{fields.margin}, train", result.margin),
        ("CNA-M", "margin · CNA-A", result.cna_margin),
    ]


def _print_coefficients(result: ScoreResult) -> None:
    fields = result.convention.fields
    say("\nCNA by every coefficient; the last over minibatches in row order, mean and deviation\n")
    print_table(
        [
            ("split", "left"),
            ("Pearson", "right"),
            ("Spearman", "right"),
            ("Kendall τ-b", "right"),
            ("smoothed", "right"),
            (f"batches of {fields.cna_batch}", "right"),
        ],
        [
            [
                name,
                *(number(c.value) for c in (all_.pearson, all_.spearman, all_.kendall)),
                number(all_.smoothed.value),
                "–"
                if all_.minibatches.mean is None
                else f"{number(all_.minibatches.mean)} ± {number(all_.minibatches.std)}",
            ]
            for name, all_ in ((name, split.coefficients) for name, split in result.splits.items())
        ],
    )
    gaps = (f"{number(gap.value)} ({form})" for form, gap in
            (("accuracy", result.gap_accuracy), ("loss", result.gap_loss)))  # fmt: skip
    say(f"\ngap: {', '.join(gaps)}")


def _print_alpha_groups(result: ScoreResult) -> None:
    say("\nby quantiles of α\n")
    print_table(
        [
            ("split", "left"),
            ("group", "right"),
            ("samples", "right"),
            ("α from", "right"),
            ("α to", "right"),
            ("error", "right"),
            ("loss", "right"),
        ],
        [
            [
                name,
                str(place),
                str(group.samples),
                *map(number, (group.alpha_min, group.alpha_max, group.error, group.loss)),
            ]
            for name, split in result.splits.items()
            for place, group in enumerate(split.alpha_groups, start=1)
        ],
    )


def _reasons(result: ScoreResult) -> Iterator[str]:
    for measure, _, found in _pair_rows(result):
        if found.reason is not None:
            yield f"{measure}: {found.reason}"
        elif reason := getattr(found, "interval_reason", None):
            yield f"interval of {measure}: {reason}"
    for name, split in result.splits.items():
        for measure, reason in (
            ("accuracy, loss", split.performance_reason),
            ("CNA", split.cna.reason),
            ("interval of CNA", split.cna.interval_reason),
        ):
            if reason is not None:
                yield f"{measure} of {name}: {reason}"


def _interval_header(result: ScoreResult) -> str:
    return f"{100 * result.convention.fields.level:g} % interval"


def _interval(edges: tuple[float, float] | None) -> str:
    return "–" if edges is None else " … ".join(number(edge, 3) for edge in edges)
