"""``cnatool schema``."""

from __future__ import annotations

from typing import Annotated

import typer

from cnatool.cli.completion import complete_schema
from cnatool.cli.console import print_json
from cnatool.schemas import SCHEMAS, schema_text

*_FIRST, _LAST = SCHEMAS


def schema(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help=f"{', '.join(_FIRST)}, or {_LAST}.", autocompletion=complete_schema
        ),
    ],
) -> None:
    """Print the JSON Schema of a document that cnatool reads or writes."""
    print_json(schema_text(name))
