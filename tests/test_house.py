"""The rules of the tree that no other tool checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cnatool

PACKAGE = Path(cnatool.__file__).parent
TESTS = Path(__file__).parent
TOP = {"__init__", "__main__", "_version", "errors", "schemas"}
# Public import paths, and a package whose function the command line and the tests call.
SPEAKING = {
    "__init__.py": "the public API",
    "recorders/torch/__init__.py": "the public import path of the recorders for PyTorch",
    "recorders/keras/__init__.py": "the public import path of the recorders for Keras",
    "cli/__init__.py": "the entry point, which answers signals before anything is imported",
    "demo/__init__.py": "the demo, beside its data",
}
# Folders of tests that belong to no single package.
APART = {"campaigns", "docs", "fixtures", "integration", "support"}
# Options of other programs, in advice to run them.
FOREIGN = {"--output", "--recursive", "--saved-model", "--scheduler-file", "--tflite"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Every module of the package, parsed."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def docstrings(tree: ast.Module) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def test_no_module_stands_at_the_top() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP


def test_packages_hold_a_docstring_only() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        inside = path.relative_to(PACKAGE).as_posix()
        body = ast.parse(path.read_text("utf-8")).body
        assert ast.get_docstring(ast.Module(body, [])), f"{inside} says nothing of its subject"
        assert len(body) == 1 or inside in SPEAKING, f"{inside} holds more than a docstring"


def test_names_are_exported_by_public_modules_only(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        names = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        inside = path.relative_to(PACKAGE).as_posix()
        assert "__all__" not in names or inside in SPEAKING, f"{inside} has __all__"


def test_modules_import_each_other_in_no_circle(trees: dict[Path, ast.Module]) -> None:
    """Imports for types count as well."""
    names = {
        ".".join(("cnatool", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in trees
    }
    imports: dict[str, set[str]] = {}
    for name, path in names.items():
        nodes = list(ast.walk(trees[path]))
        imports[name] = {
            imported
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module
            for imported in (node.module, *(f"{node.module}.{each.name}" for each in node.names))
            if imported in names
        }
    TopologicalSorter(imports).prepare()  # raises CycleError, which lists the modules


def test_tests_mirror_the_tree() -> None:
    for path in TESTS.rglob("test_*.py"):
        inside = path.parent.relative_to(TESTS)
        if inside.parts and inside.parts[0] not in APART:
            assert (PACKAGE / inside / "__init__.py").exists(), f"there is no package for {path}"


def test_docstrings_open_with_what_is_done(trees: dict[Path, ast.Module]) -> None:
    opened = {
        (path.relative_to(PACKAGE).as_posix(), text.splitlines()[0])
        for path, tree in trees.items()
        for text in docstrings(tree)
        if re.match(r"(Give|Say)\b", text)
    }
    assert opened == set()


def test_options_are_named_by_the_command_line_only(trees: dict[Path, ast.Module]) -> None:
    named = {
        (path.relative_to(PACKAGE).as_posix(), option)
        for path, tree in trees.items()
        if room(path) != "cli"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in OPTION.findall(node.value)
        if option not in FOREIGN
    }
    assert named == set()
