from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from support.command import run

from cnatool.errors import UsageError
from cnatool.schemas import SCHEMAS, schema_text

FOLDER = Path(__file__).parents[1] / "schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_shipped_schema_is_what_the_records_say(name: str) -> None:
    assert (FOLDER / f"{name}.schema.json").read_text("utf-8") == schema_text(name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_a_schema_with_a_word_on_each_field(name: str) -> None:
    schema = json.loads(schema_text(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    for title, definition in schema["$defs"].items():
        assert definition["description"], title
        for field, property_ in definition["properties"].items():
            assert property_.get("description"), f"{title}.{field}"


def test_no_leftover_schemas() -> None:
    assert sorted(p.name for p in FOLDER.iterdir()) == sorted(f"{n}.schema.json" for n in SCHEMAS)


def test_the_help_lists_them() -> None:
    text = run("schema", "--help").stdout
    *others, last = SCHEMAS
    assert f"{', '.join(others)}, or {last}." in " ".join(text.split())


def test_no_such_schema() -> None:
    with pytest.raises(
        UsageError,
        match=r"there is no schema 'x'; there are compare, drift, dump, inspect, landscape, "
        r"layers, preflight, preprocess, progress, score, store, study, trajectory, units, "
        r"verify\.",
    ):
        schema_text("x")
