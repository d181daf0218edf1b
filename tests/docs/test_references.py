"""The pages that are made from the code are what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.command import run

import cnatool
from cnatool import errors

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_are_current() -> None:
    script = DOCS / "tools" / "references.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_public_name_is_described() -> None:
    text = (DOCS / "api.md").read_text("utf-8") + (DOCS / "errors.md").read_text("utf-8")
    for name in {*cnatool.__all__} - {"__version__", "CnatoolError"}:
        headings = (f"### cnatool.{name}\n", f"### class cnatool.{name}\n", f"## {name}\n")
        assert any(heading in text for heading in headings), name


@pytest.mark.parametrize("command", ["dump", "study", "preprocess show"])
def test_every_option_of_the_help_is_described(command: str) -> None:
    """Against the help as it is printed."""
    section = (DOCS / "cli.md").read_text("utf-8").split(f"## cnatool {command}\n")[1]
    described = section.split("\n## ")[0]
    printed = run(*command.split(), "--help").stdout
    options = {
        word.rstrip(",")
        for line in printed.splitlines()
        if line.startswith("  -")
        for word in line.split("  ")[1].split()
        if word.startswith("-")
    }
    assert len(options) > 10
    for option in options - {"--help"}:
        assert f"`{option}" in described or f", {option}" in described, option


def test_every_error_and_its_exit_code_is_described() -> None:
    text = (DOCS / "errors.md").read_text("utf-8")
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    for each in classes:
        if each is not errors.CnatoolError and issubclass(each, errors.CnatoolError):
            entry = f"[`{each.__name__}`](#{each.__name__.lower()}), exit code {each.exit_code}: "
            assert entry in text
    # Messages as the code composes them: of a constant, of parts, and of a choice between two.
    for form in ("the weights are all 0", "*path* is named twice.", "no such file or folder."):
        assert form in text
