"""``cnatool score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_override
from cnatool.cli.console import (
    PATIENCE,
    ConsoleObserver,
    note,
    print_result,
    read_pairs,
)
from cnatool.cli.options import (
    DEFINITIONS,
    OUTPUT,
    ConventionOption,
    DaskOption,
    InputsOption,
    JsonOption,
    StoreArgument,
    TestOption,
    connect_client,
)


def score(
    store: StoreArgument,
    test: TestOption = None,
    convention: ConventionOption = "paper",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            autocompletion=complete_override,
            help="Override a field of the convention, for example bins=1000. Repeatable. Fields: "
            "alpha, alpha_symbols, alpha_window, codec, bins, range, sound_range, out_of_range, "
            "layers, include_output, include_shortcut, aggregate, depth, cna, cna_batch, "
            "cna_order, interval, level, resamples, area_resamples, permutations, resample_seed, "
            "alpha_groups, area, window, points, margin, margin_split, margin_fraction, "
            "margin_seed, margin_percentile, margin_batch, gap.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--scores-output",
            "--output",
            metavar="NAME",
            help="Model output that contains the class scores; by default the one that the last "
            "layer leads to.",
            rich_help_panel=DEFINITIONS,
        ),
    ] = None,
    inputs: InputsOption = None,
    client: DaskOption = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also print CNA with every coefficient, both gaps, and error by quantile of α.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    list_layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="List the layers that count, one per line.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also print measures based on the norms of the weights; JSON always contains "
            "them.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet|csv",
            help="Write α, β, margin and more for each sample to a file. In CSV, text that a "
            "spreadsheet would evaluate is preceded by a single quote.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Compute α, β, CNA, CNA-A and CNA-M of a store.

    α, β and CNA are computed for each split; CNA-A and CNA-M compare train and test.
    """
    from cnatool._util.frame_files import check_frame_path
    from cnatool.cli.tables.score import print_baselines, print_score
    from cnatool.metrics.convention import Convention
    from cnatool.scoring.results import ScoreResult
    from cnatool.scoring.samples import sample_schema, write_frames
    from cnatool.scoring.score import score_store

    def print_tables(result: ScoreResult) -> None:
        print_score(result, everything=everything, layers=list_layers)
        if baselines:
            print_baselines(result)

    if samples is not None:
        check_frame_path(samples)
    with (
        connect_client(client) as connected,
        ConsoleObserver(unit="", patience=PATIENCE) as observer,
    ):
        scored = score_store(
            store,
            test,
            Convention.named(convention, read_pairs("--set", overrides)),
            output=output,
            inputs=inputs or (),
            client=connected,
            observer=observer,
        )
        result = scored.result(observer)
    if samples is not None:
        named = str(result.convention)
        write_frames(scored.frames(), sample_schema(scored.splits), samples, convention=named)
        note(f"wrote {samples}")
    print_result(result, print_tables, json=json)
