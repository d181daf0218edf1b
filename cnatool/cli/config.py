"""The options of a command from a file, and as such a file.

A file has a table for each command, whose keys are the long options without their dashes, and the
arguments by name. Values are what the command line would have; lists and tables stand for options
that are given several times or that take several values.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnatool._util.text import suggest_name
from cnatool.cli.urls import refuse_urls
from cnatool.cli.value_errors import value_error_text
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Options that no file has.
_NOT_IN_FILES = ("config", "print_config", "help")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_config(path: Path, context: Any) -> dict[str, Any]:
    """Read the values of a command's parameters, by their names in Python, from a file."""
    from cnatool.data.preprocess.settings_file import read_settings

    tables: Any = read_settings(path)
    names = context.command_path.split()[1:]
    parent = context.find_root().command
    for depth, name in enumerate(names):
        where = f"{path}: " + "".join(f"[{'.'.join(names[:depth])}] " if depth else "")
        _check_keys(where, tables, list(parent.commands), "command")
        table = f"[{'.'.join(names[: depth + 1])}]"
        if name not in tables:
            raise UsageError(f"{path} has no table {table}, which has the options of this command.")
        tables = tables[name]
        parent = parent.commands[name]
        if not isinstance(tables, dict):
            raise UsageError(f"{path}: {name}: must be a table, {table}.")
    parameters = {_key(parameter): parameter for parameter in _parameters(context.command)}
    where = f"{path}: [{'.'.join(names)}] "
    _check_keys(where, tables, list(parameters), "option")
    values: dict[str, Any] = {}
    for key, value in tables.items():
        read = _read_value(f"{where}{key}", value, parameters[key], context)
        words = read if isinstance(read, list) else [str(read)]
        refuse_urls([names[0], *(word for text in words for word in (f"--{key}", text))])
        values[parameters[key].name] = read
    return values


def config_text(context: Any, decided: Mapping[str, Any]) -> str:
    """Return the values of a command's parameters as the text of a file, which repeats the run.

    Parameters
    ----------
    context : typer.Context
        Of the command, with its parsed parameters.
    decided : dict of str to Any
        Values by key that the command decides where nothing is given.
    """
    table = ".".join(context.command_path.split()[1:])
    plain, tables = [f"[{table}]"], []
    for parameter in _parameters(context.command):
        value = _plain(context.params.get(parameter.name))
        key = _key(parameter)
        if value is None or value is False or value == [] or key in decided:
            value = decided.get(key)
        if value is None or key == "progress":
            continue
        pairs = _as_pairs(parameter, value)
        if pairs is None:
            plain.append(f"{key} = {_format_value(value)}")
        else:
            lines = (f"{_format_key(name)} = {_format_value(text)}" for name, text in pairs.items())
            tables.append("\n".join([f"\n[{table}.{key}]", *lines]))
    return "\n".join([*plain, *tables]) + "\n"


def _parameters(command: Any) -> Iterator[Any]:
    for parameter in command.params:
        if parameter.name not in _NOT_IN_FILES:
            yield parameter


def _key(parameter: Any) -> str:
    """Return the name of a parameter in a file."""
    if parameter.param_type_name == "argument":
        return str(parameter.name)
    return str(next(word for word in parameter.opts if word.startswith("--")).removeprefix("--"))


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    for key in table:
        if key in known:
            continue
        spelled = str(key).strip("-").replace("_", "-")
        advice = suggest_name(spelled, known)
        raise UsageError(f"{where}{key}: there is no such {kind}. {advice}")


def _read_value(where: str, value: Any, parameter: Any, context: Any) -> Any:
    """Convert a value of a file to what the command line would have given."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{where}: must be true or false.")
        return value
    repeatable = getattr(parameter, "multiple", False) or parameter.nargs == -1
    metavar = parameter.metavar or ""
    if repeatable and "=" in metavar and isinstance(value, dict):
        if equals := next((key for key in value if "=" in key), None):
            raise UsageError(f"{where}: a name cannot have an equals sign, as {equals!r} has.")
        words = [f"{key}={_word(where, text, metavar)}" for key, text in value.items()]
    elif repeatable and isinstance(value, list):
        words = [_word(where, item, metavar) for item in value]
    else:
        words = [_word(where, value, metavar)]
    read = words if repeatable else words[0]
    try:
        parameter.process_value(context, read)
    except Exception as error:
        message = getattr(error, "message", None)
        if message is None:
            raise
        raise UsageError(f"{where}: {value_error_text(message)}") from None
    return read


def _word(where: str, value: Any, metavar: str) -> str:
    """Write a value of a file as a word of the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) and "=" in metavar:
        return str(value).lower()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    separator = _separator(metavar)
    if isinstance(value, list) and value and separator:
        return separator.join(_word(where, item, "") for item in value)
    raise UsageError(f"{where}: must be text or a number{', or a list' if separator else ''}.")


def _separator(metavar: str) -> str:
    """Return what stands between the values of an option; empty if it takes one."""
    if "HxW" in metavar:
        return "x"
    return "," if "," in metavar or metavar == "INPUT=VALUE" else ""


def _plain(value: Any) -> Any:
    """Convert a parsed value to text, a number, or a list of these."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _as_pairs(parameter: Any, value: Any) -> dict[str, str] | None:
    """Return the pairs of an option that takes ``KEY=VALUE``; None for other values."""
    if "=" not in (parameter.metavar or "") or not isinstance(value, list):
        return None
    words = [str(word).partition("=") for word in value]
    pairs = {key: text for key, equals, text in words if key and equals}
    return pairs if len(pairs) == len(words) else None


def _format_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _format_value(key)


def _format_value(value: Any) -> str:
    """Write a value in TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_format_value, value))}]"
    if isinstance(value, str):
        # JSON escapes what TOML does, but for the last character of ASCII.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
