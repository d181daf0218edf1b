"""Options of every command: how progress is shown, and where options come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cnatool.cli import progress_mode
from cnatool.cli.parameter_names import running_context


class _Mode(StrEnum):
    """How progress is shown, in the words of `progress_mode`."""

    AUTO = "auto"
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        from cnatool.cli.config import read_config

        context.default_map = read_config(path, context)
    return path


def _choose_progress(context: typer.Context, mode: _Mode) -> _Mode:
    if not context.resilient_parsing:
        progress_mode.choose(mode.value)
    return mode


def print_config(decided: dict[str, Any] | None = None) -> None:
    """Print the options of the running command as a file, with what it decided itself."""
    from cnatool.cli.config import config_text

    typer.echo(config_text(running_context(), decided or {}), nl=False)


def _declare(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            callback=_load_config,
            is_eager=True,
            help="File with options, in the format of docs/configuration.md; the command line "
            "overrides it.",
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", help="Print all options in the format of such a file, and exit."
        ),
    ] = False,
    progress: Annotated[
        _Mode,
        typer.Option(
            "--progress",
            metavar="|".join(_Mode),
            callback=_choose_progress,
            help="How to show progress: as a bar, as lines, as JSON lines that also contain notes "
            "and errors, or not at all; auto means a bar on a terminal and lines elsewhere.",
        ),
    ] = _Mode.AUTO,
) -> None:
    """Declare the options of every command."""


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command to one.

    A command with a parameter ``print_config`` prints its options itself.
    """
    own, hints = inspect.signature(command), _hints(command)
    prints = "print_config" in own.parameters
    shared = inspect.signature(_declare).parameters.values()
    shared_hints = get_type_hints(_declare, include_extras=True)

    @wraps(command)
    def run(*, config: object, progress: object, **values: Any) -> None:
        if not prints and values.pop("print_config"):
            print_config()
        else:
            command(**values)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=found[parameter.name])
        for several, found in ((own.parameters.values(), hints), (shared, shared_hints))
        for parameter in several
        if found is shared_hints or parameter.name != "print_config"
    ]
    wrapped: Any = run
    wrapped.__signature__ = own.replace(parameters=parameters, return_annotation=None)
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _hints(command: Callable[..., None]) -> dict[str, Any]:
    # Of a command that was wrapped before, whose annotations are no text.
    if hasattr(command, "__signature__"):
        return dict(command.__annotations__)
    return get_type_hints(command, include_extras=True)
