from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import scipy.stats
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from support.command import python, refused, run, script
from support.exporter import keep_operators
from support.notes import Notes

import cnatool
from cnatool.cli.tables.demo import print_correlations, print_networks
from cnatool.demo import MEASURES, DemoRow, correlate_measures, run_demo
from cnatool.metrics.estimate import Cna

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(cnatool.__file__).parent / "demo" / "data"
NETWORKS = sorted((DATA / "networks").glob("*.onnx"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[DemoRow], Notes]:
    recorder = Notes()
    return run_demo(tmp_path_factory.mktemp("demo"), recorder), recorder


@pytest.fixture
def rows(demo: tuple[list[DemoRow], Notes]) -> list[DemoRow]:
    return demo[0]


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def digits(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with np.load(DATA / "digits" / f"{split}.npz", allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def outputs(
    model: Path, pictures: NDArray[np.uint8], tensors: list[str] | None
) -> list[NDArray[np.float32]]:
    feed = pictures[:, None].astype(np.float32) / np.float32(255)
    evaluator = ReferenceEvaluator(str(model))
    return list(evaluator.run(tensors, {evaluator.input_names[0]: feed}))


def test_the_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    source, classes = datasets.load_digits(return_X_y=True)
    parts = [digits("train"), digits("test")]
    assert [(x.shape, x.dtype.name, y.dtype.name) for x, y in parts] == [
        ((1297, 8, 8), "uint8", "int64"),
        ((500, 8, 8), "uint8", "int64"),
    ]
    pictures = np.concatenate([x for x, _ in parts]).reshape(-1, 64)
    labels = np.concatenate([y for _, y in parts])
    # 255 levels hold 16 without loss, so every sample can be found again: each once.
    found = np.column_stack([np.rint(pictures / 255 * 16), labels])
    expected = np.column_stack([source, classes])
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
    assert set(np.unique(pictures)) == {round(v * 255 / 16) for v in range(17)}


def test_the_conversion_writes_the_shipped_bytes(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    script(EXAMPLES / "convert_digits.py", "--output", tmp_path, cwd=tmp_path)
    for split in ("train", "test"):
        path, shipped = tmp_path / f"{split}.npz", DATA / "digits" / f"{split}.npz"
        with np.load(path, allow_pickle=False) as arrays:
            pictures, labels = digits(split)
            assert arrays["x"].tobytes() == pictures.tobytes()
            assert arrays["y"].tobytes() == labels.tobytes()
        # Other implementations of zlib compress to other bytes.
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:
            assert path.read_bytes() == shipped.read_bytes()


def test_the_networks_are_small_and_say_nothing_but_the_graph() -> None:
    assert sum(path.stat().st_size for path in NETWORKS) < 1_200_000
    assert len({path.read_bytes() for path in NETWORKS}) == len(NETWORKS) == 36
    for path in NETWORKS:
        model = onnx.load(path, load_external_data=False)
        assert model.opset_import[0].version >= 17
        assert not any(weights.external_data for weights in model.graph.initializer)
        (batch, *shape) = model.graph.input[0].type.tensor_type.shape.dim
        assert batch.dim_param
        assert [dim.dim_value for dim in shape] == [1, 8, 8]
        parts = (model, model.graph, *model.graph.node, *model.graph.value_info)
        assert not any(part.metadata_props or part.doc_string for part in parts)


def test_one_row_a_network_run_by_run(rows: list[DemoRow]) -> None:
    assert [f"{row.run}-epoch{row.epoch:03}" for row in rows] == [p.stem for p in NETWORKS]
    for row in rows:
        store = cnatool.open(row.store)
        assert store.record.tags["run"] == row.run
        assert store.record.tags["epoch"] == str(row.epoch)
        assert row.score.convention.name == "paper"
        assert (row.train.samples, row.test.samples) == (1297, 500)


def test_accuracies_are_those_of_another_runtime(rows: list[DemoRow]) -> None:
    for number, (row, model) in enumerate(zip(rows, NETWORKS, strict=True)):
        if row.run == "conv" and number % 4:
            continue
        accuracies = {"train": row.train.accuracy, "test": row.test.accuracy}
        # That runtime takes long over convolutions; some networks see more pictures.
        for split in ("test", "train") if number % 4 == 0 else ("test",):
            pictures, labels = digits(split)
            (logits,) = outputs(model, pictures, None)
            # Rounding may turn one picture whose best two classes are all but equal.
            assert accuracies[split] == pytest.approx(
                (logits.argmax(1) == labels).mean(), abs=1.5 / len(labels)
            )


@pytest.mark.parametrize("run", ["adam", "conv", "noisy-labels", "sgd"])
def test_cna_is_that_of_a_few_lines_of_numpy(rows: list[DemoRow], run: str) -> None:
    row = [row for row in rows if row.run == run][-1]
    model = DATA / "networks" / f"{row.store.stem}.onnx"
    pictures, _ = digits("test")
    alpha = [scipy.stats.entropy(np.bincount(p.ravel()), base=2) for p in pictures]
    layers = outputs(model, pictures, [layer.name for layer in row.score.layers])
    assert len(layers) == 3
    sums = [layer.reshape(len(pictures), -1).sum(1, dtype=np.float64) for layer in layers]
    beta = np.polyfit([1, 2, 3], sums, 1)[0]
    assert row.test.cna.value == pytest.approx(np.corrcoef(alpha, beta)[0, 1], abs=1e-6)


def test_one_progress_for_all_networks(demo: tuple[list[DemoRow], Notes]) -> None:
    recorder = demo[1]
    done = [done for _, done, _ in recorder.done]
    assert recorder.texts == []
    assert {(name, rows) for name, _, rows in recorder.done} == {("36 networks", 36 * 1797)}
    assert done == sorted(done)
    assert done[-1] == 36 * 1797


def test_correlations_are_scipys(rows: list[DemoRow]) -> None:
    found = correlate_measures(rows)
    runs = [None, "adam", "conv", "noisy-labels", "sgd"]
    assert [(one.measure, one.run) for one in found] == [(m, r) for m in MEASURES for r in runs]
    for one in found:
        group = [row for row in rows if one.run in (None, row.run)]
        values = [MEASURES[one.measure](row).value for row in group]
        accuracies = [row.test.accuracy for row in group]
        assert one.networks == len(group)
        assert one.pearson.value == pytest.approx(scipy.stats.pearsonr(values, accuracies)[0])
        assert one.spearman.value == pytest.approx(scipy.stats.spearmanr(values, accuracies)[0])


def test_what_is_undefined_is_left_out_and_said(
    rows: list[DemoRow], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = rows[-9:]
    for place in range(8):
        splits = dict(broken[place].score.splits)
        splits["test"] = msgspec.structs.replace(
            splits["test"], cna=Cna(None, reason="β is the same for all 500 samples")
        )
        score = msgspec.structs.replace(broken[place].score, splits=splits)
        broken[place] = DemoRow("sgd", broken[place].epoch, broken[place].store, score)
    found = correlate_measures(broken)
    print_networks(broken)
    print_correlations(broken, found)
    printed = capsys.readouterr().out
    (one,) = (one for one in found if one.measure == "CNA test" and one.run == "sgd")
    assert (one.networks, one.pearson.value, one.spearman.value) == (1, None, None)
    assert "CNA test of sgd-epoch000: β is the same for all 500 samples" in printed
    assert "Spearman, CNA test, sgd: a correlation needs at least two samples" in printed
    assert "CNA test, sgd: defined for n = 1 only" in printed
    assert "nan" not in printed


def test_importing_the_demo_imports_no_runtime(tmp_path: Path) -> None:
    code = "import sys, cnatool.demo; print({'onnx', 'onnxruntime', 'zarr'} & set(sys.modules))"
    assert python(code, cwd=tmp_path) == "set()\n"


# A few networks of each run do: others run all of them.
FEW = [path for path in NETWORKS if path.stem.endswith(("000", "005", "040"))]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The files of the demo with few networks."""
    data = tmp_path / "package" / "data"
    shutil.copytree(DATA / "digits", data / "digits")
    (data / "networks").mkdir()
    for path in FEW:
        shutil.copy(path, data / "networks")
    return data.parent


def test_the_command_prints_a_row_a_network_and_leaves_nothing(
    rows: list[DemoRow], package: Path, tmp_path: Path
) -> None:
    here, temporary, home = tmp_path / "here", tmp_path / "temporary", tmp_path / "home"
    for folder in (here, temporary, home):
        folder.mkdir()
    # In a process of its own, which finds its temporary folder anew.
    environment = os.environ | {
        "PYTHONIOENCODING": "utf-8",
        "TMPDIR": str(temporary),
        "HOME": str(home),
    }
    code = (
        "import pathlib, sys, cnatool.demo\n"
        "from cnatool.cli import main\n"
        f"cnatool.demo.files = lambda name: pathlib.Path({str(package)!r})\n"
        "sys.argv[1:] = ['demo']\n"
        "main()"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    # Run, epoch, and seven numbers.
    cells = [line.split() for line in done.stdout.splitlines()]
    table = [row for row in cells if len(row) == 9 and row[1].isdigit()]
    assert [row[:4] for row in table] == [
        [row.run, str(row.epoch), f"{row.train.accuracy:.3f}", f"{row.test.accuracy:.3f}"]
        for row in rows
        if row.store.stem in {path.stem for path in FEW}
    ]
    assert "convention paper" in done.stdout
    assert done.stdout.endswith("cnatool score STORE.zarr\n")
    assert len(done.stderr.splitlines()) < 20
    # Neither the command nor the runtime under it, some builds of which keep files of their own.
    assert [*here.iterdir(), *temporary.iterdir(), *home.iterdir()] == []


def test_output_keeps_the_stores_and_replaces_only_them(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnatool.demo.files", lambda name: package)
    first = run("demo", "-o", "a folder/stores", cwd=tmp_path)
    folder = tmp_path / "a folder" / "stores"
    assert sorted(path.stem for path in folder.iterdir()) == [path.stem for path in FEW]
    (shown,) = re.findall(r"cnatool score '(a folder/.*)'", first.stdout)
    run("score", shown, cwd=tmp_path)
    (folder / "note.txt").write_text("mine")
    run("demo", "-o", folder, cwd=tmp_path)
    assert (folder / "note.txt").read_text() == "mine"
    assert len(list(folder.iterdir())) == len(FEW) + 1


def test_output_that_is_taken_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    foreign = tmp_path / "stores" / "sgd-epoch040.zarr"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("mine")
    assert "sgd-epoch040.zarr is not a cnatool store" in refused(
        "demo", "-o", "stores", cwd=tmp_path
    )
    assert list(foreign.parent.iterdir()) == [foreign]
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]

    message = refused("demo", "-o", foreign / "thesis.txt", cwd=tmp_path)
    assert "not a folder. Name another path." in message


@pytest.mark.skipif(
    find_spec("torch") is None or find_spec("onnxscript") is None, reason="needs PyTorch"
)
@pytest.mark.filterwarnings("ignore")
def test_the_training_script_writes_networks_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    keep_operators()
    deterministic = torch.are_deterministic_algorithms_enabled()
    # Only what is trained is exported, which takes long.
    trainer = imported(EXAMPLES / "train_demo_networks.py", monkeypatch)
    monkeypatch.setattr(trainer, "EPOCHS", (1,))
    monkeypatch.setattr(sys, "argv", ["train", "--until", "1", "--output", str(tmp_path)])
    try:
        trainer.main()
    finally:
        torch.use_deterministic_algorithms(deterministic)
    models = sorted(tmp_path.iterdir())
    assert [path.name for path in models] == [
        f"{run}-epoch001.onnx" for run in ("adam", "conv", "noisy-labels", "sgd")
    ]
    pictures, _ = digits("test")
    for model in models:
        assert b".py" not in model.read_bytes()
        (logits,) = outputs(model, pictures, None)
        assert logits.shape == (500, 10)
        assert np.isfinite(logits).all()
