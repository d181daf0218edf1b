"""``cnatool inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool.cli.completion import complete_model_or_store
from cnatool.cli.console import note, print_json
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.options import (
    OUTPUT,
    JsonOption,
)
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODEL = "Model"


@with_dump_options(names=("constants", "custom_ops"), panel=_MODEL)
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|STORE",
            help="An ONNX file or a store.",
            autocompletion=complete_model_or_store,
        ),
    ],
    input_shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--input-shape",
            metavar="[INPUT=]N,N,…",
            help="Shape of one sample, if the model does not fix it.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    *,
    options: dict[str, Any],
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="List the layers: which tensor represents each, and why.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    skipped: Annotated[
        bool,
        typer.Option(
            "--skipped",
            help="Also list tensors that are not stored, with the reasons.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the tensors and layers of a model or a store.

    Each tensor is listed with its operator, role, layer, shape and bytes per sample.
    """
    from cnatool._util.urls import parse_path
    from cnatool.store.format_table import is_store

    path = parse_path(path)
    if is_store(path):
        from cnatool.dumping.results import store_inspection
        from cnatool.store.missing_rows import describe_missing_rows
        from cnatool.store.reader import open_store

        store = open_store(path)
        unfinished = describe_missing_rows(store)
        if unfinished is not None:
            note(unfinished)
        if json:
            print_json(store_inspection(store).to_json())
            return
        from cnatool.cli.tables.inspect import print_store

        print_store(store, layers=layers, skipped=skipped)
        return
    from cnatool.cli.tables.inspect import print_model
    from cnatool.dumping.inspect import inspect_model

    inspection = inspect_model(path, _parse_shapes(input_shapes or ()), **options)
    if json:
        print_json(inspection.document(path).to_json())
    else:
        print_model(path, inspection, layers=layers, skipped=skipped)


def _parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]] | tuple[int, ...] | None:
    named = [text.rpartition("=") for text in texts]
    if len(named) == 1 and not named[0][1]:
        return _parse_shape(texts[0])
    for text, (_, equals, _) in zip(texts, named, strict=True):
        if not equals:
            raise UsageError(
                f"--input-shape {text}: with several inputs, write each as INPUT=N,N,…."
            )
    return {name: _parse_shape(shape) for name, _, shape in named} or None


def _parse_shape(text: str) -> tuple[int, ...]:
    words = text.replace("x", ",").split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"--input-shape {text}: give positive whole numbers separated by commas.")
    return tuple(int(word) for word in words)
