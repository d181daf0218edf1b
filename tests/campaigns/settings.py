"""Every option of every command with values that nobody would expect."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer

import cnatool
from campaigns.campaign import Attack, Outcome
from campaigns.commands import run_command
from campaigns.damage import Folder
from campaigns.limits import limited_memory
from campaigns.specimens import make_model_and_data
from cnatool.cli.app import app

_MEMORY = 6 << 30
_NUMBERS = (
    *("0", "-1", "1", "2", "3", "10", "25", "1e3", "0.5", "-0.5", "1/3", "1/0", "nan", "inf"),
    *("-inf", "1e400", str(2**31), str(2**63), str(2**64), str(10**30), "0x10", "١", "", " 1 "),
    *("1_000", "+3", "--", "1,2,3", "1,,2", "9" * 5000),
)
_WORDS = (
    *("", " ", "x", "all", "layers", "none", "paper", "reference", "legacy", "train", "test"),
    *("!*", "*", "[", "[!", "**", "fc1", "relu1", "logits", "x=y", "=", "a=", "=b", "a=b=c"),
    *("epoch", "epoch=1", "seed", "cna", "cna,cna_m", "train=data/train.npz", "test=data"),
    *("resamples=0", "resamples=-1", "resamples=x", "layers=all", "bins=0", "bins=3", "x=x"),
    *("chw", "hwc->chw", "->", "flat", "8", "8x8", "0x0", "-1x8", "99999x99999", "8x", "rgb"),
    *("../x", "/etc/passwd", "/dev/zero", "~", ".", "..", "/", "a/b/c", "a\nb", "\x1b[31m", "‮x"),
    *("é", "\udcff", "x" * 300, "y" * 5000, "%s%n{}", "$(x)", "'; --", "-", "--", "-x", "--help"),
    *("x=0:1x8x64", "x=1", "x=no.npy", "x=0:99999x99999x999", "1/255", "0.1,0.2", "http://x/y"),
    *(
        "s3://b/k",
        "file:///etc/passwd",
        "C:\\x",
        "NUL",
        "s.zarr::splits/test/inputs/0",
        "::",
        "x::y",
    ),
)
_PATHS = (
    *("s.zarr", "s.h5", "t.zarr", "m.onnx", "data", "data/train.npz", "prepare.json", "study"),
    *("empty", "empty.zarr", "broken.onnx", "new.zarr", "new.h5", "new.png", "new", "table.csv"),
    *("table.parquet", "s.zarr/zarr.json", "s.zarr/splits", ".", "..", "no", "/dev/null", "", "-"),
    *("a\nb", "x" * 300, "new.svg", "new.html", "link", "é.zarr", "\udcff.zarr", "stores"),
)
_STORES = ("s.zarr", "s.h5", "t.zarr", "stores/0.zarr")
_ENDINGS = ("", ".zarr", ".h5", ".png", ".svg", ".html", ".json")
# What fits, by what the help calls it; words where that says nothing.
_BY_METAVAR = {
    "FIELD=VALUE": (
        *("resamples=0", "layers=all", "bins=4", "alpha=x", "aggregate=mean", "depth=1", "level=2"),
        *(
            "interval=x",
            "points=3",
            "window=0.5",
            "margin=x",
            "gap=x",
            "area=reference",
            "range=0,1",
        ),
    ),
    "NAME=PATH": ("train=data/train.npz", "test=data/test.npz", "x=data", "a b=data/test.npz"),
    "INPUT=VALUE": ("x=0", "x=1,2", "x=0:1x64", "y=1"),
    "INPUT=ARRAY": ("x=x", "x=y", "y=x"),
    "KEY=VALUE": ("epoch=1", "a=b", "é=‮", "x==", "seed=0"),
    "TAG": ("epoch", "seed", "no"),
    "ID": ("0", "train.npz:0", "5", "49"),
    "SIDE|HxW": ("8", "8x8", "4", "16x4"),
    "M[,M…]": ("0", "0.5", "0.1,0.2,0.3"),
    "S[,S…]": ("1", "0.5", "0.1,0.2,0.3"),
    "S|1/N": ("1/255", "0.5", "2"),
    "[FROM->]TO": ("flat", "chw", "hwc->chw", "flat-hwc"),
    "all|layers|GLOB|!GLOB": ("all", "layers", "fc*", "!relu*", "logits"),
    "NAME|all": ("all", "min", "max", "abs_sum"),
    "MEASURE,MEASURE": ("cna,cna_margin", "test.accuracy,gap"),
    "SPLIT": ("train", "test"),
    "[INPUT=]N,N,…": ("1,64", "x=2,64", "64"),
}
_ENVIRONMENT = {
    "COLUMNS": ("0", "-1", "1", "80", "x", "99999999", ""),
    "LINES": ("0", "x"),
    "NO_COLOR": ("1", ""),
    "FORCE_COLOR": ("1",),
    "TERM": ("dumb", "", "xterm", "x" * 100),
    "HOME": ("", "/nonexistent"),
    "TMPDIR": ("/nonexistent", ""),
    "LC_ALL": ("C", "xx_XX", ""),
    "TZ": ("x", "UTC+99"),
    "OMP_NUM_THREADS": ("0", "x", "-1"),
    "POLARS_MAX_THREADS": ("1",),
    "PYTHONWARNINGS": ("error", "x"),
    "_CNATOOL_COMPLETE": ("", "x", "bash_source"),
}


@contextmanager
def odd_settings(folder: Path) -> Iterator[Attack]:
    """Make what commands work on, and run one with random options a round."""
    whole = folder / "whole"
    _make(whole)
    files = Folder(whole)
    root = typer.main.get_command(app)
    commands = dict(_leaves(root, ()))
    names = sorted(commands)
    # The demo trains networks.
    others = [name for name in names if name != ("demo",)]

    def attack(number: int, rng: random.Random) -> Outcome:
        name = (names if number % 100 == 0 else others)[number % len(others)]
        words = [*name, *_words(commands[name], rng)]
        environment = {
            key: rng.choice(values) for key, values in _ENVIRONMENT.items() if rng.random() < 0.1
        }
        try:
            ended = run_command(words, whole, environment)
            return Outcome(" ".join(name), f"exit code {ended.code}")
        except BaseException as error:
            error.subject = " ".join(name)
            error.add_note(f"after: {environment} cnatool {words}")
            raise
        finally:
            files.restore()
            (whole / "link").symlink_to("s.zarr")

    with limited_memory(_MEMORY):
        yield attack


def _leaves(command: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give each command by its words; typer has its own kind of click's commands."""
    children: Mapping[str, Any] = getattr(command, "commands", {})
    if not children:
        yield name, command
    for word, child in children.items():
        yield from _leaves(child, (*name, word))


