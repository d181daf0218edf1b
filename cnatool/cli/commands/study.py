"""``cnatool study``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import (
    ConsoleObserver,
    finish_study,
    note_kept_scores,
    read_pairs,
)
from cnatool.cli.options import (
    OUTPUT,
    STORES,
    ConventionOption,
    DaskOption,
    FolderOption,
    InputsOption,
    JsonOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestFolderOption,
    connect_client,
)
from cnatool.errors import UsageError

_CORRELATIONS = "Correlations"


def study(
    stores: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="STORE", help="Stores, and folders of stores.", autocompletion=complete_store
        ),
    ] = None,
    frame: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.parquet|csv",
            help="Table of further networks or columns, matched by network id; its values replace "
            "those of the stores. Single quotes that cnatool added before formulas in CSV are "
            "removed.",
            rich_help_panel=STORES,
        ),
    ] = None,
    folder: FolderOption = None,
    test: TestFolderOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Also correlate within each value of this tag.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Tag with the same value for networks that depend on each other, such as the "
            "checkpoints of one run; intervals resample its values.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = None,
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="TAG,TAG",
            help="Tags that are hyperparameters; by default those that vary, except the cluster "
            "tag, seeds, runs, steps of training, and tags that follow from others.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="COLUMN",
            help="Column to correlate measures with, such as gap_loss; by default test.accuracy "
            "and gap. Repeatable.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE,MEASURE",
            help="Compare two measures by the difference in |r|; by default each measure is "
            "compared with each trivial baseline, such as training accuracy or mean α. Repeatable.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of resamples for each interval; 0 for no intervals.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = 2000,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Seed for the resamples.", rich_help_panel=_CORRELATIONS),
    ] = 0,
    least_pairs: Annotated[
        float,
        typer.Option(
            "--pairs",
            metavar="N",
            help="Minimum number of effective pairs of networks in an environment of the sign "
            "error.",
            rich_help_panel=_CORRELATIONS,
        ),
    ] = 12,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also print variants, such as CNA with other coefficients, and what measures add "
            "to the hyperparameters: Ψ, K and the sign error.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    strict: StrictOption = False,
    client: DaskOption = None,
    json: JsonOption = False,
) -> None:
    """Correlate measures of many networks with test accuracy and gap."""
    from cnatool.cli.tables.study import print_study
    from cnatool.studying.study import study as run_study

    with (
        note_kept_scores(folder),
        connect_client(client) as connected,
        ConsoleObserver(unit="") as observer,
    ):
        scored = run_study(
            stores or (),
            frame=frame,
            folder=folder,
            test=test,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            output=output,
            by=by,
            cluster=cluster,
            hyperparameters=None if hyperparameters is None else _split_words(hyperparameters),
            targets=targets or None,
            compare=None if compare is None else [_parse_pair(text) for text in compare],
            resamples=resamples,
            seed=seed,
            least_pairs=least_pairs,
            inputs=inputs or (),
            strict=strict,
            client=connected,
            observer=observer,
        )
    finish_study(
        scored.result,
        partial(print_study, everything=everything),
        folder=folder,
        json=json,
        reused=scored.reused,
    )


def _split_words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _parse_pair(text: str) -> tuple[str, str]:
    first, comma, second = text.partition(",")
    if not (first and comma and second) or "," in second:
        raise UsageError(f"--compare {text}: write it as MEASURE,MEASURE.")
    return first, second
