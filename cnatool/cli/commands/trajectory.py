"""``cnatool trajectory``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.console import ConsoleObserver, exit_incomplete, key_values, note, print_json
from cnatool.cli.options import (
    ConventionOption,
    InputsOption,
    OrderOption,
    RunTagOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestFolderOption,
)


def trajectory(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE", help="Stores, and folders of stores.")
    ],
    order: OrderOption = None,
    by: RunTagOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            "--folder",
            metavar="DIR",
            help="Write all results here, and keep scores, as `cnatool study` does.",
        ),
    ] = None,
    test: TestFolderOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """Score checkpoints along training: CNA, CNA-M, accuracy, loss and error by α, step by step."""
    from cnatool.cli.tables.trajectory import print_trajectory
    from cnatool.studying.trajectory import trajectory as run_trajectory

    try:
        with ConsoleObserver(unit="") as observer:
            found = run_trajectory(
                stores,
                order=order,
                by=by,
                folder=folder,
                test=test,
                convention=convention,
                overrides=key_values("--set", overrides or ()),
                output=output,
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
        print_trajectory(result)
    exit_incomplete(result.not_scored)
