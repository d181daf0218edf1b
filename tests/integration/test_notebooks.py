"""The notebooks of the examples run from top to bottom, and say what is so."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

import cnatool

EXAMPLES = Path(__file__).parents[2] / "examples"
MNIST = EXAMPLES.parents[1] / "shared" / "data" / "mnist"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def execute(path: Path, folder: Path) -> tuple[dict[str, Any], list[Any], str]:
    """Run all cells in a folder; return their names, the values they show, and what they print."""
    names: dict[str, Any] = {"__name__": "notebook"}
    shown, printed = [], io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        for cell in read(path)["cells"]:
            if cell["cell_type"] != "code":
                continue
            text = "".join(cell["source"])
            tree = ast.parse(text)
            last = tree.body[-1]
            value = isinstance(last, ast.Expr) and not text.endswith(";")
            body = ast.Module(tree.body[:-1] if value else tree.body, [])
            exec(compile(body, cell["id"], "exec"), names)
            if value and isinstance(last, ast.Expr):
                code = compile(ast.Expression(last.value), cell["id"], "eval")
                shown.append(eval(code, names))
    shown = [value for value in shown if value is not None]
    return names, shown, printed.getvalue()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_printed(path: Path) -> None:
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len({*ids}) == len(ids)
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_tour(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="vl-convert is not installed")
    names, shown, printed = execute(EXAMPLES / "tour.ipynb", tmp_path)
    store = cnatool.open(tmp_path / "tour/adam.zarr")
    assert [type(value) for value in shown[:2]] == [cnatool.Store, tuple]
    result = cnatool.score(store)
    for name, split in result.splits.items():
        assert f"{name}: accuracy {split.accuracy:.3f}, CNA {split.cna.value:.3f}" in printed
    assert sorted(names["trajectory"].steps["run"].unique()) == ["noisy-labels", "sgd"]
    # What the last section claims.
    assert {"test.cna", "cna_margin", "train.accuracy"} <= {
        line.partition(":")[0] for line in printed.splitlines()
    }
    assert names["wrong"].height > 0


# Of PyTorch's exporter.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}")
def test_mnist(tmp_path: Path) -> None:
    for module in ("torch", "onnxscript", "vl_convert"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    (tmp_path / "mnist").symlink_to(MNIST)
    names, _, _ = execute(EXAMPLES / "mnist.ipynb", tmp_path)
    steps = names["trajectory"].steps
    assert steps["step"].to_list() == list(range(0, names["step"] + 1, 100))
    assert steps["test.accuracy"][0] < 0.3
    assert steps["test.accuracy"][-1] > 0.9
    assert names["comparison"].same
