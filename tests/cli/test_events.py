"""Progress as JSON lines: every line is an event, however the command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.command import COMMAND, run
from support.dumps import make_data

from cnatool.schemas import schema_text

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_text("progress")))
JSON = ("--progress", "json")


def events(text: str) -> list[dict[str, Any]]:
    """The events that standard error consists of."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        VALIDATOR.validate(event)
    times = [event["time"] for event in found]
    assert times == sorted(times)
    assert [event["event"] for event in found].count("end") == 1
    assert found[-1]["event"] == "end"
    return found


def kinds(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in found if event["event"] == kind]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_data(tmp_path_factory.mktemp("events"), 60, 20)
    for part in (1, 2):
        words = ("--part", f"{part}/2", "-o", f"part{part}.zarr")
        run("dump", "net.onnx", "data", *words, cwd=folder)
    run("dump", "net.onnx", "data", "-o", "a.zarr", cwd=folder)
    return folder


COMMANDS = {
    "dump": ["net.onnx", "data", "--overwrite"],
    "merge": ["part1.zarr", "part2.zarr", "-o", "whole.zarr", "--copy", "--overwrite"],
    "convert": ["a.zarr", "b.h5", "--overwrite"],
    "verify": ["a.zarr"],
    "score": ["a.zarr"],
    "layers": ["a.zarr"],
    "study": ["a.zarr"],
    "trajectory": ["a.zarr"],
    "plot": ["a.zarr", "--figure", "alpha-beta", "-o", "figure.json"],
    "report": ["a.zarr", "-o", "page.html", "--overwrite"],
    "compare": ["a.zarr", "a.zarr"],
    "inspect": ["a.zarr"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_writes_events(here: Path, command: str) -> None:
    if command == "plot":
        pytest.importorskip("altair", reason="altair is not installed")
    done = run(command, *COMMANDS[command], *JSON, cwd=here, code=None)
    found = events(done.stderr)
    assert (found[0]["event"], found[0]["command"]) == ("start", command)
    assert found[-1]["exit_code"] == done.returncode
    tasks: dict[str, list[tuple[int, int]]] = {}
    for event in kinds(found, "progress"):
        tasks.setdefault(event["task"], []).append((event["done"], event["total"]))
    assert bool(tasks) == (command not in ("compare", "inspect", "plot"))
    for counts in tasks.values():
        assert counts == sorted(counts)
        assert counts[-1][0] == counts[-1][1]


def test_notes_are_those_of_the_text(here: Path) -> None:
    words = ("dump", "net.onnx", "data", "--overwrite", "--dry-run")
    plain = run(*words, "--progress", "none", cwd=here)
    found = run(*words, *JSON, cwd=here)
    assert [event["text"] for event in kinds(events(found.stderr), "note")] == (
        plain.stderr.splitlines()
    )


@pytest.mark.parametrize(
    ("words", "error", "code"),
    [
        (["dump", "nothing.onnx", "data"], "nothing.onnx: no such model file.", 2),
        (["dump", "--no-such"], "No such option: --no-such", 2),
        (["nothing"], "No such command 'nothing'", 2),
        (["score", "a\nb.zarr"], "a\\nb.zarr", 2),
    ],
)
def test_an_error_is_in_the_last_event(here: Path, words: list[str], error: str, code: int) -> None:
    found = events(run(*words, *JSON, cwd=here, code=code).stderr)
    assert error in found[-1]["error"]
    assert found[-1]["exit_code"] == code


def test_a_traceback_is_in_the_last_event(here: Path) -> None:
    done = run("--debug", "dump", "no.onnx", "data", *JSON, cwd=here, code=None)
    assert "Traceback" in events(done.stderr)[-1]["error"]


def test_a_warning_is_an_event(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    import cnatool.store.reader

    def warn(*words: Any) -> Any:
        warnings.warn("careful with é", stacklevel=1)
        return opened(*words)

    opened = cnatool.store.reader.open_store
    monkeypatch.setattr(cnatool.store.reader, "open_store", warn)
    found = events(run("inspect", "a.zarr", *JSON, cwd=here).stderr)
    assert ["careful with é" in event["text"] for event in kinds(found, "warning")] == [True]


def test_quiet_leaves_the_first_and_the_last_event(here: Path) -> None:
    found = events(run("verify", "a.zarr", "-q", *JSON, cwd=here).stderr)
    assert [event["event"] for event in found] == ["start", "end"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_the_last_event(here: Path, number: int) -> None:
    words = ("dump", "net.onnx", "data", "-o", f"{number}.zarr", *JSON)
    with subprocess.Popen(
        [COMMAND, *words], cwd=here, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        os.kill(process.pid, number)
        found = events(first + process.stderr.read())
    assert process.returncode == 128 + number
    assert found[-1]["exit_code"] == 128 + number


def test_lines_and_none(here: Path) -> None:
    lines = run("verify", "a.zarr", "--progress", "lines", cwd=here).stderr
    assert "train: 60 of 60" in lines
    assert run("verify", "a.zarr", "--progress", "none", cwd=here).stderr == ""
