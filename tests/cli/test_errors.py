"""Bad input to the installed command: one message, the right exit code, nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command import COMMAND, refused, run
from support.dumps import command, make_data
from support.files import as_idx
from support.networks import Builder, mlp, saved

import cnatool
from cnatool.store.hdf5.journal import Journal


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return make_data(tmp_path)


def make_bad_files(folder: Path) -> None:
    (folder / "text.onnx").write_text("hello, this is no model")
    content = (folder / "net.onnx").read_bytes()
    for share in (20, 50, 90, 99.9):
        (folder / f"cut{share}.onnx").write_bytes(content[: int(len(content) * share / 100)])
    np.savez(folder / "large.npz", x=np.zeros((5, 9, 9), np.uint8))
    images = folder / "a-images-idx3-ubyte.gz"
    noise = np.random.default_rng(0).integers(0, 256, (500, 8, 8))
    content = gzip.compress(as_idx(noise))
    images.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("dump nothing.onnx data", "cnatool: nothing.onnx: no such model file."),
        ("inspect nothing.onnx", "no such model file"),
        ("dump net.onnx nothing", "no such file or folder: nothing"),
        ("dump net.onnx", "--split"),
        ("dump text.onnx data", "text.onnx is not an ONNX model"),
        *((f"dump cut{share}.onnx data", f"cut{share}.onnx") for share in (20, 50, 90, 99.9)),
        ("dump net.onnx large.npz", r"\(9, 9\).*\(64,\)"),
        ("dump net.onnx a-images-idx3-ubyte.gz -o s.zarr", "a-images-idx3-ubyte.gz"),
        ("dump net.onnx EMPTY", "DATA is empty"),
        ("dump net.onnx --split train=", "DATA is empty"),
        ("score data", "is not a cnatool store"),
        ("inspect data", "is not a cnatool store"),
        ("units net.onnx", "Write one first: `cnatool dump net.onnx DATA -o STORE.zarr`."),
        ("drift net.onnx", "net.onnx is a model, and this takes a store"),
        ("verify net.onnx", "net.onnx is a model, and this takes a store"),
        ("study net.onnx --strict", "net.onnx is a model, and this takes a store"),
        ("score nothing.zarr", "no such file or folder"),
    ],
)
def test_what_cannot_be_read(here: Path, words: str, text: str) -> None:
    make_bad_files(here)
    line = [word.replace("EMPTY", "") for word in words.split()]
    assert re.search(text, refused(*line, cwd=here))


def test_a_store_in_place_of_data(here: Path) -> None:
    for name in ("net.zarr", "net.h5"):
        run("dump", "net.onnx", "data", "-o", name, cwd=here)
    (here / "net.zarr").rename(here / "folder")
    for words in (["folder"], ["net.h5"], ["--split", "train=net.h5"]):
        message = refused("dump", "net.onnx", *words, "-o", "s.zarr", cwd=here)
        assert "is a store that cnatool wrote, not samples" in message
    assert "give net.h5::splits/SPLIT/inputs/0." in message
    words = ("net.onnx", "net.h5::splits/train/inputs/0", "-o", "s.zarr")
    run("dump", *words, cwd=here)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that takes no files")
def test_places_that_cannot_be_written(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    for words in (
        ["dump", "net.onnx", "data", "-o", "/proc/x.zarr"],
        ["dump", "net.onnx", "data", "-o", "/proc/x.h5"],
        ["convert", "net.zarr", "/proc/x.h5"],
        ["score", "net.zarr", "--samples", "/proc/x.csv"],
        ["score", "net.zarr", "--samples", "/proc/x.parquet"],
        ["demo", "-o", "/proc"],
    ):
        message = refused(*words, cwd=here, code=3)
        # Which of the two the system says depends on the user.
        why = "(No such file or directory|Permission denied)"
        what_to_do = "(Name|Choose) another (path|file)"
        assert re.search(rf" cannot be written: {why}\. {what_to_do}\.$", message)
    (here / "folder.csv").mkdir()
    message = refused("score", "net.zarr", "--samples", "folder.csv", cwd=here, code=3)
    assert message == ("cnatool: folder.csv cannot be written: Is a directory. Name another file.")
    assert "/proc/x cannot be written: " in refused("demo", "-o", "/proc/x", cwd=here, code=3)
    assert "net.onnx/x cannot be written: Not a directory" in refused(
        "demo", "-o", "net.onnx/x", cwd=here, code=3
    )


def test_resuming_without_what_was_stored(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    message = refused("dump", "net.onnx", "data", "--resume", "--keep", "statistics", cwd=here)
    assert "stored float32 in the store and none now" in message
    assert "None" not in message


def test_layers_whose_operator_nobody_named(here: Path) -> None:
    x = np.random.default_rng(0).random((9, 4)).astype(np.float32)
    with cnatool.create_store(here / "s.zarr", tensors=["a", "b"]) as store:
        store.append("train", inputs=x, outputs=x, activations={"a": x, "b": x * x})
    assert "\n2 layers: 1 a, 2 b\n" in run("score", "s.zarr", cwd=here, code=None).stdout
    assert "()" not in run("inspect", "s.zarr", "--layers", cwd=here, code=None).stdout


def test_damaged_store(here: Path) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    chunk = here / "net.zarr/splits/train/statistics/sum/c.0.0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    message = refused("score", "net.zarr", cwd=here, code=3)
    assert "array splits/train/statistics/sum cannot be read" in message
    chunk.unlink()
    assert "is missing" in refused("score", "net.zarr", cwd=here, code=3)
    (here / "net.zarr/zarr.json").write_text("{")
    refused("score", "net.zarr", cwd=here, code=3)


def test_single_layer_model_has_no_beta(here: Path) -> None:
    saved(mlp((64, 10)), here / "linear.onnx")
    run("dump", "linear.onnx", "data", cwd=here)
    found = json.loads(run("score", "linear.zarr", "--json", cwd=here, code=None).stdout)
    split = found["splits"]["train"]
    assert 0 <= split["accuracy"] <= 1
    assert split["beta"]["mean"] is None
    for reason in (split["beta_reason"], split["cna"]["reason"], found["cna_area"]["reason"]):
        assert reason.startswith("β needs at least two layers, and the convention selects 0")
    assert "β needs at least two layers" in run("score", "linear.zarr", cwd=here, code=None).stdout


def test_a_model_without_linear_operators_is_scored_as_advised(here: Path) -> None:
    b = Builder()
    for before, after, operator in (
        ("x", "a", "Sigmoid"),
        ("a", "b", "Tanh"),
        ("b", "y", "Softmax"),
    ):
        b.node(operator, [before], after)
    saved(b.model({"x": ("n", 64)}, {"y": ("n", 64)}), here / "plain.onnx")
    dumped = run("dump", "plain.onnx", "data", cwd=here, code=None)
    [advice] = (line for line in dumped.stderr.splitlines() if line.startswith("next: cnatool "))
    scored = run(*advice.removeprefix("next: cnatool ").split(), "--json", cwd=here)
    assert json.loads(scored.stdout)["splits"]["train"]["cna"]["value"] is not None


def test_constant_beta_is_undefined_not_an_error(here: Path) -> None:
    b = Builder()
    b.node("Mul", ["x", b.constant("zero", np.float32(0))], "nothing")
    for i, tensor in enumerate(["nothing", "fc0", "fc1"]):
        b.gemm(tensor, f"fc{i}", 64, 64)
    saved(b.model({"x": ("n", 64)}, {"fc2": ("n", 64)}), here / "constant.onnx")
    run("dump", "constant.onnx", "data", cwd=here)
    result = run("score", "constant.zarr", cwd=here)
    assert "CNA of train: β is the same for all 60 samples" in result.stdout


def test_margin_without_labels_is_undefined_with_the_reason(here: Path) -> None:
    for name in ("train", "test"):
        x = np.load(here / f"data/{name}.npz")["x"]
        np.savez(here / f"data/{name}.npz", x=x)
    run("dump", "net.onnx", "data", cwd=here)
    result = run("score", "net.zarr", cwd=here)
    assert "margin: the split has no labels" in result.stdout
    assert "CNA-M: the margin is undefined: the split has no labels" in result.stdout


def test_label_that_is_no_class_leaves_what_needs_no_labels(here: Path) -> None:
    np.savez(here / "data/test.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.array([0, 10, 1]))
    run("dump", "net.onnx", "data", cwd=here)
    result = run("score", "net.zarr", cwd=here)
    assert "accuracy, loss of test: Sample row 1 has the label 10" in result.stdout
    assert "CNA-A" in result.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--set", "layers"], "write it as KEY=VALUE"),
        (["--set", "colour=red"], "no field 'colour'"),
        (["--set", "bins=many"], "bins=many: expected a whole number"),
        (["--set", "depth=up"], "depth=up: choose index or path"),
        (["--set", "layers=conv*"], "--set layers='conv*': net.zarr has no such tensor"),
        (["--convention", "other"], "choose paper, reference or legacy"),
        (["--samples", "frame.xls"], "must end in .parquet or .csv"),
        (["--samples", "no/frame.csv"], "no such folder"),
        (["--test", "nothing.zarr"], "no such file or folder"),
    ],
)
def test_score_options(here: Path, words: list[str], text: str) -> None:
    run("dump", "net.onnx", "data", cwd=here)
    assert text in refused("score", "net.zarr", *words, cwd=here)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--mean", "a,b"], "--mean a,b: give numbers separated"),
        (["--tag", "epoch"], "write it as KEY=VALUE"),
        (["--provider", "warp"], "--provider warp: the installed ONNX Runtime"),
        (["--tensors", "conv*"], "--tensors 'conv*'"),
        (["-o", "store.dat"], "the name of a store must end in .zarr, .h5 or .hdf5"),
        (["-o", "."], "the name of a store must end in"),
        (["-o", ""], "the name of a store must end in"),
        (["-o", "s.zarr.zip"], "a zipped store is read-only"),
        (["-o", "s.h5", "--codec", "lz4"], "a .h5 store cannot be compressed with lz4"),
        (["-o", "no/such/store.zarr"], "no such folder"),
        (["--threads", "100000"], "--threads 100000: up to"),
        (["--split", "train=data/train.npz"], "DATA"),
        (["--std", "0"], "std"),
        (
            ["--keep", "statistics", "--dtype", "float16"],
            "--dtype float16 narrows activations, but",
        ),
    ],
)
def test_dump_options(here: Path, words: list[str], text: str) -> None:
    assert text in refused("dump", "net.onnx", "data", *words, cwd=here)


@pytest.mark.parametrize("store", ["s.zarr", "s.h5"])
def test_full_disk(here: Path, store: str) -> None:
    """A limit on file size stands in for a full disk: the write fails in the same place."""
    noise = np.random.default_rng(0).integers(0, 256, (20_000, 8, 8), np.uint8)
    np.savez(here / "data/train.npz", x=noise)
    (here / "data/test.npz").unlink()
    script = f"ulimit -f 100; exec {COMMAND} dump net.onnx data -o {store}"
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=here, timeout=600
    )
    assert result.returncode == 3
    assert f"{store} cannot be written: File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(here.glob(f"{store}*"))


def test_interrupted(here: Path) -> None:
    import signal
    import time

    noise = np.random.default_rng(0).integers(0, 256, (40_000, 8, 8), np.uint8)
    np.savez(here / "data/train.npz", x=noise)
    process = subprocess.Popen(
        command("dump", "net.onnx", "data", "-o", "s.zarr", "--batch-size", "16"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
    )
    while not (here / "s.zarr/splits/train/statistics/sum/c.0.0").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "cnatool: interrupted." in errors


# What happens in a command, and how it ends: exit code, output, message.
INTERRUPTED = {
    "what fails behind it is part of it": (
        """
