"""The reference of the public Python API, from signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from text import escape

import cnatool

_PACKAGE = Path(cnatool.__file__).parent
_TITLE = """# Python

Everything public is in `cnatool`, and the recorders in `cnatool.recorders`. A module is imported \
when one of its names is first used, so reading and scoring a store does not load ONNX Runtime. \
Arguments have the names of the options of the [command line](cli.md): `batch_size` is \
`--batch-size`. Errors have [a page of their own](errors.md).

"""
# The public names by subject, in the order in which a newcomer meets them.
_GROUPS = {
    "Dumping": ("dump", "preflight", "merge", "Preflight"),
    "Stores": (
        "open",
        "Store",
        "Split",
        "StoredArray",
        "RaggedArray",
        "Ragged",
        "Batches",
        "Batch",
        "convert",
        "verify",
        "Verification",
    ),
    "Scores": (
        "score",
        "score_samples",
        "score_layers",
        "compare",
        "drift",
        "units",
        "ScoreResult",
        "LayerScores",
        "Comparison",
        "Drift",
        "DriftResult",
        "Units",
        "UnitsResult",
    ),
    "Many networks": (
        "study",
        "trajectory",
        "landscape",
        "Study",
        "StudyResult",
        "Trajectory",
        "TrajectoryResult",
        "Landscape",
        "LandscapeResult",
    ),
    "Pictures": ("report", "plot", "Report"),
    "Writing stores": ("create_store", "Recording", "Layer", "Flatness", "Observer"),
}
_ELSEWHERE = {"__version__"} | {
    name for name in cnatool.__all__ if name.endswith(("Error", "Warning"))
}
# Modules that need a framework are read, not imported.
_RECORDERS = {
    "cnatool.recorders.torch.Recorder": "recorders/torch/recorder.py",
    "cnatool.recorders.torch.record": "recorders/torch/recorder.py",
    "cnatool.recorders.torch.Checkpoints": "recorders/torch/checkpoints.py",
    "cnatool.recorders.lightning.store_callback": "recorders/lightning.py",
    "cnatool.recorders.keras.Recorder": "recorders/keras/recorder.py",
    "cnatool.recorders.keras.record": "recorders/keras/recorder.py",
    "cnatool.recorders.keras.store_callback": "recorders/keras/recorder.py",
}
_RULE = re.compile(r"^-{3,}$")
# In docstrings a name in single backticks is a reference, and text in double ones a value.
_PUBLIC = re.compile(r"(?<!`)`((?:cnatool\.)?\w+)`(?!`)")
# Marks references until both are in single ones.
_REFERENCE = "\0"
_MARKED = re.compile(f"`{_REFERENCE}((?:cnatool\\.)?(\\w+))`")
_WIDTH = 88


def describe_api() -> str:
    """Describe every public name."""
    grouped = {name for names in _GROUPS.values() for name in names}
    left = {*cnatool.__all__} - grouped - _ELSEWHERE
    if left:
        raise SystemExit(f"docs/tools/api_reference.py: no group has {', '.join(sorted(left))}")
    parts = [_TITLE]
    for title, names in _GROUPS.items():
        parts.append(f"## {title}\n\n")
        parts += [_describe(f"cnatool.{name}", getattr(cnatool, name)) for name in names]
    parts.append("## Recorders\n\n[Recorders](recorders.md) explains how to use them.\n\n")
    parts += [_describe_source(name, path) for name, path in _RECORDERS.items()]
    return "".join(parts).rstrip() + "\n"


def _describe(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        call = _format_call(name, _list_parameters(value))
        return _section(name, call, inspect.getdoc(value) or "")
    members = []
    for member, attribute in vars(value).items():
        target = attribute.fget if isinstance(attribute, property) else attribute
        if member.startswith("_") or not inspect.isfunction(target) or not target.__doc__:
            continue
        parameters = None if isinstance(attribute, property) else _list_parameters(target)
        members.append((member, parameters, inspect.cleandoc(target.__doc__)))
    return _section(f"class {name}", "", inspect.getdoc(value) or "") + _describe_members(
        name, members
    )


def _describe_source(name: str, path: str) -> str:
    tree = ast.parse((_PACKAGE / path).read_text(encoding="utf-8"))
    wanted = name.rpartition(".")[2]
    node = next(each for each in tree.body if getattr(each, "name", None) == wanted)
    if isinstance(node, ast.FunctionDef):
        return _section(name, _format_call(name, _read_parameters(node)), ast.get_docstring(node))
    assert isinstance(node, ast.ClassDef)
    members = [
        (each.name, None if _is_property(each) else _read_parameters(each), docstring)
        for each in node.body
        if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")
        if (docstring := ast.get_docstring(each))
    ]
    return _section(f"class {name}", "", ast.get_docstring(node)) + _describe_members(name, members)


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(each).endswith("property") for each in node.decorator_list)


def _describe_members(name: str, members: Sequence[tuple[str, list[str] | None, str]]) -> str:
    """List methods and properties; those with more than a summary have a section each."""
    rows, sections = [], []
    for member, parameters, docstring in members:
        summary, _, more = docstring.partition("\n\n")
        call = "" if parameters is None else f"({', '.join(parameters)})"
        shown = f"`{member}{call}`"
        if more:
            full = f"{name}.{member}"
            shown = f"[`{member}`](#{full.replace('.', '').lower()})"
            whole = "" if parameters is None else _format_call(full, parameters)
            sections.append(_section(full, whole, docstring, level=4))
        rows.append(f"- {shown}: {_markdown(' '.join(summary.split()))}\n")
    if not rows:
        return ""
    return f"**Methods and properties**\n\n{''.join(rows)}\n{''.join(sections)}"


def _section(name: str, call: str, docstring: str | None, level: int = 3) -> str:
    code = f"```text\n{call}\n```\n\n" if call else ""
    return f"{'#' * level} {name}\n\n{code}{''.join(_format_docstring(docstring or ''))}"


def _list_parameters(function: Any) -> list[str]:
    """List the parameters of a function with their defaults, and the star before keywords."""
    empty = inspect.Parameter.empty
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=empty) for each in signature.parameters.values()]
    kept = [each for each in parameters if each.name != "self"]
    first = next((i for i, each in enumerate(kept) if each.kind is each.KEYWORD_ONLY), None)
    words = [str(each) for each in kept]
    return words if first is None else [*words[:first], "*", *words[first:]]


def _read_parameters(node: ast.FunctionDef) -> list[str]:
    """List the parameters of a function in source, as `_list_parameters` does."""
    arguments = node.args
    arguments.args = [each for each in arguments.args if each.arg != "self"]
    for each in (*arguments.args, *arguments.kwonlyargs, arguments.kwarg):
        if each is not None:
            each.annotation = None
    keywords = ast.arguments([], [], None, arguments.kwonlyargs, arguments.kw_defaults, None, [])
    words = [each.arg for each in arguments.args]
    if arguments.kwonlyargs:
        words += ["*", *ast.unparse(keywords).removeprefix("*, ").split(", ")]
    return words if arguments.kwarg is None else [*words, f"**{arguments.kwarg.arg}"]


def _format_call(name: str, parameters: list[str]) -> str:
    """Write a call, on several lines where one is too short."""
    line = f"{name}({', '.join(parameters)})"
    if len(line) <= _WIDTH:
        return line
    lines = textwrap.wrap(", ".join(parameters), _WIDTH - 4, break_on_hyphens=False)
    return f"{name}(\n" + "".join(f"    {line}\n" for line in lines) + ")"


def _format_docstring(docstring: str) -> Iterator[str]:
    """Write a docstring of NumPy's style in Markdown."""
    lines = docstring.splitlines()
    bounds = [i for i in range(len(lines) - 1) if _RULE.match(lines[i + 1])] + [len(lines)]
    yield from _format_paragraphs(lines[: bounds[0]])
    for start, stop in pairwise(bounds):
        title, body = lines[start], lines[start + 2 : stop]
        yield f"**{title}**\n\n"
        if title == "Examples":
            code = "\n".join(body).replace("  # doctest: +SKIP", "").strip()
            yield f"```text\n{code}\n```\n\n"
        else:
            yield from _format_fields(body)


