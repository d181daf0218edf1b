"""Running the cells of a notebook in this process, and showing what each ends with."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook that has run: its names, and what its cells showed."""

    names: dict[str, Any]
    shown: list[Any] = field(default_factory=list)


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Read the cells of a notebook."""
    cells: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"]
    return cells


def run_notebook(path: Path) -> Notebook:
    """Run all cells as Jupyter does, with the representations that it would ask for."""
    notebook = Notebook({"__name__": "__main__"})
    for number, cell in enumerate(read_cells(path), start=1):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        where = f"{path.name}, cell {number}"
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), notebook.names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), notebook.names)
            if value is not None:
                show(value)
                notebook.shown.append(value)
    return notebook


def show(value: Any) -> None:
    """Make what a notebook would show; raise whatever its methods raise."""
    for method in ("_repr_mimebundle_", "_repr_html_", "_repr_png_"):
        if hasattr(value, method):
            assert getattr(value, method)()
            return
    assert repr(value)
