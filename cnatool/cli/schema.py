"""``cnatool schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnatool.cli.console import print_json
from cnatool.schema_titles import TITLES

__all__ = ["schema"]

*_FIRST, _LAST = TITLES


def schema(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(_FIRST)}, or {_LAST}.")],
) -> None:
    """Print the JSON Schema of what others read or write."""
    from cnatool.schemas import schema_text

    print_json(schema_text(name))
