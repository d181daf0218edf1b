"""What the figures depend on: the machine, and the versions of what is measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from figures import Machine

import cnatool

PEERS = ("torch", "torchlens", "polygraphy", "h5py")


def describe_machine(load: float) -> Machine:
    """Describe this machine, whose load was ``load`` when the run began."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=names[0] if names else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 1e9, 1),
        load=(round(load, 2), round(os.getloadavg()[0], 2)),
    )


def list_versions(peers: Path) -> dict[str, str]:
    """Return the versions of cnatool, of what it runs on, and of the peers that are installed."""
    versions = {"cnatool": describe_package(), "Python": platform.python_version()}
    for name in ("numpy", "onnxruntime", "scipy"):
        versions[name] = importlib.metadata.version(name)
    return versions | find_versions(peers, PEERS)


def describe_package() -> str:
    """Return the version of cnatool, and its commit if it runs from a repository."""
    folder = Path(cnatool.__file__).parent
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return cnatool.__version__
    commit = done.stdout.strip()
    return f"{cnatool.__version__} ({commit})" if commit else cnatool.__version__


def find_versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the versions of those distributions that are in the environment of an interpreter."""
    code = (
        "import sys; from importlib.metadata import distributions\n"
        "for each in distributions():\n"
        "    if each.name in sys.argv: print(each.name, each.version)"
    )
    command = [str(python), "-c", code, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    return {name: found[name] for name in names if name in found}
