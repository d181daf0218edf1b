"""The application: its commands and its options."""

from __future__ import annotations

from typing import Annotated

import typer

from cnatool._version import __version__
from cnatool.cli.commands import (
    compare,
    convert,
    demo,
    dump,
    inspect,
    landscape,
    layers,
    plot,
    preprocess,
    schema,
    score,
    study,
    trajectory,
    verify,
)
from cnatool.cli.options import EXIT_CODES
from cnatool.cli.parsing import Command, Group

app = typer.Typer(
    name="cnatool",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help comes in half the time.
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cnatool {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
) -> None:
    """See what happens inside an exported network, and score how it generalises.

    Start with `cnatool demo`. On your own model: `cnatool dump MODEL.onnx DATA -o STORE.zarr`,
    then `cnatool score STORE.zarr`.
    """


for panel, functions in {
    "Stores": (dump.dump, inspect.inspect, convert.convert, verify.verify),
    "Scores": (score.score, layers.layers, compare.compare),
    "Many networks": (study.study, trajectory.trajectory, landscape.landscape),
    "Other commands": (plot.plot, demo.demo, schema.schema),
}.items():
    for function in functions:
        app.command(function.__name__, cls=Command, epilog=EXIT_CODES, rich_help_panel=panel)(
            function
        )
app.add_typer(preprocess.app, name="preprocess", rich_help_panel="Stores")
