"""JSON Schemas of the documents that cnatool reads and writes, made from the typed records."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The title of each schema, and the module and name of its record, which is imported on use.
SCHEMAS: Mapping[str, tuple[str, str, str]] = {
    "compare": ("What `cnatool compare` prints as JSON", "comparing.results", "Comparison"),
    "drift": ("What `cnatool drift` prints as JSON", "comparing.drift.results", "DriftResult"),
    "dump": ("What `cnatool dump` prints as JSON", "dumping.results", "DumpResult"),
    "inspect": ("What `cnatool inspect` prints as JSON", "dumping.results", "InspectionResult"),
    "landscape": ("What `cnatool landscape` prints as JSON", "studying.results", "LandscapeResult"),
    "layers": ("What `cnatool layers` prints as JSON", "scoring.layer_results", "LayerScores"),
    "preflight": (
        "What a dry run of `cnatool dump` prints as JSON",
        "dumping.results",
        "PreflightResult",
    ),
    "preprocess": (
        "What `cnatool dump` reads as `preprocess`: how samples are prepared for a model",
        "data.preprocess.recipe",
        "Recipe",
    ),
    "progress": (
        "A line of progress as JSON: an event of a command",
        "cli.events",
        "Event",
    ),
    "score": ("What `cnatool score` prints as JSON", "scoring.results", "ScoreResult"),
    "store": ("The attribute `cnatool` at the root of a store", "records.store", "StoreRecord"),
    "study": ("What `cnatool study` prints as JSON", "studying.results", "StudyResult"),
    "trajectory": (
        "What `cnatool trajectory` prints as JSON",
        "studying.results",
        "TrajectoryResult",
    ),
    "units": ("What `cnatool units` prints as JSON", "per_unit.results", "UnitsResult"),
    "verify": ("What `cnatool verify` prints as JSON", "store.verify", "Verification"),
}


def schema_text(name: str) -> str:
    """Return a schema, a key of `SCHEMAS`, as JSON text."""
    import msgspec

    if name not in SCHEMAS:
        raise UsageError(f"there is no schema {name!r}; there are {', '.join(SCHEMAS)}.")
    title, module, record = SCHEMAS[name]
    document = getattr(import_module(f"cnatool.{module}"), record)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(document),
    }
    for definition in schema["$defs"].values():
        text = inspect.cleandoc(definition.get("description", ""))
        definition["description"] = " ".join(text.partition("\n\nAttributes\n")[0].split())
        _describe_fields(definition, text)
    # The fields of a header are documented where it is declared.
    for kind in get_args(document) or (document,):
        for base in kind.__mro__[1:]:
            _describe_fields(schema["$defs"][kind.__name__], inspect.getdoc(base) or "")
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _describe_fields(definition: dict[str, Any], docstring: str) -> None:
    """Turn the section Attributes of a record's docstring into descriptions of its fields."""
    attributes = docstring.partition("\n\nAttributes\n----------\n")[2]
    # An entry is "name, name : type" at the margin, with its text indented below.
    for names, body in re.findall(r"^(\S[^:\n]*) : .*\n((?: +.*\n?)+)", attributes, re.MULTILINE):
        for field in names.split(", "):
            definition["properties"][field].setdefault("description", " ".join(body.split()))