def _make(folder: Path) -> None:
    """Make models, data, stores, tables, and what only looks like these."""
    folder.mkdir()
    make_model_and_data(folder)
    cnatool.dump(folder / "m.onnx", folder / "data", folder / "s.zarr", threads=1)
    cnatool.convert(folder / "s.zarr", folder / "s.h5")
    (folder / "stores").mkdir()
    for number in range(3):
        cnatool.convert(folder / "s.zarr", folder / f"stores/{number}.zarr")
    cnatool.dump(
        folder / "m.onnx", folder / "data", folder / "t.zarr", threads=1, keep="statistics"
    )
    cnatool.study([folder / "s.zarr"], folder=folder / "study", resamples=0)
    shutil.copy(folder / "study/networks.parquet", folder / "table.parquet")
    shutil.copy(folder / "study/networks.csv", folder / "table.csv")
    (folder / "prepare.json").write_text('{"scale": 0.5, "mean": [0.1], "layout": "flat"}')
    (folder / "empty").mkdir()
    (folder / "empty.zarr").mkdir()
    (folder / "broken.onnx").write_bytes((folder / "m.onnx").read_bytes()[:99])
    (folder / "link").symlink_to("s.zarr")


def _words(command: Any, rng: random.Random) -> list[str]:
    """Give words for a command: some of its options, each with a fit or an odd value."""
    odd = rng.choice((0, 0.1, 0.5))
    words: list[str] = []
    for each in command.params:
        if each.param_type_name == "argument":
            wanted = 1 if rng.random() > odd / 4 else rng.choice((0, 2, 3))
            words += [_value(each, rng, odd) for _ in range(wanted)]
        elif rng.random() < min(0.5, 3 / len(command.params)):
            name = rng.choice([*each.opts, *each.secondary_opts])
            if name in ("--help", "--debug"):
                continue
            for _ in range(2 if each.multiple and rng.randrange(2) else 1):
                words += (
                    [name] if getattr(each, "is_flag", False) else [name, _value(each, rng, odd)]
                )
    if rng.random() < odd / 4:
        rng.shuffle(words)
    return [word.replace("\0", "") for word in words]


def _value(parameter: Any, rng: random.Random, odd: float) -> str:
    """Give a value for a parameter: one of its kind, or by the chance ``odd`` any at all."""
    if rng.random() < odd:
        return rng.choice((*_NUMBERS, *_WORDS, *_PATHS))
    kind = parameter.type_descriptor.annotation
    kinds = {kind, *get_args(kind), *(inner for each in get_args(kind) for inner in get_args(each))}
    choices = [each for one in kinds if _is_choice(one) for each in one]
    if choices:
        return str(rng.choice(choices).value)
    if kinds & {int, float}:
        return rng.choice(_NUMBERS) if rng.random() < odd else str(rng.randint(1, 20))
    if parameter.param_type_name == "argument" or Path in kinds:
        usual = {"model": "m.onnx", "data": "data", "preprocess": "prepare.json"}
        usual |= {"output": f"new{rng.choice(_ENDINGS)}", "target": "new.h5", "from_": "table.csv"}
        usual |= {"initial_model": "m.onnx", "name": rng.choice(("store", "score", "study"))}
        usual |= {"path": rng.choice(("m.onnx", "s.zarr"))}
        return usual.get(parameter.name) or rng.choice(_STORES)
    return rng.choice(_BY_METAVAR.get(str(parameter.metavar), _WORDS))


def _is_choice(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)
