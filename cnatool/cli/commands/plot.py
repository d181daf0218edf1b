"""``cnatool plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.console import ConsoleObserver, exit_incomplete, key_values, note
from cnatool.cli.options import (
    InputsOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestOption,
)
from cnatool.errors import UsageError


def plot(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|STORE",
            help="The folder of a study, a trajectory or a landscape, or stores.",
        ),
    ],
    figure: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of stores: depth-profile, alpha-beta, area, error-by-alpha. Of a study: "
            "trajectory, bins, gap, measures. Of a trajectory: trajectory, error-by-alpha. Of a "
            "landscape: landscape.",
        ),
    ],
    path: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            "--to",
            metavar="FILE.png|svg|pdf|html|json",
            help="The picture, in the format of its ending; .html is a page that needs no network, "
            ".json the Vega-Lite specification.",
        ),
    ],
    test: TestOption = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="Whose definitions to follow: paper, reference or legacy; by default paper."
        ),
    ] = None,
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw this split alone.")
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Draw the sample with this id. Repeatable."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Draw this column of the study's networks. Repeatable."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Colour networks by this tag, or tell runs by it."),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="The tag whose number is the step; by default the only one that could be.",
        ),
    ] = None,
    coefficient: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="pearson, spearman, kendall_a or kendall_b; by default pearson."
        ),
    ] = None,
    strict: StrictOption = False,
    width: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Of one panel, 96 an inch.")
    ] = None,
    height: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Of one panel, 96 an inch.")
    ] = None,
    scale: Annotated[
        float, typer.Option(metavar="N", help="Pixels of a PNG for each of the picture's.")
    ] = 2,
) -> None:
    """Draw a figure of stores, a study, a trajectory or a landscape: PNG, SVG or a page."""
    from cnatool.plotting.files import check_picture_path, import_converter, write_picture
    from cnatool.plotting.plot import not_scored
    from cnatool.plotting.plot import plot as draw

    check_picture_path(path)
    if not 0 < scale <= 20:
        raise UsageError(f"--scale {scale:g}: give pixels a pixel, up to 20.")
    if path.suffix != ".json":
        import_converter()
    observer = ConsoleObserver()
    chart = draw(
        source,
        figure,
        test=test,
        convention=convention,
        overrides=key_values("--set", overrides or ()),
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
