"""Commands and their group: help in panels, errors that quote what the user typed."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from cnatool._util.spelling import spell_parameters
from cnatool.cli.console import print_error_lines, start_events
from cnatool.cli.options import OUTPUT
from cnatool.cli.parameter_names import run_in, with_options
from cnatool.cli.value_errors import value_error_text
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# The panel of the parameters that name none.
_OTHER = "Options"


class _Help:
    """Help of a command or a group, in panels; no summary is cut short."""

    params: list[Any]
    options_metavar: str | None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options by panels, and the options without a panel."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        other: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                panels["Arguments"].append((_argument_name(parameter), record[1]))
                continue
            shown = ", ".join(_current_spellings(parameter))
            entry = record[0].replace(", ".join(parameter.opts), shown, 1), record[1]
            panel = parameter.rich_help_panel
            (panels.setdefault(panel, []) if isinstance(panel, str) else other).append(entry)
        # In every command, what is printed and written comes last.
        if OUTPUT in panels:
            panels[OUTPUT] = panels.pop(OUTPUT)
        _write_panels(formatter, {**panels, _OTHER: other})

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """List the words of the usage line."""
        arguments = [
            parameter for parameter in self.params if parameter.param_type_name == "argument"
        ]
        return [
            *([self.options_metavar] if self.options_metavar else []),
            *(
                _argument_name(argument) if argument.required else f"[{_argument_name(argument)}]"
                for argument in arguments
            ),
        ]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """List completions, older spellings of options left out."""
        hidden = {
            spelling
            for parameter in self.params
            if parameter.param_type_name == "option"
            for spelling in set(parameter.opts) - {*_current_spellings(parameter)}
        }
        items: list[Any] = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        return [item for item in items if item.value not in hidden]


class Command(_Help, TyperCommand):
    """A command; messages of the library name parameters, and are printed with its options."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        run_in(ctx)
        start_events(ctx.command_path.partition(" ")[2])
        with spell_parameters(with_options):
            return super().invoke(ctx)


class Group(_Help, TyperGroup):
    """A group of commands; hidden characters in usage errors are escaped."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands by panels, each with its whole summary."""
        super().format_options(ctx, formatter)
        _write_panels(
            formatter, {panel: list(rows.items()) for panel, rows in self.summaries().items()}
        )

    def summaries(self) -> Mapping[str, Mapping[str, str]]:
        """Return the summaries of the commands by panel."""
        return {"Commands": {name: summary(command) for name, command in self.commands.items()}}

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """List the words of the usage line."""
        return [*super().collect_usage_pieces(ctx), self.subcommand_metavar]

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line, and exit unless ``standalone_mode`` is off."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            if not standalone_mode:
                return code
        except Exception as error:
            if standalone_mode:
                _exit_on_usage_error(error)
            raise
        # A command has no result but its exit code.
        sys.exit(code)


def summary(command: Any) -> str:
    """Return the first paragraph of a command's help, on one line."""
    return " ".join((command.help or "").partition("\n\n")[0].split())


def _write_panels(formatter: Any, panels: dict[str, list[tuple[str, str]]]) -> None:
    for name, rows in panels.items():
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows)


def _argument_name(argument: Any) -> str:
    return f"{argument.metavar or argument.name.upper()}{'...' * (argument.nargs == -1)}"


def _current_spellings(option: Any) -> Iterable[str]:
    """Return the short spelling and the first long one; the others are kept for old scripts."""
    short = [spelling for spelling in option.opts if not spelling.startswith("--")]
    long = [spelling for spelling in option.opts if spelling.startswith("--")]
    return [*short, *long[:1]]


def _exit_on_usage_error(error: Exception) -> None:
    """Print a usage error and exit; other errors are left to the caller."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if isinstance(error, CnatoolError) or show is None or code is None:
        return
    message = getattr(error, "message", None)
    if isinstance(message, str):
        error.message = value_error_text(message)  # type: ignore[attr-defined]
    text = io.StringIO()
    show(file=text)
    print_error_lines(text.getvalue())
    sys.exit(code)
