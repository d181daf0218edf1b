"""``cnatool schema``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["schema"]


def schema(
    name: Annotated[
        str, typer.Argument(help="layers, preprocess, score, store, study, or verify.")
    ],
) -> None:
    """Print the JSON Schema of what others read or write."""
    from cnatool.schemas import schema_text

    typer.echo(schema_text(name), nl=False)
