"""The list of JSON Schemas."""

from __future__ import annotations

import json

from cnatool.schemas import SCHEMAS, schema_text

_TITLE = """# JSON schemas

With `--json`, commands print one JSON document. `cnatool schema NAME` prints the JSON Schema of a \
document, and the folder `schemas` of the repository contains all schemas. The field `schema` of \
every document gives the name and version of its schema, as in `cnatool.score/1`; \
[stability](stability.md) explains when a version changes.

| schema | describes |
|---|---|
"""


def describe_schemas() -> str:
    """List the schemas with what each describes."""
    rows = []
    for name in SCHEMAS:
        schema = json.loads(schema_text(name))
        record = schema.get("$ref", "").rpartition("/")[2]
        # A choice between several records has a title only.
        text = schema["$defs"][record]["description"] if record else f"{schema['title']}."
        rows.append(f"| [`{name}`](../schemas/{name}.schema.json) | {text} |")
    return _TITLE + "\n".join(rows) + "\n"
