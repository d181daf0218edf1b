"""The JSON Schemas of what others read or write, made from the typed records."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool.comparison_results import Comparison
from cnatool.data.recipe import Recipe
from cnatool.dump_results import DumpResult, PreflightResult
from cnatool.errors import UsageError
from cnatool.inspection_results import InspectionResult
from cnatool.layer_results import LayerScores
from cnatool.results import ScoreResult
from cnatool.schema_titles import TITLES
from cnatool.store.records import StoreRecord
from cnatool.studying.landscape_results import LandscapeResult
from cnatool.studying.results import StudyResult
from cnatool.studying.trajectory_results import TrajectoryResult
from cnatool.verifying import Verification

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SCHEMAS", "schema_text"]

SCHEMAS: Mapping[str, type[Any]] = {
    "compare": Comparison,
    "dump": DumpResult,
    "inspect": InspectionResult,
    "landscape": LandscapeResult,
    "layers": LayerScores,
    "preflight": PreflightResult,
    "preprocess": Recipe,
    "score": ScoreResult,
    "store": StoreRecord,
    "study": StudyResult,
    "trajectory": TrajectoryResult,
    "verify": Verification,
}


def schema_text(name: str) -> str:
    """Write a schema as JSON text.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.

    Raises
    ------
    UsageError
        If there is no schema of that name.
    """
    if name not in SCHEMAS:
        raise UsageError(f"there is no schema {name!r}; there are {', '.join(SCHEMAS)}.")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLES[name],
        **msgspec.json.schema(SCHEMAS[name]),
    }
    for definition in schema["$defs"].values():
        _describe(definition)
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _describe(definition: dict[str, Any]) -> None:
    """Turn a record's docstring into descriptions of the record and of each of its fields."""
    text = inspect.cleandoc(definition.get("description", ""))
    summary, _, attributes = text.partition("\n\nAttributes\n----------\n")
    definition["description"] = " ".join(summary.split())
    # An entry is "name, name : type" at the margin, with its text indented below.
    for names, body in re.findall(r"^(\S[^:\n]*) : .*\n((?: +.*\n?)+)", attributes, re.MULTILINE):
        for field in names.split(", "):
            definition["properties"][field]["description"] = " ".join(body.split())
