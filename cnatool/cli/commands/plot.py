"""``cnatool plot``."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_from, complete_store
from cnatool.cli.console import PATIENCE, ConsoleObserver, exit_incomplete, note, read_pairs
from cnatool.cli.options import (
    CONVENTIONS,
    DEFINITIONS,
    InputsOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestOption,
)
from cnatool.errors import UsageError

_FIGURE = "Figure"
_FIGURES = {
    "stores": ("depth-profile", "alpha-beta", "area", "error-by-alpha"),
    "a study": ("trajectory", "bins", "gap", "measures"),
    "a trajectory": ("trajectory", "error-by-alpha"),
    "a landscape": ("landscape",),
}
_COEFFICIENTS = ("pearson", "spearman", "kendall_a", "kendall_b")


def plot(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|STORE",
            autocompletion=complete_store,
            help="The folder of a study, a trajectory or a landscape, or stores.",
        ),
    ],
    figure: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="; ".join(
                f"for {kind}: {', '.join(names)}" for kind, names in _FIGURES.items()
            ).capitalize()
            + ".",
            autocompletion=complete_from(*dict.fromkeys(chain(*_FIGURES.values()))),
            rich_help_panel=_FIGURE,
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            "--to",
            metavar="FILE.png|svg|pdf|html|json",
            help="Path of the picture; its extension determines the format. .html is a page that "
            "works offline, .json the Vega-Lite specification.",
            rich_help_panel=_FIGURE,
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Draw only this split.", rich_help_panel=_FIGURE),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Draw the sample with this id. Repeatable.", rich_help_panel=_FIGURE
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Draw this column of the study's networks. Repeatable.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Colour networks by this tag, or distinguish runs by it.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Tag whose value is the step, a number; by default the only tag that qualifies.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    coefficient: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(_COEFFICIENTS[:-1])} or {_COEFFICIENTS[-1]}; by default pearson.",
            autocompletion=complete_from(*_COEFFICIENTS),
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="Width of one panel, at 96 pixels per inch; by default the figure's own.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    height: Annotated[
        float | None,
        typer.Option(
            metavar="PIXELS",
            help="Height of one panel, at 96 pixels per inch; by default the figure's own.",
            rich_help_panel=_FIGURE,
        ),
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Factor by which to multiply the width and height of a PNG in pixels.",
            rich_help_panel=_FIGURE,
        ),
    ] = 2,
    test: TestOption = None,
    convention: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Convention to follow: paper, reference or legacy; by default paper.",
            autocompletion=complete_from(*CONVENTIONS),
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
) -> None:
    """Draw a figure of stores, a study, a trajectory or a landscape."""
    from cnatool.plotting.files import check_picture_path, import_converter, write_picture
    from cnatool.plotting.plot import not_scored
    from cnatool.plotting.plot import plot as draw

    check_picture_path(path)
    if not 0 < scale <= 20:
        raise UsageError(f"--scale {scale:g}: give a factor above 0, up to 20.")
    if path.suffix != ".json":
        import_converter()
    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        chart = draw(
            source,
            figure,
            test=test,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            output=output,
            inputs=inputs or (),
            split=split,
            sample=sample or (),
            measure=measure or (),
            by=by,
            order=order,
            coefficient=coefficient,
            width=width,
            height=height,
            strict=strict,
            observer=observer,
        )
    write_picture(chart, path, scale=scale)
    note(f"wrote {path}")
    exit_incomplete(not_scored(chart))
