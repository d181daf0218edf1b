"""The comparison of two stores as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, printable
from cnatool.cli.console import first_parts, print_line
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.names import print_cut, shorten_names
from cnatool.cli.tables.table import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.comparing.results import Agreement, Comparison, Difference, SplitCompared

# The differences that are listed; the others are counted.
_LISTED = 8
# The tensors that are named for a number that they lack.
_NAMED = 3
# The tensors that are named for their noise.
_NOISIEST = 3


def print_comparison(comparison: Comparison) -> None:
    """Print how far tensors, outputs and scores of two stores differ, and the verdict."""
    for name, split in first_parts(list(comparison.splits.items()), "splits"):
        print_line(
            f"\n{name}: {count_text(split.rows, 'row')} and {split.rows2:,}, "
            f"{_agreement(split.ids, split.labels)}"
        )
        print_line("")
        shown = shorten_names([*(t.name for t in split.tensors), *(o.name for o in split.outputs)])
        shown2 = shorten_names(
            [*(t.name2 for t in split.tensors), *(o.name2 for o in split.outputs)]
        )
        print_table(
            [
                ("layer", "right"),
                ("tensor", "left"),
                ("in STORE2", "left"),
                ("Δ sum", "right"),
                ("Δ values", "right"),
                ("SQNR", "right"),
                ("cosine", "right"),
            ],
            [
                [
                    "" if tensor.layer is None else str(tensor.layer),
                    shown[tensor.name],
                    shown2[tensor.name2],
                    _relative(tensor.statistics.get("sum")),
                    _relative(tensor.activations),
                    *_agreement_cells(tensor.agreement),
                ]
                for tensor in split.tensors
            ]
            + [
                [
                    "",
                    f"output {shown[output.name]}",
                    shown2[output.name2],
                    "",
                    _relative(output.values),
                    *_agreement_cells(output.agreement),
                ]
                for output in split.outputs
            ],
        )
        _print_missing(split, shown)
        _print_divergence(split, shown)
        print_cut(shown | shown2)
    print_line("")
    _print_scores(comparison)
    print_line("")
    for text in comparison.notes:
        print_line(f"note: {with_options(text)}")
    for text in comparison.differences[:_LISTED]:
        print_line(f"differs: {with_options(text)}")
    more = len(comparison.differences) - _LISTED
    if more > 0:
        print_line(f"and {more} more; --json lists them")
    print_line(
        f"{comparison.verdict} within {comparison.tolerance:g}; layers matched by "
        f"{comparison.matched}; largest relative difference: {comparison.largest_of}"
    )


def _print_scores(comparison: Comparison) -> None:
    if comparison.scores_reason is not None:
        print_line(f"no scores: {with_options(comparison.scores_reason)}")
        return
    print_line(f"convention {comparison.convention}\n")
    print_table(
        [("score", "left"), ("STORE", "right"), ("STORE2", "right"), ("relative", "right")],
        [
            [score.name, _value(score.value), _value(score.value2), _share(score.relative)]
            for score in comparison.scores
        ],
    )


def _print_missing(split: SplitCompared, shown: Mapping[str, str]) -> None:
    """Print why tensors and outputs have no SQNR and no cosine similarity."""
    pairs = [(shown[tensor.name], tensor.agreement) for tensor in split.tensors]
    pairs += [(f"output {shown[output.name]}", output.agreement) for output in split.outputs]
    names: dict[str, list[str]] = {}
    for name, agreement in pairs:
        if agreement.cosine is None and agreement.reason is not None:
            names.setdefault(agreement.reason, []).append(name)
    for reason, found in names.items():
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        print_line(f"– {reason}: {', '.join(found[:_NAMED])}{more}")


def _print_divergence(split: SplitCompared, shown: Mapping[str, str]) -> None:
    """Print where a split first differs, and the tensors that add most noise."""
    tensors = {tensor.name: tensor for tensor in split.tensors}
    if split.first_apart is not None:
        first = tensors[split.first_apart]
        sample = f", most for sample {printable(first.worst)}" if first.worst is not None else ""
        print_line(f"\nfirst beyond the tolerance: {shown[first.name]}{sample}")
    if split.by_added_noise:
        parts = [
            f"{shown[name]} ({tensors[name].added_noise:.1e} of its signal)"
            for name in split.by_added_noise[:_NOISIEST]
        ]
        print_line(f"noise arises most in: {', '.join(parts)}")


def _agreement_cells(agreement: Agreement) -> list[str]:
    """Return SQNR in dB and cosine similarity; equal values have no noise."""
    cosine = agreement.cosine
    return [
        "equal" if agreement.noise == 0 else _decibels(agreement.sqnr),
        "–" if cosine is None else f"{cosine:.5f}",
    ]


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} dB"


def _agreement(ids: float | None, labels: float | None) -> str:
    text = "no labels to compare" if labels is None else f"{labels:.2%} of labels equal"
    return f"{ids or 0:.2%} of ids equal, {text}"


def _relative(difference: Difference | None) -> str:
    return _share(None if difference is None else difference.max_relative)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
