"""What the shell may complete: words of tables in the code, and stores.

The shell waits for every completion, so that modules are imported by the ones that need them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import get_args, get_type_hints

Complete = Callable[[str], list[str]]

# Endings of stores' names.
_STORES = (".zarr", ".zarr.zip", ".h5", ".hdf5")
# A path that needs no quotes in any shell; others are left to the shell, which quotes them.
_PLAIN = re.compile(r"[\w./@%+,-]+")


def complete_from(*words: str) -> Complete:
    """Return the completion of an option that takes one of some words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def complete_store(incomplete: str) -> list[str]:
    """List the stores that a path may become.

    Without any, the shell completes folders and files as ever.
    """
    return _complete_path(incomplete, _STORES)


def complete_model_or_store(incomplete: str) -> list[str]:
    """List the models and stores that a path may become."""
    return _complete_path(incomplete, (".onnx", *_STORES))


def _complete_path(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    folder, name = os.path.split(incomplete)
    before = incomplete.removesuffix(name) if name else incomplete
    try:
        with os.scandir(folder or ".") as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return []
    paths = [
        before + found
        for found in names
        if found.startswith(name) and found.endswith(endings) and not found.startswith(".")
    ]
    return [path for path in paths if _PLAIN.fullmatch(path)]


def complete_format(incomplete: str) -> list[str]:
    """List the formats of data."""
    from cnatool.data.detect import FORMATS

    return complete_from(*(each.name for each in FORMATS))(incomplete)


def complete_schema(incomplete: str) -> list[str]:
    """List the documents that have a schema."""
    from cnatool.schemas import SCHEMAS

    return complete_from(*SCHEMAS)(incomplete)


def complete_override(incomplete: str) -> list[str]:
    """List the fields of a convention, with an equals sign, or the words that a field takes."""
    from cnatool.metrics.convention import ConventionFields

    fields = get_type_hints(ConventionFields)
    field, equals, _ = incomplete.partition("=")
    if not equals:
        return complete_from(*(f"{name}=" for name in fields))(incomplete)
    kind = fields.get(field)
    words = ("true", "false") if kind is bool else get_args(kind)
    return complete_from(*(f"{field}={word}" for word in words if isinstance(word, str)))(
        incomplete
    )
