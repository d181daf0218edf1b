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
    add_completion=False,
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


app.command("demo", cls=Command, epilog=EXIT_CODES)(demo.demo)
app.command("inspect", cls=Command, epilog=EXIT_CODES)(inspect.inspect)
app.command("dump", cls=Command, epilog=EXIT_CODES)(dump.dump)
app.add_typer(preprocess.app, name="preprocess")
app.command("score", cls=Command, epilog=EXIT_CODES)(score.score)
app.command("layers", cls=Command, epilog=EXIT_CODES)(layers.layers)
app.command("study", cls=Command, epilog=EXIT_CODES)(study.study)
app.command("compare", cls=Command, epilog=EXIT_CODES)(compare.compare)
app.command("plot", cls=Command, epilog=EXIT_CODES)(plot.plot)
app.command("trajectory", cls=Command, epilog=EXIT_CODES)(trajectory.trajectory)
app.command("landscape", cls=Command, epilog=EXIT_CODES)(landscape.landscape)
app.command("convert", cls=Command, epilog=EXIT_CODES)(convert.convert)
app.command("verify", cls=Command, epilog=EXIT_CODES)(verify.verify)
app.command("schema", cls=Command, epilog=EXIT_CODES)(schema.schema)
