"""The page of errors: every class with its exit code, and the messages in the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from text import escape

import cnatool
from cnatool import errors

_PACKAGE = Path(cnatool.__file__).parent
_TITLE = """# Errors

Every error is one short message: what is wrong, where (file, tensor, row), and what to do. In \
Python it is an exception of one of the classes below, all of which derive from \
`cnatool.CnatoolError`; on the command line it is printed after `cnatool:`, and the command ends \
with the exit code of its class. A message that begins with *this is a bug in cnatool* is one: \
please report it, with the traceback that `cnatool --debug …` prints.

Nothing that was committed is lost by an error: a dump, a study or a merge continues where it \
stopped, [as the page about the store says](store.md#what-survives-what).

Search this page for words of a message. Parts that vary are in *italics*, or … if they are \
longer, and do not affect the order. Messages name parameters as Python does, like `inputs_from`; \
the command line names its options instead, like `--inputs-from`.

"""
_SKIPPED = {"CnatoolError"}


def describe_errors() -> str:
    """Describe each class of errors, with the forms of its messages."""
    messages = _find_messages()
    parts = [_TITLE]
    classes = [each for each in vars(errors).values() if _is_error(each)]
    for each in classes:
        name, code = each.__name__, each.exit_code
        parts.append(f"- [`{name}`](#{name.lower()}), exit code {code}: {inspect.getdoc(each)}\n")
    for each in classes:
        bases = ", ".join(f"`{base.__name__}`" for base in each.__bases__)
        forms = sorted(messages[each.__name__], key=lambda form: (_list_words(form), form))
        parts.append(
            f"\n## {each.__name__}\n\n{inspect.getdoc(each)} Exit code {each.exit_code}; derives "
            f"from {bases}.\n\n" + "".join(f"- {form}\n" for form in forms)
        )
    parts.append(
        "\n## StoreWarning\n\n"
        f"{inspect.getdoc(errors.StoreWarning)} It is a warning, not an error: the command "
        "continues.\n"
    )
    return "".join(parts)


def _is_error(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, errors.CnatoolError)
        and value.__name__ not in _SKIPPED
    )


def _list_words(form: str) -> list[str]:
    """List the words that every message of a form has, by which a reader finds it."""
    return re.findall(r"\w+", re.sub(r"\*[^*]+\*", " ", form).lower())


def _find_messages() -> dict[str, set[str]]:
    """Find the forms of messages by class; those that a function composes are not among them."""
    found: dict[str, set[str]] = {
        name: set() for name, value in vars(errors).items() if _is_error(value)
    }
    for path in sorted(_PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                forms = found.get(node.func.id, set())
                forms.update(_list_forms(node.args[0]))
    return found


def _list_forms(node: ast.expr) -> Iterator[str]:
    """Yield the forms of a message, in Markdown; a choice has one for each case."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield escape(node.value)
    elif isinstance(node, ast.IfExp):
        yield from _list_forms(node.body)
        yield from _list_forms(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        text = "".join(map(_format_part, node.values))
        # A form in which little is said in words is not one to be found by.
        if sum(character.isalpha() for character in text) > 20:
            yield text


def _format_part(part: ast.expr) -> str:
    """Write a part of a message: its text, or what stands for a value."""
    if isinstance(part, ast.Constant):
        return escape(str(part.value)).replace("\n", " ")
    value = part.value if isinstance(part, ast.FormattedValue) else part
    while isinstance(value, ast.Call) and len(value.args) == 1:
        value = value.args[0]
    if isinstance(value, ast.Attribute):
        return f"*{value.attr.strip('_').replace('_', ' ')}*"
    if isinstance(value, ast.Name):
        return f"*{value.id.strip('_').replace('_', ' ')}*"
    return "…"
