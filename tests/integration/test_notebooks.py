"""The notebooks among the examples run, and show what they speak of."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from support.notebooks import read_cells, run_notebook

import cnatool

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("MNIST", raising=False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_kept_without_outputs(path: Path) -> None:
    """Whoever runs them makes their own; a change of a line is then a line."""
    cells = read_cells(path)
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_tour() -> None:
    pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("vl_convert", reason="vl-convert is not installed")
    tour = run_notebook(EXAMPLES / "tour.ipynb")
    kinds = {type(value).__name__ for value in tour.shown}
    assert {"Store", "Split", "Image", "ScoreResult", "LayerScores"} <= kinds
    assert {"Trajectory", "Study", "Dataset"} <= kinds
    study, score = tour.names["study"], tour.names["score"]
    assert (study.result.networks, study.result.clusters) == (16, 4)
    assert score.splits["test"].accuracy > 0.95
    relu = tour.names["test"].activations("relu")[:]
    labels = tour.names["test"].labels[:]
    expected = relu.mean((2, 3))[labels == 3].mean(0)
    assert tour.names["means"].sel(label=3).values == pytest.approx(expected, rel=1e-4)


# Of PyTorch's exporter.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_training_to_cna() -> None:
    for module in ("torch", "onnxscript", "vl_convert"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    notebook = run_notebook(EXAMPLES / "mnist.ipynb")
    steps = notebook.names["trajectory"].steps
    assert steps["step"].to_list() == [0, 80, 400, 2000]
    accuracies = steps["test.accuracy"].to_list()
    assert accuracies[0] < 0.3
    assert accuracies[-1] > 0.9
    stores = notebook.names["stores"]
    assert notebook.names["accuracy"] == cnatool.score(stores[-1]).splits["train"].accuracy
    with pytest.raises(cnatool.MetricError, match="only statistics"):
        stores[0].splits["test"].activations(stores[0].tensors[0].name)
