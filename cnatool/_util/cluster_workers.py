"""Whether the workers of a cluster can be used: their versions, and the files that they see."""

from __future__ import annotations

import importlib.metadata
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cnatool._util.text import printable
from cnatool._util.urls import ObjectURL, is_url, parse_path
from cnatool._version import __version__
from cnatool.errors import CnatoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Packages that have to be the same everywhere: their results differ between versions.
_PACKAGES = ("numpy", "onnxruntime")


def absolute_path(path: str | Path) -> Path:
    """Return a path as every worker understands it; a URL of an object stays as it is."""
    located = parse_path(path)
    return located if isinstance(located, ObjectURL) else Path(os.path.abspath(path))  # noqa: PTH100


def name_as_given(error: CnatoolError, paths: Iterable[Path]) -> CnatoolError:
    """Return a worker's error with some paths as the user gave them, instead of absolute ones."""
    text = str(error.args[0])
    for path in paths:
        text = text.replace(str(absolute_path(path)), str(path))
    return type(error)(text)


class Probe(Protocol):
    """Something that the client places where it will write, and that every worker has to see."""

    @property
    def fault(self) -> str:
        """What is wrong with a worker that does not see it, and what helps."""

    def place(self) -> None:
        """Place it."""

    def is_seen(self) -> bool:
        """Whether this process sees it."""

    def remove(self) -> None:
        """Remove it."""


class WorkerDescription(NamedTuple):
    """What a worker says of itself."""

    versions: dict[str, str]
    missing: list[str]  # of the paths that it needs
    fault: str | None  # why it does not see what the client has placed


def check_nothing() -> None:
    """Find nothing wrong."""


def describe_worker(
    paths: list[str], probe: Probe | None, check: Callable[[], None]
) -> WorkerDescription:
    """Describe the process that this runs in: a worker."""
    fault = None
    try:
        if probe is not None and not probe.is_seen():
            fault = probe.fault
        check()
    except CnatoolError as error:
        fault = f"{error} Workers take credentials from their own environment."
    return WorkerDescription(
        _read_versions(),
        [path for path in paths if not (is_url(parse_path(path)) or os.path.lexists(path))],
        fault,
    )


def _read_versions() -> dict[str, str]:
    versions = {"cnatool": __version__}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def is_silent(described: WorkerDescription | Exception) -> bool:
    """Whether a worker did not answer, instead of failing to import what it was to call."""
    # Dask may wrap the error of a worker.
    failures = ("ImportError", "ModuleNotFound", "AttributeError")
    return isinstance(described, Exception) and not any(
        name in repr(described) for name in failures
    )


def find_fault(worker: str, described: WorkerDescription | Exception) -> str | None:
    """Find out why a worker cannot be used; None if it can."""
    if isinstance(described, Exception) and not is_silent(described):
        return (
            f"worker {worker} has no cnatool, or another version. Install cnatool {__version__} "
            "where the workers run."
        )
    if isinstance(described, Exception):
        return f"worker {worker} does not answer: {one_line(described)}."
    here = _read_versions()
    for name, version in here.items():
        there = described.versions.get(name, "not installed")
        if there != version:
            return (
                f"worker {worker}: {name} is {there}, and here {version}. Install the same "
                "versions on all workers."
            )
    if described.missing:
        return (
            f"worker {worker} does not see {printable(described.missing[0])}. Workers need a file "
            "system that they share, under the same paths."
        )
    return None if described.fault is None else f"worker {worker}: {described.fault}"


def one_line(error: BaseException) -> str:
    """Write the message of an error on one line, without its last full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