def run(**_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        raise RuntimeError("cannot release un-acquired lock")

app.app = run
""",
        (143, "", "cnatool: terminated.\n"),
    ),
    # A finaliser runs wherever the interpreter likes, and what is raised in it is dropped.
    "where no exception leaves": (
        """
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def run(**_):
    Dropped()
    print("after")
    time.sleep(30)

app.app = run
""",
        (130, "after\n", "cnatool: interrupted.\n"),
    ),
    "while it is imported": (
        """
del sys.modules["cnatool.cli.app"]

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "cnatool.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
""",
        (130, "", "cnatool: interrupted.\n"),
    ),
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_interruptions(case: str) -> None:
    happens, expected = INTERRUPTED[case]
    code = f"import os, signal, sys, time\nfrom cnatool.cli import app, main\n{happens}\nmain()"
    words = [sys.executable, "-c", code]
    process = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert (process.returncode, process.stdout, process.stderr) == expected


def test_a_folder_of_stores_is_told_from_a_store(here: Path) -> None:
    (here / "many").mkdir()
    run("dump", "net.onnx", "data", "-o", "many/a.zarr", cwd=here)
    assert refused("score", "many", cwd=here) == (
        "cnatool: many is not a cnatool store but a folder that contains stores. Name one of them; "
        "`cnatool study many` scores all of them."
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are UTF-8 or UTF-16")
def test_names_that_are_not_utf_8(here: Path) -> None:
    name = os.fsdecode(b"n\xe9t.onnx")
    shutil.copy(here / "net.onnx", here / name)
    assert refused("dump", name, "data", "-o", "s.zarr", cwd=here) == (
        "cnatool: n\\udce9t.onnx: this name is not UTF-8. Give another."
    )


def test_a_journal_beside_another_state_of_a_store(here: Path) -> None:
    run("dump", "net.onnx", "data", "-o", "s.h5", cwd=here)
    (here / "s.h5.journal").write_bytes(b"")
    scored = run("score", "s.h5", cwd=here)
    [line] = (line for line in scored.stderr.splitlines() if "journal" in line)
    assert line.startswith("s.h5.journal is empty. The last commit may be missing")
    assert "it has 60 of 60 rows of train and 40 of 40 rows of test" in line
    verified = run("verify", "s.h5", cwd=here, code=None)
    assert (verified.returncode, verified.stdout.splitlines()[0]) == (
        1, "journal: s.h5.journal is empty"
    )  # fmt: skip
    (here / "other.h5").write_bytes(bytes(range(250)) * 40)
    with (here / "other.h5").open("r+b", buffering=0) as file:
        Journal.prepare(file, 9_000, 10_000, [(0, b"other")]).write(here / "s.h5")
    for words in (["score"], ["inspect"], ["layers"], ["compare", "s.h5"], ["convert", "t.zarr"]):
        said = refused(words[0], "s.h5", *words[1:], cwd=here, code=3)
        assert said.startswith("cnatool: s.h5.journal is in the way")
        assert "If you restored or copied s.h5 here, delete the journal to read the copy" in said
    for words in (["--resume"], ["--overwrite"]):
        said = refused("dump", "net.onnx", "data", "-o", "s.h5", *words, cwd=here, code=3)
        assert said.startswith("cnatool: s.h5.journal is in the way")
    (here / "s.h5.journal").unlink()
    run("verify", "s.h5", cwd=here)
