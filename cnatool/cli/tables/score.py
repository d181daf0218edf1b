"""A result of scoring as tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnatool._util.text import count_text, list_names, name_with_operator, number_text
from cnatool.cli.console import print_line, print_lines, print_reasons
from cnatool.cli.parameter_names import with_options
from cnatool.cli.tables.table import print_table
from cnatool.metrics.estimate import ResampledEstimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.metrics.estimate import ChanceArea, Estimate, MinibatchCna
    from cnatool.metrics.norms import Baseline
    from cnatool.scoring.results import ScoreResult, SplitResult

# Characters of a line that lists layers; more of them are not listed.
_LINE = 100
_ROUNDED = 1 + 1e-9


def print_score(result: ScoreResult, *, everything: bool = False, layers: bool = False) -> None:
    """Print a result as tables; with `everything` also what a first look does not need.

    With `layers` each layer has a line of its own.
    """
    print_line(f"convention {result.convention}\n")
    _print_splits(result)
    _print_lengths(result)
    _print_pair(result)
    if everything:
        _print_coefficients(result)
        _print_alpha_groups(result)
    print_reasons(
        "undefined (–)", [*_reasons(result), *(_further_reasons(result) if everything else ())]
    )
    _print_layers(result, every=layers)
    kinds = {split.outputs for split in result.splits.values()} - {None}
    read = f", read as {kinds.pop()}" if kinds else ""
    print_line(f"output: {result.output.name or 'none'}{read}")
    for line in _describe_tokens(result):
        print_line(line)
    alpha = [text for text in (result.alpha_input, result.alpha_codec) if text is not None]
    if alpha:
        print_line(f"α: {', '.join(alpha)}")
    for line in result.notes:
        print_line(f"note: {with_options(line)}")


def _describe_tokens(result: ScoreResult) -> Iterator[str]:
    """Describe over which tokens accuracy and loss are means."""
    targets = {split.tokens.targets for split in result.splits.values() if split.tokens}
    if not targets:
        return
    counts = [
        f"{count_text(split.tokens.count, 'token')} of {name}, perplexity "
        f"{number_text(split.tokens.perplexity)}"
        for name, split in result.splits.items()
        if split.tokens
    ]
    of = {"next": "that follow another", "labels": "that have a label"}[targets.pop()]
    yield f"accuracy and loss: over the tokens {of}: {'; '.join(counts)}"


def _print_layers(result: ScoreResult, *, every: bool) -> None:
    texts = [
        f"{layer.depth} {name_with_operator(layer.name, layer.operator)}" for layer in result.layers
    ]
    count = count_text(len(texts), "layer")
    line = f"{count}: {', '.join(texts)}"
    if every:
        print_line(f"\n{count}:")
        print_lines(f"  {text}" for text in texts)
    elif len(line) <= _LINE:
        print_line(f"\n{line}")
    else:
        print_line(f"\n{count}, from {texts[0]} to {texts[-1]} (--layers lists them)")


def _print_splits(result: ScoreResult) -> None:
    print_table(
        [
            ("split", "left"),
            ("samples", "right"),
            (f"{result.unit}accuracy", "right"),
            (f"{result.unit}loss", "right"),
            ("α mean", "right"),
            ("β mean", "right"),
            ("CNA", "right"),
            (_interval_header(result), "right"),
            (_p_header(result), "right"),
        ],
        [
            [
                name,
                str(split.samples),
                number_text(split.accuracy),
                number_text(split.loss),
                number_text(split.alpha.mean),
                number_text(split.beta.mean, 3),
                number_text(split.cna.value),
                _interval(split.cna.interval),
                _p(split.cna.p_value, split.cna.p_least),
            ]
            for name, split in result.splits.items()
        ],
        attached={7, 8},
    )


def _print_lengths(result: ScoreResult) -> None:
    """Print how the scores of each split depend on the length of its samples, if that differs."""
    lengths = {
        name: split.length for name, split in result.splits.items() if split.length is not None
    }
    if not lengths:
        return
    units = list_names(dict.fromkeys(length.unit for length in lengths.values()))
    print_line("")
    print_table(
        [
            (f"length ({units})", "left"),
            ("mean", "right"),
            ("least", "right"),
            ("greatest", "right"),
            ("r with α", "right"),
            ("r with β", "right"),
            ("CNA at fixed length", "right"),
        ],
        [
            [
                name,
                number_text(length.samples.mean, 1),
                *(number_text(edge, 0) for edge in (length.samples.min, length.samples.max)),
                *(number_text(each.value) for each in (length.alpha, length.beta, length.cna)),
            ]
            for name, length in lengths.items()
        ],
    )


def _print_pair(result: ScoreResult) -> None:
    print_line("")
    print_table(
        [
            ("measure", "left"),
            ("form", "left"),
            ("value", "right"),
            (_interval_header(result), "right"),
            ("by chance", "right"),
            ("p", "right"),
        ],
        [
            [
                name,
                form,
                number_text(found.value),
                _interval(found.interval) if isinstance(found, ResampledEstimate) else "",
                *(_by_chance(result.cna_area_by_chance) if name == "CNA-A" else ("", "")),
            ]
            for name, form, found in _pair_rows(result)
        ],
        keys=2,
        attached={3, 5},
    )


def _pair_rows(result: ScoreResult) -> list[tuple[str, str, Estimate | ResampledEstimate]]:
    fields = result.convention.fields
    return [
        ("gap", f"{result.unit}{fields.gap}, train and test", result.gap),
        ("CNA-A", fields.area, result.cna_area),
        ("margin", f"{fields.margin}, {fields.margin_split}", result.margin),
        ("CNA-M", "margin · CNA-A", result.cna_margin),
    ]


def _print_coefficients(result: ScoreResult) -> None:
    fields = result.convention.fields
    order = {"rows": "in row order", "random": "in random order"}[fields.cna_order]
    print_line(
        f"\nCNA by every coefficient; the last over minibatches {order}, mean and deviation\n"
    )
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
                *(number_text(c.value) for c in (all_.pearson, all_.spearman, all_.kendall)),
                number_text(all_.smoothed.value),
                _minibatches(all_.minibatches),
            ]
            for name, all_ in ((name, split.coefficients) for name, split in result.splits.items())
        ],
    )
    gaps = (f"{number_text(gap.value)} ({form})" for form, gap in
            (("accuracy", result.gap_accuracy), ("loss", result.gap_loss)))  # fmt: skip
    print_line(f"\ngap: {', '.join(gaps)}")


def _print_alpha_groups(result: ScoreResult) -> None:
    print_line("\nby quantiles of α\n")
    print_table(
        [
            ("split", "left"),
            ("group", "right"),
            ("samples", "right"),
            ("α from", "right"),
            ("α to", "right"),
            (f"{result.unit}error", "right"),
            (f"{result.unit}loss", "right"),
        ],
        [
            [
                name,
                str(place),
                str(group.samples),
                *map(number_text, (group.alpha_min, group.alpha_max, group.error, group.loss)),
            ]
            for name, split in result.splits.items()
            for place, group in enumerate(split.alpha_groups, start=1)
        ],
        keys=2,
    )


def _reasons(result: ScoreResult) -> Iterator[str]:
    fields = result.convention.fields
    for measure, _, estimate in _pair_rows(result):
        if estimate.reason is not None:
            yield f"{measure}: {estimate.reason}"
        elif isinstance(estimate, ResampledEstimate) and estimate.interval_reason is not None:
            yield f"interval of {measure}: {estimate.interval_reason}"
    if result.cna_area.value is not None and result.cna_area_by_chance.reason is not None:
        yield f"CNA-A by chance: {result.cna_area_by_chance.reason}"
    for name, split in result.splits.items():
        for measure, reason in (
            ("accuracy, loss", split.performance_reason),
            ("loss", split.loss_reason),
            ("β", split.beta_reason),
            ("CNA", split.cna.reason),
            ("interval of CNA", split.cna.interval_reason),
            *_length_reasons(split),
            ("p of CNA", None if fields.permutations else "no permutations are drawn"),
        ):
            if reason is not None:
                yield f"{measure} of {name}: {reason}"


def _length_reasons(split: SplitResult) -> Iterator[tuple[str, str | None]]:
    if split.length is None:
        return
    for measure, estimate in (
        ("r of α with length", split.length.alpha),
        ("r of β with length", split.length.beta),
        ("CNA at fixed length", split.length.cna),
    ):
        # What holds for CNA itself is said of it.
        yield measure, None if estimate.reason == split.cna.reason else estimate.reason


def _further_reasons(result: ScoreResult) -> Iterator[str]:
    """Yield the reasons for what is printed only with everything, beyond those of `_reasons`."""
    fields = result.convention.fields
    for form, gap in (("accuracy", result.gap_accuracy), ("loss", result.gap_loss)):
        if form != fields.gap and gap.reason is not None:
            yield f"gap ({form}): {gap.reason}"
    for name, split in result.splits.items():
        coefficients = split.coefficients
        for measure, reason in (
            ("Pearson", coefficients.pearson.reason),
            ("Spearman", coefficients.spearman.reason),
            ("Kendall τ-b", coefficients.kendall.reason),
            ("smoothed", coefficients.smoothed.reason),
            (f"batches of {fields.cna_batch}", coefficients.minibatches.reason),
        ):
            # What holds for all coefficients is said of CNA.
            if reason is not None and reason != split.cna.reason:
                yield f"{measure} of {name}: {reason}"
        if split.performance_reason is not None:
            yield f"error, loss of the groups of {name}: {split.performance_reason}"
        empty = [str(i) for i, group in enumerate(split.alpha_groups, start=1) if not group.samples]
        if empty:
            why = ", as equal α are never divided" if split.samples else ""
            yield f"groups {', '.join(empty)} of {name}: no samples{why}"
        broken = any(group.samples and group.alpha_mean is None for group in split.alpha_groups)
        if broken:
            yield f"α of the groups of {name}: {split.cna.reason}"


def _minibatches(minibatches: MinibatchCna) -> str:
    if minibatches.std is None:
        return number_text(minibatches.mean)
    return f"{number_text(minibatches.mean)} ± {number_text(minibatches.std)}"


def _by_chance(chance: ChanceArea) -> tuple[str, str]:
    return number_text(chance.mean), _p(chance.p_value, chance.p_least)


def _p(value: float | None, least: float | None) -> str:
    """Write a p-value; at the least that there can be, as a bound."""
    if value is None or least is None:
        return "–"
    # Short, so that the table fits a terminal: 1.7e-5 and not 1.7e-05.
    written = re.sub(r"e-0", "e-", f"{value:.2g}")
    return f"{'≤' if value <= least * _ROUNDED else ''}{written}"


def _p_header(result: ScoreResult) -> str:
    tested = {split.cna.p_statistic for split in result.splits.values()} - {None}
    named = result.convention.fields.cna
    return "".join(["p", *(f" ({statistic})" for statistic in tested if statistic != named)])


def _interval_header(result: ScoreResult) -> str:
    return f"{100 * result.convention.fields.level:g} % interval"


def _interval(edges: tuple[float, float] | None) -> str:
    return "–" if edges is None else " … ".join(number_text(edge, 3) for edge in edges)


def print_baselines(result: ScoreResult) -> None:
    """Print the measures from the norms of the weights as a table."""
    from cnatool._util.text import number_text
    from cnatool.cli.tables.table import print_table

    baselines = result.baselines
    rows: list[tuple[str, str, Baseline]] = [
        ("L2", "∏ ‖W‖ / margin", baselines.l2),
        ("spectral", "∏ σ₁ / margin", baselines.spectral),
        ("L2-path", "path norm / margin", baselines.l2_path),
        ("2018 bound", f"from {baselines.initial or 'initial weights'}", baselines.bound_2018),
        ("2018 bound", "from 0", baselines.bound_2018_from_zero),
        ("parameter norm", "‖W‖ of all layers", baselines.parameter_norm),
        ("L1", "Σ |w| of all layers", baselines.l1),
        ("distance", f"from {baselines.initial or 'initial weights'}", baselines.distance),
        ("parameters", "number", baselines.parameters),
        ("depth", "layers on a path", baselines.depth),
    ]
    noise: list[tuple[str, str, Baseline]] = [
        ("pac-bayes-flatness", "1/σ²", baselines.pac_bayes_flatness),
        ("pac-bayes-init", "‖w − w⁰‖² and σ", baselines.pac_bayes_init),
        ("pac-bayes-orig", "‖w‖² and σ", baselines.pac_bayes_orig),
        ("pac-bayes-mag-flatness", "1/σ′²", baselines.pac_bayes_mag_flatness),
        ("pac-bayes-mag-init", "w − w⁰ and σ′", baselines.pac_bayes_mag_init),
        ("pac-bayes-mag-orig", "‖w‖², w − w⁰ and σ′", baselines.pac_bayes_mag_orig),
        ("pac-bayes-mag-from-zero", "w and σ′", baselines.pac_bayes_mag_from_zero),
    ]
    rows += noise if baselines.flatness is not None else []
    print_line("")
    print_table(
        [("baseline", "left"), ("form", "left"), ("ln", "right"), ("value", "right")],
        [
            [
                name,
                form,
                number_text(baseline.log),
                "–" if baseline.value is None else f"{baseline.value:.6g}",
            ]
            for name, form, baseline in rows
        ],
        keys=2,
    )
    reasons: dict[str, list[str]] = {}
    for name, form, baseline in rows:
        if baseline.reason is not None:
            text = f"{name} {form}" if name == "2018 bound" else name
            reasons.setdefault(baseline.reason, []).append(text)
    print_reasons(
        "undefined (–)", (f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    )
