"""``cnatool trajectory``."""

from __future__ import annotations

from cnatool.cli.console import (
    ConsoleObserver,
    finish_study,
    note_kept_scores,
    read_pairs,
)
from cnatool.cli.options import (
    ConventionOption,
    FolderOption,
    InputsOption,
    JsonOption,
    OrderOption,
    RunTagOption,
    ScoresOutputOption,
    SetOption,
    StoresArgument,
    StrictOption,
    TestFolderOption,
)


def trajectory(
    stores: StoresArgument,
    order: OrderOption = None,
    by: RunTagOption = None,
    folder: FolderOption = None,
    test: TestFolderOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Score checkpoints along training, step by step.

    For each step, it shows CNA, CNA-A, CNA-M, accuracy, loss, and the error by quantile of α.
    """
    from cnatool.cli.tables.trajectory import print_trajectory
    from cnatool.studying.trajectory import trajectory as run_trajectory

    with note_kept_scores(folder), ConsoleObserver(unit="") as observer:
        scored = run_trajectory(
            stores,
            order=order,
            by=by,
            folder=folder,
            test=test,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            output=output,
            inputs=inputs or (),
            strict=strict,
            observer=observer,
        )
    finish_study(scored.result, print_trajectory, folder=folder, json=json, reused=scored.reused)
