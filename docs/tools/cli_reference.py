"""The reference of the command line, from the same text as ``--help``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from text import escape

from cnatool.cli.app import app
from cnatool.cli.options import EXIT_CODES

_TITLE = """# Command line

What `cnatool COMMAND --help` prints, for all commands. Results go to standard output, notes and \
progress to standard error: [output](output.md). [Exit codes](output.md#exit-codes) tell scripts \
what happened, and [errors](errors.md) lists the messages.

`cnatool --install-completion` teaches the shell to complete commands, options and their values.

"""
# Of what click adds to each command.
_COMMON = "--help"


class _Sections:
    """A formatter that keeps the sections of a command's help instead of printing them."""

    def __init__(self) -> None:
        self.sections: dict[str, list[tuple[str, str]]] = {}
        self._open = ""

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Open a section."""
        self._open = name
        yield

    def write_dl(self, rows: list[tuple[str, str]]) -> None:
        """Keep the rows of the open section."""
        self.sections.setdefault(self._open, []).extend(rows)


def describe_commands() -> str:
    """Describe all commands and their options."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="cnatool")
    described = [_describe(root, context)]
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = typer.Context(command, info_name=name, parent=context)
        described.append(_describe(command, inner))
        for below, subcommand in getattr(command, "commands", {}).items():
            described.append(
                _describe(subcommand, typer.Context(subcommand, info_name=below, parent=inner))
            )
    return _TITLE + "\n".join(described)


def _describe(command: Any, context: Any) -> str:
    sections = _Sections()
    command.format_options(context, sections)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    lines = [f"## {context.command_path}", "", *_spaced(paragraphs), "```text", usage, "```", ""]
    for name, rows in sections.sections.items():
        shown = [row for row in rows if row[0] != _COMMON]
        if shown:
            described = (_describe_row(*row, command, context.command_path) for row in shown)
            lines += [f"**{name}**", "", *described, ""]
    return "\n".join(lines)


def _describe_row(name: str, text: str, command: Any, path: str) -> str:
    entry = f"`{name}`"
    if name in getattr(command, "commands", {}):
        entry = f"[{entry}](#{f'{path} {name}'.replace(' ', '-')})"
    return f"- {entry}: {_describe_default(escape(' '.join(text.split())))}"


def _describe_default(text: str) -> str:
    """Write what click puts into brackets as a sentence."""
    text = text.replace(" \\[required]", " Required.")
    return re.sub(r" \\\[default: ([^\];]+)(; [^\]]+)?]$", r" Default: `\1`\2.", text)


def _spaced(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        if paragraph != EXIT_CODES:
            yield from (escape(paragraph), "")
