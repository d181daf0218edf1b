"""``cnatool layers``."""

from __future__ import annotations

from cnatool.cli.console import (
    PATIENCE,
    ConsoleObserver,
    print_result,
    read_pairs,
)
from cnatool.cli.options import (
    ConventionOption,
    InputsOption,
    JsonOption,
    SampleOption,
    SetOption,
    StoreArgument,
    TestOption,
)


def layers(
    store: StoreArgument,
    test: TestOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    samples: SampleOption = None,
    inputs: InputsOption = None,
    json: JsonOption = False,
) -> None:
    """Show z over depth, and what each layer contributes to β and CNA."""
    from cnatool.cli.tables.layers import print_layer_scores
    from cnatool.scoring.layers import score_layers

    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        scores = score_layers(
            store,
            test,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            samples=samples or (),
            inputs=inputs or (),
            observer=observer,
        )
    print_result(scores, print_layer_scores, json=json)
