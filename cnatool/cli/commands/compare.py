"""``cnatool compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool.cli.options import ConventionOption, SetOption
from cnatool.cli.parameter_names import with_options

if TYPE_CHECKING:
    from cnatool.comparing.results import Comparison, Difference

# Of what differs, so many are listed; the rest is counted.
_LISTED = 8


def compare(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store.")],
    store2: Annotated[
        Path, typer.Argument(metavar="STORE2", help="A store of the same network and samples.")
    ],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The one split to compare; by default all that both have."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X", help="Largest relative difference of what is taken for the same."
        ),
    ] = 1e-4,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say whether two stores are of one network, and so whether an export is faithful.

    Layers are matched by name, else by size, longest path, shortcut and order; samples are those of
    the same row. The exit code is 1 where more differs than the tolerance allows.
    """
    from cnatool.cli.console import key_values, print_json
    from cnatool.comparing.compare import compare as compare_stores

    found = compare_stores(
        store,
        store2,
        split=split,
        tolerance=tolerance,
        convention=convention,
        overrides=key_values("--set", overrides or ()),
    )
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    if not found.same:
        raise typer.Exit(1)


def _print(found: Comparison) -> None:
    from cnatool.cli.console import say, shown_of
    from cnatool.cli.tables.table import print_table

    for name, split in shown_of(list(found.splits.items()), "splits"):
        say(f"\n{name}: {split.rows} rows and {split.rows2}, {_agreement(split.ids, split.labels)}")
        say("")
        print_table(
            [
                ("layer", "right"),
                ("tensor", "left"),
                ("in STORE2", "left"),
                ("Δ sum", "right"),
                ("relative", "right"),
                ("Δ values", "right"),
            ],
            [
                [
                    "" if one.layer is None else str(one.layer),
                    one.name,
                    one.name2,
                    _size(one.statistics.get("sum"), "max_abs"),
                    _size(one.statistics.get("sum"), "max_relative"),
                    _size(one.activations, "max_relative"),
                ]
                for one in split.tensors
            ]
            + [
                ["", f"output {one.name}", one.name2, "", "", _size(one.values, "max_relative")]
                for one in split.outputs
            ],
        )
    say("")
    if found.scores_reason is not None:
        say(f"no scores: {with_options(found.scores_reason)}")
    else:
        say(f"convention {found.convention}\n")
        print_table(
            [("score", "left"), ("STORE", "right"), ("STORE2", "right"), ("relative", "right")],
            [
                [one.name, _value(one.value), _value(one.value2), _share(one.relative)]
                for one in found.scores
            ],
        )
    say("")
    for text in found.notes:
        say(f"note: {with_options(text)}")
    for text in found.differences[:_LISTED]:
        say(f"differs: {with_options(text)}")
    more = len(found.differences) - _LISTED
    if more > 0:
        say(f"and {more} more; --json lists them")
    verdict = "the same" if found.same else "not the same"
    say(
        f"{verdict} within {found.tolerance:g}; layers matched by {found.matched}; largest "
        f"relative difference: {found.largest_of}"
    )


def _agreement(ids: float | None, labels: float | None) -> str:
    told = "no labels to compare" if labels is None else f"{labels:.2%} of labels equal"
    return f"{ids or 0:.2%} of ids equal, {told}"


def _size(difference: Difference | None, field: str) -> str:
    return _share(None if difference is None else getattr(difference, field))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
