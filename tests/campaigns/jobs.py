"""Commands that write, which campaigns disturb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from campaigns.made import BATCH, other

_RECORD = "campaigns.made:record"


@dataclass(frozen=True)
class Job:
    """A command that writes."""

    words: Callable[[str], tuple[object, ...]]
    again: Callable[[str], list[tuple[object, ...]]]
    result: Callable[[str], str]
    call: str = ""
    replaces: bool = False
    resumes: bool = False


def _dump(form: str) -> tuple[object, ...]:
    return ("dump", "../common/net.onnx", "../common/data", "-o", f"s.{form}", *BATCH)


def _convert(form: str) -> tuple[object, ...]:
    return ("convert", f"../common/dump.{other(form)}", f"s.{form}")


def _checkpoints(command: str, *words: object) -> Job:
    """A command over several stores that writes a folder, and is just begun again."""

    def line(form: str) -> tuple[object, ...]:
        return (command, *(f"../common/n{i}.{form}" for i in range(3)), "-o", "results", *words)

    return Job(line, lambda form: [line(form)], lambda form: "results")


def _store(form: str) -> str:
    return f"s.{form}"


JOBS = {
    "dump": Job(
        _dump,
        lambda form: [(*_dump(form), "--overwrite"), (*_dump(form), "--resume")],
        _store,
        resumes=True,
    ),
    "dump --resume": Job(
        lambda form: (*_dump(form), "--resume"),
        lambda form: [(*_dump(form), "--resume")],
        _store,
        resumes=True,
    ),
    "dump --overwrite": Job(
        lambda form: (*_dump(form), "--overwrite"),
        lambda form: [(*_dump(form), "--overwrite"), (*_dump(form), "--resume")],
        _store,
        replaces=True,
        resumes=True,
    ),
    "convert": Job(_convert, lambda form: [(*_convert(form), "--overwrite")], _store),
    "convert --overwrite": Job(
        lambda form: (*_convert(form), "--overwrite"),
        lambda form: [(*_convert(form), "--overwrite")],
        _store,
        replaces=True,
    ),
    "recorder": Job(
        lambda form: (f"s.{form}",),
        lambda form: [(f"s.{form}", "overwrite")],
        _store,
        call=_RECORD,
    ),
    "recorder, overwrite": Job(
        lambda form: (f"s.{form}", "overwrite"),
        lambda form: [(f"s.{form}", "overwrite")],
        _store,
        call=_RECORD,
        replaces=True,
    ),
    "study": _checkpoints("study", "--resamples", 20),
    "trajectory": _checkpoints("trajectory"),
    "landscape": _checkpoints("landscape", "--samples", 20, "--grid", 5),
}
