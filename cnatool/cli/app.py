"""The application: its commands and its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from cnatool._version import __version__
from cnatool.cli.options import EXIT_CODES
from cnatool.cli.parsing import Command, Group
from cnatool.cli.shared_options import with_shared_options

# The commands by panel of the help, with their summaries. The module of a command is imported when
# the command is used, so that neither help nor another command waits for it.
_PANELS = {
    "Stores": {
        "dump": "Run a model over data and store every intermediate tensor.",
        "merge": "Combine the parts of a dump into one store.",
        "preprocess": "Show how samples are prepared for a model.",
        "inspect": "List the tensors and layers of a model or a store.",
        "convert": "Copy a store to another format, bit for bit.",
        "verify": "Check a store: checksums, shapes, attribute and statistics.",
    },
    "Scores": {
        "score": "Compute α, β, CNA, CNA-A and CNA-M of a store.",
        "layers": "Show z over depth, and what each layer contributes to β and CNA.",
        "units": "Show individual units: dead ones, quantiles, classes, samples.",
        "compare": "Check that two stores agree, such as before and after an export.",
        "drift": "Compare distributions of activations in two splits or data sets.",
    },
    "Many networks": {
        "study": "Correlate measures of many networks with test accuracy and gap.",
        "trajectory": "Score checkpoints along training, step by step.",
        "landscape": "Compute CNA over a plane through the activations of checkpoints.",
    },
    "Other commands": {
        "report": "Make a page about stores and studies to view in a browser.",
        "plot": "Draw a figure of stores, a study, a trajectory or a landscape.",
        "demo": "Dump and score small networks as they learn handwritten digits.",
        "schema": "Print the JSON Schema of a document that cnatool reads or writes.",
    },
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when it is first looked up."""

    def __init__(self) -> None:
        self._names = [name for panel in _PANELS.values() for name in panel]

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return _make_command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@cache
def _make_command(name: str) -> Any:
    module = import_module(f"cnatool.cli.commands.{name}")
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=Command, epilog=EXIT_CODES)(with_shared_options(getattr(module, name)))
    return typer.main.get_command(single)


class _Root(Group):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        commands: Any = _Commands()
        self.commands = commands

    def summaries(self) -> Mapping[str, Mapping[str, str]]:
        """Return the summaries of the commands by panel."""
        return _PANELS


app = typer.Typer(
    name="cnatool",
    cls=_Root,
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
