"""Parameters that the library names in backquotes, as options of the command that runs."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from cnatool._util.text import quote_for_shell

if TYPE_CHECKING:
    from collections.abc import Iterator

# A name, a keyword argument or a call in backquotes. Beside a quote, a slash or a letter, a
# backquote belongs to a name from a file.
_QUOTED = re.compile(
    r"(?<![\w'\"/`=])`(?:cnatool\.)?([a-z]\w*(?:\.[a-z]\w*)?)(?:=([^`\n]+)|\(([^`\n]*)\))?`"
    r"(?![\w'\"/`]|\.\w)"
)
# Characters that a shell interprets.
_SPECIAL = re.compile(r"[\s!*?$'\"\\;&\[\](){}|<>#~`]")
_SET = "--set"
# Functions that are no commands of their own, as the commands that do the same.
_FUNCTIONS = {"score_samples": "`cnatool score STORE --samples FILE.csv`"}

_running: list[Any] = []


def run_in(context: Any) -> None:
    """Rewrite parameters as options of this context's command from now on."""
    _running[:] = [context]


def running_context() -> Any:
    """Return the context of the command that runs; None before there is one."""
    return _running[0] if _running else None


def with_options(text: str) -> str:
    """Replace parameters in backquotes by the options that set them.

    ```inputs_from=STORE``` becomes ``--inputs-from STORE``, ```strict=True``` becomes ``--strict``,
    a positional parameter its name in the help, and ```dump(resume=True)``` becomes
    ```cnatool dump --resume```. A parameter that the running command lacks is looked up among the
    fields of a convention and in the other commands; a name that none of them has stays.
    """
    return _QUOTED.sub(_rewrite, text) if _running and "`" in text else text


def _rewrite(quoted: re.Match[str]) -> str:
    context, (name, value, call) = _running[0], quoted.groups()
    if name in _FUNCTIONS and value is None and call is None:
        return _FUNCTIONS[name]
    root = context.find_root().command
    if call is not None:
        command = _find_command(root, name)
        return quoted[0] if command is None else _format_call(command, name, call)
    parameter = _find_parameter(context.command, name)
    if parameter is None and _find_parameter(context.command, "overrides") is not None:
        parameter = _find_field(name)
    if parameter is None:
        others = (_find_parameter(command, name) for command in _iterate_commands(root))
        parameter = next(filter(None, others), None) or _find_field(name)
    if parameter is None:
        return quoted[0]
    return (
        f"{_SET} {name}"
        if parameter == _SET and value is None
        else _format_option(parameter, value, name)
    )


def _find_command(group: Any, name: str) -> Any:
    """Return the command that a function of the library is; None if there is none."""
    command = group.commands.get(name)
    return None if hasattr(command, "commands") else command


def _iterate_commands(group: Any) -> Iterator[Any]:
    """Yield the commands of a group, `dump` first, which has most of the parameters.

    A command is made when its turn comes, which takes a moment.
    """
    for name in sorted(group.commands, key=lambda name: name != "dump"):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _iterate_commands(command)
        else:
            yield command


def _find_parameter(command: Any, name: str) -> Any:
    attribute = name.replace(".", "_")
    return next((option for option in command.params if option.name.rstrip("_") == attribute), None)


def _find_field(name: str) -> str | None:
    """Return the option that sets fields of a convention, if this is one of them."""
    from cnatool.metrics.convention import ConventionFields

    return _SET if name in ConventionFields.__struct_fields__ else None


def _format_option(parameter: Any, value: str | None, name: str) -> str:
    """Write a parameter and its value as they are typed in a shell."""
    if parameter == _SET:
        return " ".join(
            f"{_SET} {name}={word}" for word in _format_value(value or "", separator=":")
        )
    if parameter.param_type_name == "argument":
        spelling = parameter.metavar or parameter.name.upper()
    else:
        spelling = next(
            (flag for flag in parameter.opts if flag.startswith("--")), parameter.opts[0]
        )
    if value is None or getattr(parameter, "is_flag", False):
        return str(spelling)
    separator = "x" if "HxW" in (parameter.metavar or "") else ","
    return " ".join(f"{spelling} {word}" for word in _format_value(value, separator))


def _format_value(text: str, separator: str) -> list[str]:
    """Convert a value in Python's syntax to words as typed in a shell, one per item."""
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return [text]

    def word(item: Any) -> str:
        if isinstance(item, ast.Tuple):
            return separator.join(map(word, item.elts))
        if isinstance(item, ast.Constant) and isinstance(item.value, bool):
            return str(item.value).lower()
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            return item.value
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute):
            # An array: np.full((1, N, 6), 0) is 0:1xNx6, and np.load('FILE.npy') is FILE.npy.
            source, *values = item.args
            if item.func.attr == "full" and isinstance(source, ast.Tuple):
                return f"{word(values[0])}:{'x'.join(map(word, source.elts))}"
            if item.func.attr == "load":
                return word(source)
        return ast.get_source_segment(text, item) or text

    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        words = [f"{word(key)}={word(value)}" for key, value in pairs]
    elif isinstance(node, ast.List):
        words = [word(item) for item in node.elts]
    else:
        words = [word(node)]
    return [quote_for_shell(text) if _SPECIAL.search(text) else text for text in words]


def _format_call(command: Any, name: str, arguments: str) -> str:
    """Convert a call of a public function to the command of that name."""
    try:
        call: Any = ast.parse(f"f({arguments})", mode="eval").body
    except SyntaxError:
        return f"`cnatool {name}`"
    source = f"f({arguments})"
    words = [f"cnatool {name}"]
    for item in call.args:
        text = ast.get_source_segment(source, item) or ""
        words += ["…"] if text == "..." else _format_value(text, ",")
    for keyword in call.keywords:
        parameter = _find_parameter(command, str(keyword.arg))
        if parameter is not None:
            words.append(
                _format_option(
                    parameter, ast.get_source_segment(source, keyword.value), str(keyword.arg)
                )
            )
    return f"`{' '.join(words)}`"
