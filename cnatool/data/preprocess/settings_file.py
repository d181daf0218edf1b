"""Reading of small files of settings, in JSON, YAML or TOML, which may be hostile."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from cnatool._util.text import bytes_text, one_line, printable
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import yaml

# Configurations on model hubs may contain the names of all their classes.
_MAX_BYTES = {".json": 1 << 22, ".toml": 1 << 14, ".yaml": 1 << 14, ".yml": 1 << 14}
_MAX_DEPTH = 20
_MAX_LINE = 500


def read_settings(path: Path) -> dict[str, Any]:
    """Read a file of settings in the format of its extension."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{path}: give a file in {', '.join(sorted(_READERS))}.")
    try:
        # Opening a pipe would block forever.
        if not path.is_file():
            raise UsageError(f"there is no file {path}.")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES[suffix] + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > _MAX_BYTES[suffix]:
        raise UsageError(
            f"{path} has more than {bytes_text(_MAX_BYTES[suffix])}, too much for settings."
        )
    try:
        document = _READERS[suffix](content.decode("utf-8-sig"))
        _check(document)
    # ValueError is what all three raise, as do whole numbers with thousands of digits; numbers to
    # base 60, which YAML has, overflow.
    except (ValueError, OverflowError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else printable(one_line(error))
        raise UsageError(f"{path} cannot be read as {suffix[1:].upper()} ({reason}).") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} does not hold fields with values.")
    return document


def _check(value: Any, depth: int = 0) -> None:
    """Refuse numbers of more than 64 bits, and deep nesting."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a whole number is too large")
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _toml(text: str) -> Any:
    # A key of n parts takes tomllib memory in n squared.
    if max(map(len, text.splitlines()), default=0) > _MAX_LINE:
        raise ValueError(f"a line has more than {_MAX_LINE} characters")
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    # PyYAML comes with zarr as well. Imported here: most runs read no YAML.
    import yaml

    depth = 0
    try:
        # Aliases can multiply a small file into any amount of memory, and composing recurses.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError("anchors and aliases are not supported")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise RecursionError
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _plain(yaml.SafeLoader(""), node)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if node.tag == "tag:yaml.org,2002:map":
        return _unique([(_key(loader, key), _plain(loader, item)) for key, item in node.value])
    if node.tag == "tag:yaml.org,2002:seq":
        return [_plain(loader, item) for item in node.value]
    if not isinstance(node.value, str):
        raise ValueError(f"{node.tag} is not supported")
    return loader.construct_object(node)


def _key(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    key = _plain(loader, node)
    if not isinstance(key, str):
        raise ValueError(f"the name {printable(key)[:40]} is not text: put it in quotes")
    return key


_READERS: dict[str, Callable[[str], Any]] = {
    ".json": _json,
    ".toml": _toml,
    ".yaml": _yaml,
    ".yml": _yaml,
}
