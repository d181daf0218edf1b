"""First use from several threads, each time in a fresh process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnatool

# Threads that change places at every chance, all of which begin at once.
_THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
import cnatool
from pathlib import Path

def use():
    {use}

def run():
    barrier.wait()
    try:
        use()
    except Exception as error:
        failures.append(error)

{before}
failures = []
barrier = threading.Barrier(8)
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failures:
    raise failures[0]
"""


@pytest.fixture(scope="module", params=["zarr", "h5"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("threads") / f"s.{request.param}"
    rng = np.random.default_rng(0)
    with cnatool.create_store(path, tensors=["a", "b", "y"], outputs=["y"]) as opened:
        x = rng.random((60, 4), np.float32)
        for split in ("train", "test"):
            opened.append(
                split,
                inputs=x,
                labels=rng.integers(0, 3, 60),
                outputs=x[:, :3],
                activations={"a": x, "b": 2 * x},
            )
    return path


def _in_threads(use: str, before: str = "") -> None:
    # One process in two crashed; what is done with a store is done with both kinds of them.
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _THREADS.format(use=use, before=before)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]


def test_open(store: Path) -> None:
    _in_threads(f"cnatool.open({str(store)!r})")


def test_score(store: Path) -> None:
    # A part of resamples for each thread of a pool, of which there are eight.
    overrides = {"resamples": 0, "area_resamples": 8, "permutations": 0}
    _in_threads(f"cnatool.score({str(store)!r}, overrides={overrides!r})")


def test_a_preprocessing_file(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"schema": "cnatool.preprocess/1", "scale": "1/255"}')
    _in_threads(
        f"read_recipe(Path({str(tmp_path / 'own.json')!r}))",
        "from cnatool.data.preprocess.recipe import read_recipe",
    )


def test_headers_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 3), np.float32))
    _in_threads(
        f"[open_npy(Path({str(tmp_path / 'x.npy')!r})) for _ in range(40)]",
        "from cnatool.data.formats.npy import open_npy",
    )
