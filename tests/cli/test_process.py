"""The process of the command: signals, encodings, warnings of libraries, URLs, Git LFS pointers."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command import COMMAND, refused, run
from support.networks import Builder, mlp, saved

import cnatool
from cnatool._util.local_paths import check_downloaded, check_local
from cnatool._util.text import transliterate
from cnatool.cli.urls import refuse_urls
from cnatool.errors import DataError, UsageError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 98765432\n"


def fill(folder: Path) -> None:
    """Write a network and data."""
    rng = np.random.default_rng(0)
    saved(mlp(), folder / "net.onnx")
    x = rng.integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(folder / "data.npz", x=x, y=rng.integers(0, 10, 60))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Stores of what `here` has, made once."""
    folder = tmp_path_factory.mktemp("dumped")
    fill(folder)
    stores = (folder / "s.h5", folder / "s.zarr")
    for store in stores:
        cnatool.dump(folder / "net.onnx", folder / "data.npz", store)
    return stores


@pytest.fixture
def stores(here: Path, dumped: tuple[Path, ...]) -> Path:
    """The folder `here`, with s.h5 and s.zarr."""
    for store in dumped:
        copy = shutil.copytree if store.is_dir() else shutil.copyfile
        copy(store, here / store.name)
    return here


WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}


@pytest.mark.parametrize("number", WORDS)
def test_a_signal_while_the_command_starts_gives_one_line(
    here: Path, number: signal.Signals
) -> None:
    # The interpreter starts before anything of ours can answer; this says when it can.
    script = (
        "import os, signal, sys, time\nfrom cnatool.cli import main, signals\n"
        # The tests may run under nohup, which a command respects.
        f"signal.signal({int(number)}, signal.SIG_DFL)\n"
        "pause = float(sys.argv[1])\n"
        "handle = signals.handle\n"
        "def announce(handler):\n"
        "    handle(handler)\n"
        "    os.write(1, b'\\n')\n"
        "    time.sleep(pause)\n"
        "signals.handle = announce\n"
        "sys.argv = ['cnatool', 'score', 'no.zarr']\n"
        "main()"
    )
    answers = set()
    # The first one waits for its signal, as on a busy machine the others may be done before theirs.
    # Two other moments will do where only the number of the signal is another.
    step = 0.05 if number == signal.SIGINT else 0.2
    for delay, pause in ((0.0, 60.0), *((delay, 0.0) for delay in np.arange(0.003, 0.4, step))):
        command = [sys.executable, "-c", script, str(pause)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=here
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(number)
            _, errors = process.communicate(timeout=600)
        answers.add((process.returncode, errors.decode()))
    early = (128 + number, f"cnatool: {WORDS[number]}.\n")
    late = "cnatool: no.zarr: no such file or folder.\n"
    assert early in answers
    assert answers <= {early, (2, late)}


LIVES = {
    "--help": (["--help"], "Usage"),
    "dump": (["dump", "net.onnx", "data.npz", "-o", "new.h5", "--batch-size", "1"], "new.h5"),
    "score": (["score", "s.h5", "--json"], "cnatool.score/1"),
    "--debug": (["--debug", "score", "s.h5", "--json"], "cnatool.score/1"),
    "convert": (["convert", "s.h5", "new.zarr"], "new.zarr"),
    "study": (["study", "s.h5", "s.zarr"], "fewer than 3 networks"),
}


@pytest.mark.parametrize("name", LIVES)
def test_a_signal_at_any_moment_is_one_line(stores: Path, name: str) -> None:
    """Ctrl-C, twice as terminals and launchers may send it; SIGTERM; the end of the terminal."""
    here = stores
    words, printed = LIVES[name]
    # The first line says that a signal is handled from now on.
    script = (
        "from cnatool.cli import main, signals\n"
        "handle = signals.handle\n"
        "def announce(handler):\n"
        "    signals.handle = handle\n"
        "    handle(handler)\n"
        "    print(flush=True)\n"
        "signals.handle = announce\n"
        "main()"
    )
    moments = itertools.cycle([(signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
    for delay in (0.01, 0.2, 0.5, 1.0):
        number, times = next(moments)
        with subprocess.Popen(
            [sys.executable, "-c", script, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=here,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            for _ in range(times):
                process.send_signal(number)
                time.sleep(0.005)
            output, errors = process.communicate(timeout=600)
        if process.returncode == 0:
            assert printed in output.decode()
            break
        assert process.returncode == 128 + number, errors
        said = [line for line in errors.decode().splitlines() if line.startswith("cnatool: ")]
        assert said == [f"cnatool: {WORDS[number]}."]
        assert b"Traceback" not in errors
        assert b"ignored" not in errors
        for store in ("s.h5", "s.zarr"):
            assert not cnatool.verify(here / store).faults
        for left in here.glob("new.*"):
            # Where anything is safe, the same command goes on.
            assert left.name == "new.h5"
            run(*words, "--resume", cwd=here)
            assert not cnatool.verify(left).faults
            left.unlink()


def test_a_later_signal_ends_a_command_that_hangs() -> None:
    hangs = """
import signal, time
from cnatool import cli
from cnatool.cli import app

# The tests may run in the background of a shell, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def run(**_):
    print(flush=True)
    try:
        time.sleep(60)
    finally:
        print(flush=True)
        time.sleep(60)

app.app = run
cli.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hangs], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
            time.sleep(0.6)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (130, b"cnatool: interrupted.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes streams here")
@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ("<&- >&- 2>&-", ["dump", "net.onnx", "data.npz", "-o", "new.h5"]),
        ("2>/dev/full", ["dump", "net.onnx", "data.npz", "-o", "new.h5"]),
        ("2>&-", ["score", "s.h5"]),
        (">&- 2>&-", ["verify", "s.h5"]),
    ],
)
def test_streams_that_are_closed_or_full(stores: Path, streams: str, words: list[str]) -> None:
    """No file of a store takes the place of a stream that libraries write to."""
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", COMMAND, *words]
    result = subprocess.run(shell, capture_output=True, timeout=600, cwd=stores)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (not result.stdout) == (">&-" in streams.replace("2>&-", ""))
    for store in {words[-1], "s.h5"}:
        assert not cnatool.verify(stores / store).faults


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("words", [["score", "s.h5"], ["verify", "s.h5"]])
def test_output_that_cannot_be_written(stores: Path, words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [COMMAND, *words], stdout=full, stderr=subprocess.PIPE, timeout=600, cwd=stores
        )
    assert result.returncode == 3
    [said] = (line for line in result.stderr.decode().splitlines() if "cnatool: " in line)
    assert said.startswith("cnatool: standard output or a temporary file cannot be written: No sp")
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["score", "s.h5", "--json"], ["schema", "store"]])
def test_output_that_nobody_reads(stores: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [COMMAND, *words], stdout=write, stderr=subprocess.PIPE, timeout=600, cwd=stores
    )
    os.close(write)
    assert result.returncode == 141
    assert b"cnatool:" not in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("α, β ≤ 8×8 …", "ascii", "alpha, beta <= 8x8 ..."),
        ("τ-b – √2 ± ∞", "ascii", "tau-b - sqrt2 +/- inf"),
        ("α 8×8", "latin-1", "alpha 8×8"),
        ("α 8×8", "utf-8", "α 8×8"),
        ("größe", "ascii", "gr\\xf6\\xdfe"),
    ],
)
def test_transliteration(text: str, encoding: str, written: str) -> None:
    assert transliterate(text, encoding) == written
    transliterate(text, encoding).encode(encoding)


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_ascii_terminals(here: Path, environment: dict[str, str]) -> None:
    b = Builder()
    weights = [b.constant(f"w{i}", np.eye(64, 64, dtype=np.float32) * (i + 1)) for i in range(3)]
    for weight, before, after in zip(weights, ("x", "α", "γ"), ("α", "γ", "β"), strict=True):
        b.node("MatMul", [before, weight], after)
    saved(b.model({"x": ("n", 64)}, {"β": ("n", 64)}), here / "net.onnx")
    # Three commands of one process, which imports everything once.
    script = (
        "import sys\nfrom cnatool.cli import main\n"
        "for words in ('dump net.onnx data.npz', 'score net.zarr', 'score net.zarr --json'):\n"
        "    sys.argv = ['cnatool', *words.split()]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(f'\\f{end.code or 0}\\f', flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=600,
        cwd=here,
        env={**os.environ, **environment},
    )
    _, *codes = done.stdout.decode("ascii").split("\f")
    assert codes[::2] == ["0"] * 3, done.stderr
    scored, printed = codes[1:5:2]
    lines = scored.splitlines()
    assert "?" not in scored
    [header] = (line for line in lines if line.startswith("split  "))
    assert "alpha mean  beta mean" in header
    [rule] = (lines[place + 1] for place, line in enumerate(lines) if line == header)
    assert rule == "-" * len(rule)
    assert len(rule) >= len(header)
    assert "2 layers: 1 alpha (MatMul), 2 gamma (MatMul)" in lines
    assert json.loads(printed)["output"]["name"] == "β"


def cut_exif(path: Path, seed: int) -> None:
    """Write a JPEG whose EXIF block is cut: Pillow warns, and reads the picture all the same."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG")
    exif = b"Exif\0\0" + b"II*\0\xff\xff\0\0"
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    path.write_bytes(held.getvalue()[:2] + block + held.getvalue()[2:])


def test_warnings_of_libraries_are_one_line_each(here: Path) -> None:
    (here / "p" / "a").mkdir(parents=True)
    for name in range(3):
        cut_exif(here / "p" / "a" / f"{name}.jpg", name)
    errors = run("dump", "net.onnx", "p", cwd=here).stderr
    assert ".py" not in errors
    [line] = (line for line in errors.splitlines() if "EXIF" in line)
    assert line.startswith("Pillow warns about p/a/")
    assert "EXIF" not in run("dump", "net.onnx", "p", "-q", "--overwrite", cwd=here).stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://bucket/m.onnx", "`aws s3 cp s3://bucket/m.onnx .`"),
        ("s3:/bucket/folder", "`aws s3 cp --recursive s3://bucket/folder .`"),
        ("gs://bucket/m.onnx", "`gcloud storage cp gs://bucket/m.onnx .`"),
        ("https://host/m.onnx", "`curl -LO https://host/m.onnx`"),
        ("hf://datasets/ylecun/mnist", "hf://datasets/ylecun/mnist is a URL"),
        ("file:///data/m.onnx", "use /data/m.onnx."),
        ("abfs://c@account/x", "abfs://account/x is a URL"),
        ("https://user:word@host/m.onnx?sig=1", "`curl -LO https://host/m.onnx`"),
    ],
)
def test_urls_are_refused(given: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_local(given)
    assert said in str(caught.value)
    for words in (
        ["score", given],
        ["dump", "m.onnx", f"--preprocess={given}"],
        ["x", f"t={given}"],
    ):
        if "://" in given:
            with pytest.raises(UsageError, match="is a URL"):
                refuse_urls(words)


@pytest.mark.parametrize(
    "words",
    [
        ["dump", "net.onnx", "data.npz", "-o", "s3://b/out"],
        ["score", "s.zarr", "--samples=s3://b/table.parquet"],
        ["study", "stores", "--output", "s3://b/study"],
    ],
)
def test_what_would_be_written_is_not_to_be_downloaded(words: list[str]) -> None:
    with pytest.raises(UsageError, match="Name a local path, and copy the result from there"):
        refuse_urls(words)


def test_a_folder_in_a_bucket_may_contain_stores() -> None:
    for command in ("score", "study", "plot"):
        refuse_urls([command, "s3://lab/runs/"])
        refuse_urls([command, "s3://lab.of.vision"])
    for words in (["convert", "s3://lab/runs/", "a.h5"], ["study", "-o", "s3://lab/runs/"]):
        with pytest.raises(UsageError, match="s3://lab/runs/ is a URL"):
            refuse_urls(words)


def test_what_is_no_url() -> None:
    for path in ("a/b", "C:/data", "store.h5::images/0", "./s3:/x", "x=1/255"):
        check_local(path)
        refuse_urls([path])
    refuse_urls(["dump", "--tag", "from=https://host/m.onnx", "--tag=from=s3://b"])


@pytest.mark.parametrize(
    "words",
    [
        ["dump", "net.onnx", "data", "--preprocess", "s3://b/recipe.json"],
        ["dump", "net.onnx", "data.npz", "-o", "s3://b/out"],
        ["study", "s3://b/stores.csv"],
        ["plot", "s3://b/s.zarr", "--figure", "alpha-beta", "-o", "s3://b/x.png"],
    ],
)
def test_every_command_names_a_url_as_it_was_given(here: Path, words: list[str]) -> None:
    message = refused(*words, cwd=here)
    assert "s3://b/" in message
    assert "is a URL" in message
    assert not (here / "s3:").exists()


@pytest.mark.parametrize(
    "name",
    ["d.npz", "d.npy", "d.csv", "d.parquet", "d.h5", "d.tar", "d.safetensors", "d.bin", "d.txt",
     "t10k-images-idx3-ubyte", "f/train.parquet", "f/labels.csv", "f/cat/1.png"],
)  # fmt: skip
def test_a_git_lfs_pointer_is_named(here: Path, name: str) -> None:
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(POINTER)
    if name == "f/labels.csv":
        Image.new("L", (8, 8)).save(here / "f" / "1.png")
    given = here / Path(name).parts[0]
    message = refused("dump", "net.onnx", given, cwd=here)
    assert f"{path} is a Git LFS pointer" in message
    assert "git lfs pull" in message
    with pytest.raises(DataError, match="git lfs pull"):
        check_downloaded(path)


def test_one_pointer_among_pictures(here: Path) -> None:
    (here / "p" / "a").mkdir(parents=True)
    for name in range(4):
        pixels = np.random.default_rng(name).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(here / "p" / "a" / f"{name}.png")
    (here / "p" / "a" / "2.png").write_text(POINTER)
    message = refused("dump", "net.onnx", "p", cwd=here)
    assert "2.png is a Git LFS pointer, not an image" in message
    assert "git lfs pull" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--version"], ["schema", "store"], ["inspect", "net.onnx"]])
def test_a_full_disk_behind_standard_output_has_one_message(here: Path, words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, *words], stdout=full, stderr=subprocess.PIPE, timeout=600, cwd=here
        )
    assert done.stderr.decode().splitlines() == [
        "cnatool: standard output or a temporary file cannot be written: No space left on device. "
        "Free some space, or write elsewhere."
    ]
    assert done.returncode == 3
