"""``cnatool study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.console import ConsoleObserver, exit_incomplete, key_values, note, print_json
from cnatool.cli.options import (
    ConventionOption,
    InputsOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestFolderOption,
)
from cnatool.errors import UsageError


def study(
    stores: Annotated[
        list[Path] | None, typer.Argument(metavar="STORE", help="Stores, and folders of stores.")
    ] = None,
    frame: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.parquet|csv",
            help="Networks, or columns of them, from elsewhere, by their id; what it has replaces "
            "what the stores give. Single quotes that cnatool put before formulas in CSV are "
            "removed.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            "--folder",
            metavar="DIR",
            help="Write all results here, and keep scores, which a later study goes on with.",
        ),
    ] = None,
    test: TestFolderOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Correlate within each value of this tag, too."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="Networks with the same value of this tag are not independent, as checkpoints of "
            "one run: intervals resample its values.",
        ),
    ] = None,
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="TAG,TAG",
            help="Tags that are hyperparameters; by default those that vary, except the cluster "
            "tag, seeds, runs, steps of training, and tags that follow from others.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEASURE,MEASURE",
            help="Compare two measures; by default each with each trivial baseline. Repeatable.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(metavar="N", help="Resamples behind each interval; 0 for none.")
    ] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the resamples.")] = 0,
    least_pairs: Annotated[
        float,
        typer.Option(
            "--pairs",
            metavar="N",
            help="Effective pairs that an environment of the sign error needs.",
        ),
    ] = 12,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also print variants, such as CNA by other coefficients, and what measures "
            "say beyond the hyperparameters: Ψ, K and the sign error.",
        ),
    ] = False,
    strict: StrictOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Score many stores; correlate every measure with test accuracy and with the gap."""
    from cnatool.cli.tables.study import print_study
    from cnatool.studying.study import study as run_study

    try:
        with ConsoleObserver(unit="") as observer:
            found = run_study(
                stores or (),
                frame=frame,
                folder=folder,
                test=test,
                convention=convention,
                overrides=key_values("--set", overrides or ()),
                output=output,
                by=by,
                cluster=cluster,
                hyperparameters=None if hyperparameters is None else _words(hyperparameters),
                compare=None if compare is None else [_pair(text) for text in compare],
                resamples=resamples,
                seed=seed,
                least_pairs=least_pairs,
                inputs=inputs or (),
                strict=strict,
                observer=observer,
            )
    except KeyboardInterrupt:
        if folder is not None:
            note(f"scores so far are in {folder}; the same command goes on from there")
        raise
    result = found.result
    if found.reused:
        note(f"{found.reused} scores were there already")
    if folder is not None:
        note(f"wrote {folder}")
    if json:
        print_json(result.to_json())
    else:
        print_study(result, everything=everything)
    exit_incomplete(result.not_scored)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _pair(text: str) -> tuple[str, str]:
    first, comma, second = text.partition(",")
    if not (first and comma and second) or "," in second:
        raise UsageError(f"--compare {text}: write it as MEASURE,MEASURE.")
    return first, second