def _format_fields(lines: list[str]) -> Iterator[str]:
    """Write a list of parameters, attributes, results or errors."""
    fields: list[list[str]] = []
    for line in lines:
        if line and not line.startswith(" "):
            fields.append([line])
        elif fields:
            fields[-1].append(line.strip())
    for head, *text in fields:
        name, _, kind = head.partition(" : ")
        described = _markdown(" ".join(filter(None, text)))
        type_ = f" ({escape(kind.strip())})" if kind else ""
        yield f"- `{name}`{type_}{': ' * bool(described)}{described}\n"
    yield "\n"


def _format_paragraphs(lines: list[str]) -> Iterator[str]:
    for paragraph in "\n".join(lines).strip().split("\n\n"):
        if paragraph.strip():
            yield f"{_markdown(' '.join(paragraph.split()))}\n\n"


def _markdown(text: str) -> str:
    """Convert the markup of docstrings, with links to public names."""

    def link(match: re.Match[str]) -> str:
        name = match[2]
        if name not in cnatool.__all__ or name in _ELSEWHERE:
            return f"`{match[1]}`"
        # The heading of a class differs from that of the function of the same name.
        anchor = "class-" * name[0].isupper() + f"cnatool{name.lower()}"
        return f"[`cnatool.{name}`](#{anchor})"

    marked = _PUBLIC.sub(f"`{_REFERENCE}\\1`", text).replace("``", "`")
    return _MARKED.sub(link, escape(marked))
