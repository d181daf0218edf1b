"""Parameters in messages of the library, shown as options of the command that runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from cnatool._util.documents import Document
from cnatool._util.spelling import spell_parameters
from cnatool.cli import parameter_names
from cnatool.cli.app import app
from cnatool.cli.parameter_names import run_in, with_options


@pytest.fixture(autouse=True)
def no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no command running after a test."""
    monkeypatch.setattr(parameter_names, "_running", [])


def run(*names: str) -> None:
    """Act as if a command ran."""
    group: Any = typer.main.get_command(app)
    context: Any = typer.Context(group)
    for name in names:
        context = typer.Context(context.command.commands[name], parent=context)
    run_in(context)


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        # Options, flags and positional parameters.
        ("dump", "`inputs_from` needs a store", "--inputs-from needs a store"),
        ("dump", "give `inputs_from=STORE`.", "give --inputs-from STORE."),
        ("dump", "(`overwrite=True`)", "(--overwrite)"),
        ("dump", "`data` or `format`", "DATA or --format"),
        ("score", "`store`: no", "STORE: no"),
        ("study", "`strict=True`, or `folder`", "--strict, or --output"),
        ("study", "`frame` has `least_pairs`", "--from has --pairs"),
        ("score", "`output='y'`", "--scores-output y"),
        # Values.
        ("dump", "`scale=1/255` or `on_error='skip'`", "--scale 1/255 or --on-error skip"),
        ("dump", "`layout=hwc->chw`", "--layout hwc->chw"),
        ("dump", "`resize=(224, 224)`", "--resize 224x224"),
        ("dump", "`mean=(0.5, 0.25)`", "--mean 0.5,0.25"),
        ("dump", "`custom_ops=[FILE, 'a b.so']`", "--custom-ops FILE --custom-ops 'a b.so'"),
        ("dump", "`tensors='!/conv/Conv'`", "--tensors '!/conv/Conv'"),
        ("dump", "`batch_size=1`", "--batch-size 1"),
        # Functions that are no commands.
        (
            "layers",
            "`cnatool.score_samples` lists them",
            "`cnatool score STORE --samples FILE.csv` lists them",
        ),
        (
            "dump",
            "`flatness.samples` or `flatness.target=0.1`",
            "--flatness-samples or --flatness-target 0.1",
        ),
        # Conventions.
        ("score", "`depth='index'`", "--set depth=index"),
        ("score", "`range='LO:HI'`", "--set range=LO:HI"),
        ("score", "`overrides={'range': 'LO:HI'}`", "--set range=LO:HI"),
        ("dump", "`overrides={'layers': 'all'}`", "--set layers=all"),
        ("score", "`range=(-1, 1)`", "--set range=-1:1"),
        ("score", "`overrides={'include_output': True}`", "--set include_output=true"),
        ("score", "`layers='NAME,GLOB,…'`", "--set layers=NAME,GLOB,…"),
        ("score", "`layers` are", "--set layers are"),
        # Parameters of other commands, and calls.
        ("score", "dump with `initial_model=FILE`", "dump with --initial-model FILE"),
        ("score", "`dump(resume=True)` goes on", "`cnatool dump --resume` goes on"),
        ("score", "`cnatool.dump(..., keep='full')`", "`cnatool dump … --keep full`"),
        ("verify", "`inspect('net.onnx')`", "`cnatool inspect net.onnx`"),
        # What is no parameter stays.
        ("dump", "`nothing`, `a.b`, `f(x)`", "`nothing`, `a.b`, `f(x)`"),
        ("score", "run `cnatool inspect net.onnx`", "run `cnatool inspect net.onnx`"),
        # Names from files stay, whatever they look like.
        ("dump", "tensor '`keep`' of `keep`.onnx", "tensor '`keep`' of `keep`.onnx"),
        ("dump", "/tmp/`keep`/x and x=`keep`", "/tmp/`keep`/x and x=`keep`"),
        ("dump", "tensors keep, `keep and keep`", "tensors keep, `keep and keep`"),
    ],
)
def test_a_parameter_is_shown_as_an_option(command: str, text: str, shown: str) -> None:
    run(command)
    assert with_options(text) == shown
    # What is printed twice is rewritten once.
    assert with_options(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`split='test'`", "--of test"),
        ("`splits={'train': PATH, 'test': PATH}`", "--split train=PATH --split test=PATH"),
        ("`inputs={'x': ARRAY}`", "--input x=ARRAY"),
        ("`constants={INPUT: VALUE}`", "--constant INPUT=VALUE"),
        ("`constants={'h': np.full((1, N, 6), 0)}`", "--constant h=0:1xNx6"),
        ("`constants={'a': np.load('FILE.npy'), 'b': 1}`", "--constant a=FILE.npy --constant b=1"),
    ],
)
def test_a_command_of_a_group_has_its_own_options(text: str, shown: str) -> None:
    run("preprocess", "show")
    assert with_options(text) == shown


def test_the_library_itself_names_parameters() -> None:
    assert with_options("give `inputs_from=STORE`.") == "give `inputs_from=STORE`."


class _Result(Document, frozen=True):
    notes: list[str]
    cna: dict[str, str]
    tags: dict[str, str]


def test_json_of_a_command_names_options_in_texts_alone() -> None:
    run("score")
    result = _Result(
        ["`depth='path'`"], {"reason": "`layers`", "problem": "`inputs`"}, {"a": "`gap`"}
    )
    assert json.loads(result.to_json())["notes"] == ["`depth='path'`"]
    with spell_parameters(with_options):
        assert json.loads(result.to_json()) == {
            "notes": ["--set depth=path"],
            "cna": {"reason": "--set layers", "problem": "--inputs"},
            "tags": {"a": "`gap`"},
        }
