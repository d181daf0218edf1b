"""Values of options that are refused, in the words of cnatool."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import refused, run


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--limit", "-1", "must be 1 or more"),
        ("--seed", "1.5", "must be a whole number"),
        ("--flatness-target", "x", "must be a number"),
        ("--keep", "nothing", "'nothing' is not one of 'full', 'statistics'."),
    ],
)
def test_on_the_command_line_and_in_a_file(
    tmp_path: Path, option: str, value: str, text: str
) -> None:
    lines = run("dump", "a", "b", option, value, cwd=tmp_path, code=2).stderr.splitlines()
    assert lines[-1] == f"Error: Invalid value for '{option}': {text}"
    key = option.removeprefix("--")
    (tmp_path / "c.toml").write_text(f'[dump]\nmodel = "a"\n{key} = "{value}"\n')
    assert refused("dump", "--config", "c.toml", cwd=tmp_path).endswith(f"{key}: {text}")
