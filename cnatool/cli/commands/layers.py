"""``cnatool layers``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool.cli.console import (
    PATIENCE,
    ConsoleObserver,
    key_values,
    note,
    print_json,
    say,
    say_notes,
    say_reasons,
    shown_of,
)
from cnatool.cli.options import ConventionOption, InputsOption, SetOption, TestOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.scoring.layer_results import GroupProfile, LayerScores, SampleProfile, SplitLayers


def layers(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store.")],
    test: TestOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            "--sample", metavar="ID", help="Show the sample with this id as well. Repeatable."
        ),
    ] = None,
    inputs: InputsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Show z over depth, and what each layer contributes to β and CNA."""
    from cnatool.scoring.layers import score_layers
    from cnatool.scoring.notes import unfinished_text

    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        scores = score_layers(
            store,
            test,
            convention=convention,
            overrides=key_values("--set", overrides or ()),
            samples=samples or (),
            inputs=inputs or (),
            observer=observer,
        )
    for name, split in scores.splits.items():
        if not split.complete:
            note(unfinished_text(name, split.samples, split.rows))
    if json:
        print_json(scores.to_json())
        return
    say(f"convention {scores.convention}")
    for name, split in shown_of(list(scores.splits.items()), "splits"):
        say(f"\n{name}, {split.samples} samples\n")
        _print_parts(scores, split)
        say(f"\nmean z by quantiles of α{', and of single samples' if split.profiles else ''}\n")
        _print_profiles(scores, split)
        say_reasons(
            "undefined (–)",
            (f"{what} of {name}: {reason}" for what, reason in _reasons(scores, split)),
        )
    if scores.alpha_codec is not None:
        say(f"\nα: {scores.alpha_codec}")
    say_notes(scores.notes)


def _reasons(scores: LayerScores, split: SplitLayers) -> Iterator[tuple[str, str]]:
    if split.beta_reason is not None:
        yield "β", split.beta_reason
    if split.cna.reason is not None:
        yield "CNA", split.cna.reason
    for layer, part in zip(scores.layers, split.layers, strict=True):
        if part.reason is not None:
            yield layer.name, part.reason
    for place, group in enumerate(split.groups, start=1):
        if group.reason is not None:
            yield f"group {place}", group.reason


def _print_parts(scores: LayerScores, split: SplitLayers) -> None:
    from cnatool.cli.tables.table import number, print_table

    rows = [
        [
            str(layer.depth),
            layer.name,
            layer.operator,
            number(part.mean),
            number(part.std),
            number(part.correlation),
            number(part.coefficient),
            number(part.beta),
            number(part.cna),
        ]
        for layer, part in zip(scores.layers, split.layers, strict=True)
    ]
    total = ["", "all", "", "", "", "", "", number(split.beta), number(split.cna.value)]
    print_table(
        [
            ("depth", "right"),
            ("layer", "left"),
            ("operator", "left"),
            ("mean z", "right"),
            ("deviation", "right"),
            ("with α", "right"),
            ("c", "right"),
            ("β", "right"),
            ("CNA", "right"),
        ],
        [*rows, total],
    )


def _print_profiles(scores: LayerScores, split: SplitLayers) -> None:
    from cnatool.cli.tables.table import number, print_table

    headers = [
        f"{number(group.alpha_min, 2)} … {number(group.alpha_max, 2)}"
        if group.samples
        else "no samples"
        for group in split.groups
    ]
    headers += [f"{one.id} (α {number(one.alpha, 2)})" for one in split.profiles]
    columns: list[GroupProfile | SampleProfile] = [*split.groups, *split.profiles]
    rows = [
        [str(layer.depth), layer.name, *(number(column.z[place]) for column in columns)]
        for place, layer in enumerate(scores.layers)
    ]
    print_table(
        [("depth", "right"), ("layer", "left"), *((header, "right") for header in headers)],
        [*rows, ["", "β", *(number(column.beta) for column in columns)]],
    )
