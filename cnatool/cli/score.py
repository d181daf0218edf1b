"""``cnatool score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool.cli.console import key_values, note, say
from cnatool.text import with_operator

if TYPE_CHECKING:
    from cnatool.metrics.estimate import Estimate
    from cnatool.metrics.norms import Baseline
    from cnatool.results import ScoreResult

__all__ = ["print_baselines", "print_score", "score"]


def score(
    store: Annotated[Path, typer.Argument(help="The store.")],
    test: Annotated[
        Path | None,
        typer.Option(metavar="STORE2", help="The test split's store; STORE is the training split."),
    ] = None,
    convention: Annotated[
        str, typer.Option(help="Whose definitions to follow: paper, reference or legacy.")
    ] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Override a field of the convention, as in bins=1000. Repeat it. Fields: "
            "alpha, bins, range, out_of_range, layers, include_output, include_shortcut, "
            "aggregate, depth, area, window, points, margin, margin_fraction, margin_seed, "
            "margin_percentile, margin_batch, gap.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model output that holds the class scores; by default the one that the last "
            "layer leads to.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Also print measures from the norms of the weights; JSON has them."
        ),
    ] = False,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet|csv", help="Write α, β, margin, … of each sample to a file."
        ),
    ] = None,
) -> None:
    """Score a store: α, β and CNA of each split; CNA-A and CNA-M between train and test."""
    from cnatool.frames import check_frame_path, write_frame
    from cnatool.scoring import score_all

    if samples is not None:
        check_frame_path(samples)
    scored = score_all(
        store,
        test,
        convention=convention,
        overrides=key_values("--set", set_ or ()),
        output=output,
    )
    result = scored.result()
    for name, split in result.splits.items():
        if not split.complete:
            note(
                f"split {name}: the dump is not finished; {split.samples} of {split.rows} rows are "
                "scored"
            )
    if samples is not None:
        write_frame(scored.frame(), samples, convention=str(result.convention))
        note(f"wrote {samples}")
    if json:
        typer.echo(result.to_json(), nl=False)
    else:
        print_score(result)
        if baselines:
            print_baselines(result)


def print_score(result: ScoreResult) -> None:
    """Print a result as tables."""
    from cnatool.cli.tables import number, print_table

    say(f"convention {result.convention}\n")
    print_table(
        [
            ("split", "left"),
            ("samples", "right"),
            ("accuracy", "right"),
            ("loss", "right"),
            ("α mean", "right"),
            ("β mean", "right"),
            ("CNA", "right"),
            ("95 % interval", "right"),
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
                "–"
                if split.cna.interval is None
                else " … ".join(number(edge, 3) for edge in split.cna.interval),
            ]
            for name, split in result.splits.items()
        ],
    )
    fields = result.convention.fields
    rows: list[tuple[str, str, Estimate]] = [
        ("gap", f"{fields.gap}, train and test", result.gap),
        ("CNA-A", fields.area, result.cna_area),
        ("margin", f"{fields.margin}, train", result.margin),
        ("CNA-M", "margin · CNA-A", result.cna_margin),
    ]
    say("")
    print_table(
        [("measure", "left"), ("form", "left"), ("value", "right")],
        [[name, form, number(estimate.value)] for name, form, estimate in rows],
    )
    reasons = [f"{name}: {e.reason}" for name, _, e in rows if e.reason is not None]
    for name, split in result.splits.items():
        found = (("accuracy, loss", split.performance_reason), ("CNA", split.cna.reason))
        reasons += [f"{measure} of {name}: {reason}" for measure, reason in found if reason]
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
    for line in result.notes:
        say(f"note: {line}")


def print_baselines(result: ScoreResult) -> None:
    """Print the measures from the norms of the weights as a table."""
    from cnatool.cli.tables import number, print_table

    found = result.baselines
    rows: list[tuple[str, str, Baseline]] = [
        ("L2", "∏ ‖W‖ / margin", found.l2),
        ("spectral", "∏ σ₁ / margin", found.spectral),
        ("L2-path", "path norm / margin", found.l2_path),
        ("2018 bound", f"from {found.initial or 'initial weights'}", found.bound_2018),
        ("2018 bound", "from 0", found.bound_2018_from_zero),
        ("parameter norm", "‖W‖ of all layers", found.parameter_norm),
        ("L1", "Σ |w| of all layers", found.l1),
        ("distance", f"from {found.initial or 'initial weights'}", found.distance),
        ("parameters", "number", found.parameters),
        ("depth", "layers on a path", found.depth),
    ]
    noise: list[tuple[str, str, Baseline]] = [
        ("pac-bayes-flatness", "1/σ²", found.pac_bayes_flatness),
        ("pac-bayes-init", "‖w − w⁰‖² and σ", found.pac_bayes_init),
        ("pac-bayes-orig", "‖w‖² and σ", found.pac_bayes_orig),
        ("pac-bayes-mag-flatness", "1/σ′²", found.pac_bayes_mag_flatness),
        ("pac-bayes-mag-init", "w − w⁰ and σ′", found.pac_bayes_mag_init),
        ("pac-bayes-mag-orig", "‖w‖², w − w⁰ and σ′", found.pac_bayes_mag_orig),
        ("pac-bayes-mag-from-zero", "w and σ′", found.pac_bayes_mag_from_zero),
    ]
    rows += noise if found.flatness is not None else []
    say("")
    print_table(
        [("baseline", "left"), ("form", "left"), ("ln", "right"), ("value", "right")],
        [
            [name, form, number(one.log), "–" if one.value is None else f"{one.value:.6g}"]
            for name, form, one in rows
        ],
    )
    reasons: dict[str, list[str]] = {}
    for name, form, one in rows:
        if one.reason is not None:
            text = f"{name} {form}" if name == "2018 bound" else name
            reasons.setdefault(one.reason, []).append(text)
    if reasons:
        say("\nundefined (–):")
        for reason, names in reasons.items():
            say(f"  {', '.join(names)}: {reason}")
