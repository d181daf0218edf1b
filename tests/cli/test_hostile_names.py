"""Names from files that would steer a terminal, turn text around or break out of it."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.command import run
from support.files import write_tar

from cnatool._util.text import escape

# An escape sequence, C1's, bidirectional controls, zero widths, a separator, a tag, markup.
EVIL = "\x1b[31m\x9b31m\u202e\u2066\u200b\u2028\U000e0041\ufe0f[bold]\x7f"
# Of these, samples of archives may have what is no control character in their names.
TURNED = "\u202e\u2066\u200b\u2028\U000e0041\ufe0f[bold]"
SPLITS = [f"--split={name}=data{EVIL}/{name}.tar" for name in ("train", "test")]
# Written out, without the pattern of the code: what may stand in no output.
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)


def evil(name: str) -> str:
    return f"{name}{EVIL}"


def command(*words: object, cwd: Path, code: int = 0, terminal: bool = False) -> tuple[str, str]:
    """Run a command; return both its streams."""
    # One that --debug shows the traceback of ends with code 1.
    result = run(*words, cwd=cwd, code=None, terminal=terminal)
    assert result.returncode == code, result
    return result.stdout, result.stderr


def clean(text: str) -> str:
    """Assert that a text is safe to show."""
    found = UNSAFE.search(text)
    assert found is None, (ascii(found[0]), text[max(0, found.start() - 200) : found.end() + 50])
    return text


def said(*words: object, cwd: Path, code: int = 0) -> str:
    """Run a command, check both streams, and give what it says."""
    return "".join(map(clean, command(*words, cwd=cwd, code=code)))


def document(*words: object, cwd: Path, code: int = 0) -> Any:
    out, errors = command(*words, cwd=cwd, code=code)
    clean(errors)
    return json.loads(clean(out))


def network(seed: int) -> onnx.ModelProto:
    """Make a perceptron with hostile names of everything that has a name."""
    rng = np.random.default_rng(seed)
    sizes = (64, 12, 8, 3)
    tensor, nodes, weights = evil("x"), [], []
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        w = rng.normal(size=(before, after)).astype(np.float32) / 8
        weights.append(numpy_helper.from_array(w, evil(f"w{i}")))
        out = evil(f"m{i}")
        nodes.append(helper.make_node("MatMul", [tensor, evil(f"w{i}")], [out], name=evil(f"n{i}")))
        tensor = out
        if i < len(sizes) - 2:
            tensor = evil(f"r{i}")
            nodes.append(helper.make_node("Op" + EVIL, [out], [tensor], domain=evil("d")))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(evil("d"), 1)]
    relu = helper.make_function(
        evil("d"), "Op" + EVIL, ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets[:1]
    )
    graph = helper.make_graph(
        nodes,
        evil("graph"),
        [helper.make_tensor_value_info(evil("x"), TensorProto.FLOAT, ("n", 64))],
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ("n", 3))],
        weights,
    )
    return helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=8,
        functions=[relu],
        producer_name=evil("maker"),
    )


def archive(path: Path, rows: int, seed: int) -> None:
    """Write a WebDataset archive whose keys and classes have hostile names."""
    rng = np.random.default_rng(seed)
    members = []
    for i in range(rows):
        held = io.BytesIO()
        np.save(held, rng.integers(0, 256, 64, np.uint8))
        label = evil("abc"[i % 3]).encode()
        members += [(f"{i}{TURNED}.npy", held.getvalue()), (f"{i}{TURNED}.cls", label)]
    write_tar(path, members, format=tarfile.PAX_FORMAT)


def table(path: Path, rows: int, seed: int) -> None:
    """Write a table whose columns and classes have hostile names."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (rows, 64), np.uint8)
    columns = {evil("x"): pl.Series(x.tolist(), dtype=pl.List(pl.UInt8))}
    classes = [evil("abc"[i % 3]) for i in range(rows)]
    pl.DataFrame({**columns, evil("y"): classes}).write_parquet(path)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    (folder / evil("data")).mkdir()
    (folder / evil("stores")).mkdir()
    for number, name in enumerate(("train", "test")):
        archive(folder / evil("data") / f"{name}.tar", 30, number)
        table(folder / evil("data") / f"{name}.parquet", 18, number)
    for seed in range(4):
        onnx.save(network(seed), folder / f"{evil('net')}{seed}.onnx")
        words = (
            "dump", f"{evil('net')}{seed}.onnx", *SPLITS, "-o", store(seed),
            "--tag", f"{evil('run')}={evil(str(seed % 2))}", "--tag", f"step={seed}",
            "--tag", f"{evil('width')}={seed}", "--tag", "line=a\nnote: all is well",
        )  # fmt: skip
        out, errors = command(*words, cwd=folder)
        clean(errors)
        # To a program, the path as it is.
        assert out == f"{store(seed)}\n"
    return folder


