"""The command-line parser, whose errors quote what the user typed."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from cnatool.cli.console import note_lines
from cnatool.cli.parameter_names import run_in
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(TyperCommand):
    """A command, in whose options messages of the library are printed."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        run_in(ctx)
        return super().invoke(ctx)


class Group(TyperGroup):
    """The group of all commands; usage errors are escaped as other messages are."""

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
                _fail(error)
            raise
        # A command has no result but its exit code.
        sys.exit(code)


def _fail(error: Exception) -> None:
    """Print a usage error and exit; other errors are left to the caller."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if isinstance(error, CnatoolError) or show is None or code is None:
        return
    shown = io.StringIO()
    show(file=shown)
    note_lines(shown.getvalue())
    sys.exit(code)
