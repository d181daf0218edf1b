"""Completion, by the protocol of each shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from support.command import python, run

from cnatool.data.detect import FORMATS
from cnatool.metrics.convention import CnaForm, ConventionFields
from cnatool.plotting.table import FIGURES
from cnatool.records.choices import Codec, Interpolation, Statistic
from cnatool.schemas import SCHEMAS

SHELLS = ("bash", "zsh", "fish")


def complete(words: str, *, shell: str = "bash", cwd: Path | None = None) -> list[str]:
    """What a shell offers for the last word of a command line."""
    environment = {"_CNATOOL_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        environment |= {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    else:
        environment |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    text = run(**environment, cwd=cwd).stdout
    if shell == "zsh":
        return re.findall(r'^(?:_arguments \'\*: :\(\()?"([^"]*)"', text, re.MULTILINE)
    return [line.partition("\t")[0] for line in text.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("score --convention ", ["paper", "reference", "legacy"]),
        ("plot --figure ", dict.fromkeys(figure.name for figure in FIGURES)),
        ("convert --codec ", get_args(Codec)),
        ("dump --format ", [form.name for form in FORMATS]),
        ("dump --interpolation ", get_args(Interpolation)),
        ("dump --statistics ", [*get_args(Statistic), "all"]),
        ("dump --tensors ", ["all", "inner", "layers", "residual"]),
        ("schema ", SCHEMAS),
        ("score --set ", [f"{name}=" for name in ConventionFields.__struct_fields__]),
        ("study --progress ", ["auto", "bar", "lines", "json", "none"]),
    ],
)
def test_the_words_of_a_table(shell: str, words: str, expected: list[str]) -> None:
    assert sorted(complete(f"cnatool {words}", shell=shell)) == sorted(expected)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_words_that_a_field_takes(shell: str) -> None:
    """In bash, an equals sign ends a word."""
    found = complete("cnatool score --set cna=", shell=shell)
    assert found == [f"cna={word}" for word in get_args(CnaForm)]
    found = complete("cnatool score --set include_output=", shell=shell)
    assert found == ["include_output=true", "include_output=false"]
    assert complete("cnatool score --set bins=", shell=shell) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_stores(shell: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    names = ("a.zarr", "b.h5", "a.onnx", "sub/c.zarr.zip", "notes.txt", ".a.zarr.lock", "x y.zarr")
    for name in names:
        (tmp_path / name).touch()
    for words in ("score ", "compare a.zarr ", "merge a.zarr ", "study ", "score a.zarr --test "):
        assert complete(f"cnatool {words}", shell=shell, cwd=tmp_path) == ["a.zarr", "b.h5"], words
    assert complete("cnatool inspect a", shell=shell, cwd=tmp_path) == ["a.onnx", "a.zarr"]
    assert complete("cnatool verify sub/", shell=shell, cwd=tmp_path) == ["sub/c.zarr.zip"]
    there = f"cnatool dump m.onnx --inputs-from {shlex.quote(str(tmp_path))}/b"
    assert complete(there, shell=shell) == [f"{tmp_path}/b.h5"]
    # Without a store, the shell completes folders and files itself.
    for words in ("score s", "score nothing/", "dump "):
        assert complete(f"cnatool {words}", shell=shell, cwd=tmp_path) == []


@pytest.mark.parametrize("words", ["", "dump --co", "dump --codec ", "score --set ", "schema "])
def test_the_shell_does_not_wait_for_libraries(words: str) -> None:
    code = (
        "import os, sys\n"
        "os.environ['_CNATOOL_COMPLETE'] = 'complete_bash'\n"
        f"os.environ['COMP_WORDS'] = {f'cnatool {words}'!r}\n"
        f"os.environ['COMP_CWORD'] = '{words.count(' ') + 1}'\n"
        "from cnatool.cli import main\n"
        "sys.argv = ['cnatool']\n"
        "try:\n    main()\n"
        "finally:\n    print('loaded', *sys.modules)"
    )
    *offered, modules = python(code).splitlines()
    assert offered
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert not loaded & {"numpy", "onnx", "onnxruntime", "polars", "rich", "scipy", "zarr"}
