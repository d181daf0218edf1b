"""A small file of settings, in JSON, YAML or TOML, as plain values: nobody's code, and no bombs."""

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

# Configurations on model hubs may carry the names of all their classes.
_MOST_BYTES = {".json": 1 << 22, ".toml": 1 << 14, ".yaml": 1 << 14, ".yml": 1 << 14}
_DEEPEST = 20
_LONGEST_LINE = 500


def read_settings(path: Path) -> dict[str, Any]:
    """Read a file of settings whose form its extension says."""
    form = path.suffix.lower()
    if form not in _READERS:
        raise UsageError(f"{path}: give a file {', '.join(sorted(_READERS))}.")
    try:
        # Opening a pipe would wait for ever.
        if not path.is_file():
            raise UsageError(f"there is no file {path}.")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES[form] + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > _MOST_BYTES[form]:
        raise UsageError(
            f"{path} has more than {bytes_text(_MOST_BYTES[form])}, which no file of settings has."
        )
    try:
        made = _READERS[form](content.decode("utf-8-sig"))
        _check(made)
    # ValueError is what all three raise, as do whole numbers with thousands of digits; numbers to
    # base 60, which YAML has, overflow.
    except (ValueError, OverflowError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else printable(one_line(error))
        raise UsageError(
            f"{path} is no {form[1:].upper()} that is understood ({reason})."
        ) from error
    if not isinstance(made, dict):
        raise UsageError(f"{path} does not hold fields with values.")
    return made


def _check(value: Any, depth: int = 0) -> None:
    """Refuse what later work would stumble over: numbers of any length, and depth."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a whole number is too large")
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, dict | list):
        for at in value.values() if isinstance(value, dict) else value:
            _check(at, depth + 1)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return made


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _toml(text: str) -> Any:
    # A key of n parts takes tomllib memory in n squared.
    if max(map(len, text.splitlines()), default=0) > _LONGEST_LINE:
        raise ValueError(f"a line has more than {_LONGEST_LINE} characters")
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    # PyYAML comes with zarr as well. Imported here: most runs read no YAML.
    import yaml

    depth = 0
    try:
        # Aliases can multiply a small file into any amount of memory, and composing recurses.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError("anchors and aliases are not understood")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise RecursionError
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _plain(yaml.SafeLoader(""), node)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if node.tag == "tag:yaml.org,2002:map":
        return _once([(_key(loader, key), _plain(loader, at)) for key, at in node.value])
    if node.tag == "tag:yaml.org,2002:seq":
        return [_plain(loader, at) for at in node.value]
    if not isinstance(node.value, str):
        raise ValueError(f"{node.tag} is not understood")
    return loader.construct_object(node)


def _key(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    key = _plain(loader, node)
    if not isinstance(key, str):
        raise ValueError(f"the name {printable(key)[:40]} is no text: put it in quotes")
    return key


_READERS: dict[str, Callable[[str], Any]] = {
    ".json": _json,
    ".toml": _toml,
    ".yaml": _yaml,
    ".yml": _yaml,
}
