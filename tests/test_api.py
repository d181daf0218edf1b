from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest
from support.command import python

import cnatool


def test_public_names() -> None:
    names = """
        BackendError Batch Batches CnatoolError Comparison DataError Drift DriftResult Flatness
        Landscape LandscapeResult Layer LayerScores MetricError ModelError NotAStoreError
        Observer Preflight Ragged RaggedArray Recording Report ScoreResult Split Store
        StoreAccessError StoreDamagedError StoreInUseError StoreVersionError StoreWarning
        StoreWriteError StoredArray Study StudyResult Trajectory TrajectoryResult Units
        UnitsResult UsageError Verification __version__ compare convert create_store drift dump
        landscape merge open plot preflight report score score_layers score_samples study
        trajectory units verify
    """
    assert sorted(cnatool.__all__) == names.split()
    for name in cnatool.__all__:
        assert getattr(cnatool, name).__doc__
    assert set(dir(cnatool)) >= set(cnatool.__all__)


def test_type_checkers_see_the_names_of_the_table() -> None:
    tree = ast.parse(Path(cnatool.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname: (str(node.module).removeprefix("cnatool."), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    spelled = cnatool._SPELLED
    assert imported == {
        name: (module, spelled.get(name, name)) for name, module in cnatool._MODULES.items()
    }
    # Each is imported from where it is, not by way of another module.
    for name, (module, attribute) in imported.items():
        value = getattr(import_module(f"cnatool.{module}"), attribute)
        assert getattr(value, "__module__", f"cnatool.{module}") == f"cnatool.{module}", name


def test_names_are_functions_whatever_was_imported_before() -> None:
    import cnatool.dumping.dump
    import cnatool.dumping.preflight
    import cnatool.scoring.score
    import cnatool.studying.study

    assert callable(cnatool.study)
    assert callable(cnatool.dump)
    assert callable(cnatool.preflight)
    assert callable(cnatool.score)


def test_no_such_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cnatool.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import cnatool", ["numpy", "zarr", "h5py", "onnx", "onnxruntime", "polars", "typer"]),
        (
            "from cnatool import score, open",
            ["zarr", "h5py", "onnx", "onnxruntime", "torch", "polars", "PIL", "scipy"],
        ),
        ("from cnatool import dump", ["h5py", "torch", "tensorflow", "polars", "PIL", "scipy"]),
        (
            "from cnatool.cli import app",
            ["numpy", "scipy", "zarr", "h5py", "onnx", "onnxruntime", "polars", "altair"],
        ),
        (
            "from cnatool.cli.tables import inspect, score",
            ["onnx", "onnxruntime", "zarr", "h5py", "polars", "scipy"],
        ),
    ],
)
def test_import_loads_no_more_than_it_needs(statement: str, absent: list[str]) -> None:
    code = f"{statement}\nimport sys\nprint([n for n in {absent!r} if n in sys.modules])"
    result = python(code)
    assert result.strip() == "[]"


def test_every_error_has_an_exit_code_and_a_docstring() -> None:
    codes = {
        name: getattr(cnatool, name).exit_code for name in cnatool.__all__ if name.endswith("Error")
    }
    assert codes == {
        "BackendError": 4,
        "CnatoolError": 2,
        "DataError": 2,
        "MetricError": 2,
        "ModelError": 2,
        "NotAStoreError": 2,
        "StoreDamagedError": 3,
        "StoreInUseError": 3,
        "StoreVersionError": 2,
        "StoreAccessError": 3,
        "StoreWriteError": 3,
        "UsageError": 2,
    }