def store(seed: int) -> str:
    return f"{evil('stores')}/{evil('s')}{seed}.zarr"


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", f"{evil('net')}0.onnx", "--layers", "--skipped"),
        ("inspect", store(0), "--layers", "--skipped"),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "--dry-run"),
        ("score", store(0), "--all", "--layers", "--baselines"),
        ("layers", store(0), "--sample", f"0{TURNED}"),
        ("study", evil("stores"), "--by", evil("run"), "--all", "--resamples", "0"),
        ("study", evil("stores"), "--cluster", evil("run"), "--resamples", "20"),
        ("trajectory", evil("stores"), "--order", "step", "--by", evil("run")),
        ("landscape", evil("stores"), "--order", "step", "--by", evil("run"), "--grid", "2",
         "--samples", "10"),
        ("verify", store(0)),
        ("preprocess", "show", f"{evil('net')}0.onnx", f"{evil('data')}/train.parquet", "--labels",
         evil("y")),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_no_command_prints_what_a_name_hides(here: Path, words: tuple[str, ...]) -> None:
    text = said(*words, cwd=here)
    assert r"\x1b[31m\x9b31m\u202e\u2066\u200b\u2028\U000e0041\ufe0f[bold]\x7f" in text
    # A line feed in a tag begins no line.
    assert not re.search("^note: all is well", text, re.MULTILINE)
    if words[0] != "preprocess":
        found = document(*words, "--json", cwd=here)
        if words[0] != "verify":
            assert EVIL in json.dumps(found, ensure_ascii=False).replace("\\u001b", "\x1b")


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", store(0), "--layers", "--skipped"),
        ("layers", store(0), "--sample", f"0{TURNED}"),
        ("study", evil("stores"), "--by", evil("run"), "--all", "--resamples", "0"),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "-o", store(9)),
    ],
    ids=lambda words: words[0],
)
def test_terminals(here: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out, errors = command(*words, cwd=here, terminal=True)
    clean(errors)
    # The headers of a table are bold.
    assert r"\u202e" in clean(out.replace("\x1b[1m", "").replace("\x1b[0m", ""))
    if words[0] == "dump":
        assert out == f"{escape(store(9))}\n"
        shutil.rmtree(here / store(9))


def test_stores_that_differ(here: Path) -> None:
    assert EVIL[:5] not in said("compare", store(0), store(1), cwd=here, code=1)
    assert document("compare", store(0), store(1), "--json", cwd=here, code=1)["splits"]


def test_conversion_and_what_is_written(here: Path, tmp_path: Path) -> None:
    clean(command("convert", store(0), tmp_path / f"{evil('c')}.h5", cwd=here)[1])
    said("study", evil("stores"), "-o", tmp_path / evil("o"), "--resamples", 0, cwd=here)
    said("trajectory", evil("stores"), "--order", "step", "-o", tmp_path / evil("t"), cwd=here)
    for path in tmp_path.glob("*/*.json"):
        json.loads(clean(path.read_text("utf-8")))
    said("score", store(0), "--samples", tmp_path / f"{evil('s')}.parquet", cwd=here)
    frame = pl.read_parquet(tmp_path / f"{evil('s')}.parquet", glob=False)
    assert TURNED in frame["id"][0]


@pytest.mark.parametrize(
    ("figure", "ending"),
    [
        *((name, "json") for name in ("depth-profile", "alpha-beta", "area", "error-by-alpha")),
        # Both are made of that.
        ("depth-profile", "svg"),
        ("alpha-beta", "html"),
    ],
)
def test_figures(here: Path, tmp_path: Path, figure: str, ending: str) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    path = tmp_path / f"{evil('p')}.{ending}"
    said("plot", store(0), store(1), "--figure", figure, "-o", path, cwd=here)
    text = path.read_text("utf-8")
    if ending == "html":
        # The library that draws it has some of these characters in its own source.
        text = text.rpartition("<script>")[2]
    clean(text)


@pytest.mark.parametrize(
    "words",
    [
        ("score", evil("none")),
        ("score", store(0), "--set", f"{evil('a')}=1"),
        ("score", store(0), "--set", f"range={EVIL}"),
        ("score", store(0), "--test", evil("none")),
        ("score", store(0), f"--{EVIL}"),
        ("score", store(0), evil("more")),
        (evil("command"),),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "--dtype", evil("float")),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "--batch-size", EVIL),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "--tensors", evil("none")),
        ("dump", f"{evil('net')}0.onnx", "--split", f"{evil('s')}={evil('none')}"),
        ("dump", f"{evil('net')}0.onnx", evil("none")),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, "--constant", f"{EVIL}=1"),
        ("dump", f"{evil('net')}0.onnx", *SPLITS, f"--split={EVIL}=x"),
        ("dump", evil("none"), evil("data")),
        ("dump", f"{evil('net')}0.onnx", f"{evil('data')}/train.parquet", "--labels", EVIL),
        ("layers", store(0), "--sample", EVIL),
        ("study", evil("none")),
        ("study", evil("stores"), "--by", evil("none")),
        ("trajectory", evil("stores"), "--order", evil("none")),
        ("plot", store(0), "--figure", EVIL, "-o", "x.json"),
        ("plot", store(0), "--figure", "area", "-o", EVIL),
        ("schema", EVIL),
        ("--debug", "score", evil("none")),
    ],
    ids=lambda words: ascii(" ".join(words))[:40],
)
def test_errors_hide_nothing(here: Path, words: tuple[str, ...]) -> None:
    out, errors = command(*words, cwd=here, code=1 if words[0] == "--debug" else 2)
    assert out == ""
    last = clean(errors).splitlines()[-1]
    assert last.startswith(("cnatool: ", "Error: ", "cnatool.errors."))
    assert r"\u202e" in errors or "must be a" in errors


def huge(name: str) -> onnx.ModelProto:
    w = numpy_helper.from_array(np.ones((64, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [name]), helper.make_node("Relu", [name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 3))],
        [w],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", ["n" * 3_000_000, "a b " * 700_000, "\u202e" * 1_000_000])
def test_names_of_megabytes(tmp_path: Path, name: str) -> None:
    onnx.save(huge(name), tmp_path / "net.onnx")
    archive(tmp_path / "train.tar", 30, 0)
    words = ("net.onnx", "--split", "train=train.tar")
    for line in said("inspect", "net.onnx", "--layers", "--skipped", cwd=tmp_path).splitlines():
        assert len(line) < 3_500
    for line in said("dump", *words, "--tensors", "none", cwd=tmp_path, code=2).splitlines():
        assert len(line) <= 1_800
    # The advice stays.
    assert line.endswith("--tensors takes several.")
