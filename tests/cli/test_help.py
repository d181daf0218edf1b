"""The help: whole, in panels, in step with the documentation; and completion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.command import python, run

from cnatool.cli.app import app
from cnatool.cli.parsing import summary

ROOT = Path(__file__).parents[2]
DOCS = "\n".join(
    path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
)


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield " ".join([*before, name]), command


GROUP: Any = typer.main.get_command(app)
COMMANDS = dict(commands(GROUP))
OPTIONS = [
    pytest.param(name, parameter, id=f"{name} {parameter.opts[-1]}")
    for name, command in COMMANDS.items()
    for parameter in command.params
]


def help_text(*words: str, columns: int = 80) -> str:
    return run(*words, "--help", COLUMNS=str(columns)).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_short_summary_and_is_documented(name: str) -> None:
    assert re.fullmatch(r"[A-Z][a-z].*\.", summary(COMMANDS[name]))
    assert f"cnatool {name}" in DOCS


def test_the_listed_summaries_are_those_of_the_commands() -> None:
    listed = {name: text for panel in GROUP.summaries().values() for name, text in panel.items()}
    assert listed == {name: summary(command) for name, command in GROUP.commands.items()}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["schema", "score"]])
def test_no_command_waits_for_another(words: list[str]) -> None:
    code = (
        "import sys\nfrom cnatool.cli import main\n"
        f"sys.argv = {['cnatool', *words]!r}\ntry:\n    main()\nfinally:\n"
        "    print('end', *(m for m in sys.modules if 'cli.commands.' in m))"
    )
    modules = python(code).splitlines()[-1].split()
    assert modules[1:] == (["cnatool.cli.commands.schema"] if words[0] == "schema" else [])


@pytest.mark.parametrize(("name", "parameter"), OPTIONS)
def test_a_parameter_has_help_and_is_documented(name: str, parameter: Any) -> None:
    assert re.fullmatch(r"[A-Za-z.].*[.)…]", parameter.help)
    if parameter.param_type_name == "argument":
        assert parameter.metavar
        return
    option = next(spelling for spelling in parameter.opts if spelling.startswith("--"))
    assert re.search(rf"{option}(?![\w-])", DOCS)
    assert option in help_text(*name.split())


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["", "preprocess", *COMMANDS])
def test_no_help_is_cut_or_too_wide(name: str, columns: int) -> None:
    text = help_text(*name.split(), columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    for several in ("]...", "STORE...", "PART..."):
        words = words.replace(several, several.removesuffix("..."))
    assert "..." not in words
    shown = {"": GROUP.commands, "preprocess": GROUP.commands["preprocess"].commands}.get(name)
    if shown is None:
        texts = [parameter.help for parameter in COMMANDS[name].params]
    else:
        texts = [command.help.partition("\n\n")[0] for command in shown.values()]
    # A narrow help is wrapped at hyphens, too.
    for whole in texts:
        assert "".join(whole.split()) in "".join(words.split())


def test_the_summary_of_a_command_fits_a_line() -> None:
    lines = help_text().splitlines()
    for name, command in GROUP.commands.items():
        assert any(line.split() == [name, *command.help.partition("\n\n")[0].split()]
                   for line in lines), name  # fmt: skip


def test_options_stand_in_panels() -> None:
    assert re.findall(r"^(\w.*):$", help_text("dump"), re.MULTILINE) == [
        "Arguments",
        "Data",
        "Preprocessing",
        "What is stored",
        "How it runs",
        "Store",
        "Options",
    ]
    headings = re.findall(r"^(\w.*):$", help_text("study"), re.MULTILINE)
    assert headings == [
        "Arguments",
        "Stores",
        "Definitions",
        "Correlations",
        "How it runs",
        "Output",
        "Options",
    ]
    assert "Usage: cnatool study [OPTIONS] [STORE...]" in help_text("study")
    assert "Usage: cnatool drift [OPTIONS] STORE [STORE2]\n" in help_text("drift")


@pytest.mark.parametrize(
    ("name", "older"),
    [
        ("study", "--folder"),
        ("trajectory", "--folder"),
        ("landscape", "--folder"),
        ("plot", "--to"),
    ],
)
def test_an_older_spelling_works_unshown(name: str, older: str, tmp_path: Path) -> None:
    text = help_text(name)
    assert older not in text
    assert "-o, --output" in text
    words = ["--figure", "gap"] if name == "plot" else []
    result = run(name, tmp_path, *words, older, tmp_path / "new", code=2)
    assert "No such option" not in result.stderr


def complete(words: str, *, shell: str = "bash") -> list[str]:
    environment = {
        "_CNATOOL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    return run(**environment).stdout.split()


def test_words_are_completed() -> None:
    assert complete("cnatool la") == ["layers", "landscape"]
    assert complete("cnatool dump --batch") == ["--batch-size"]
    assert complete("cnatool plot --o") == ["--output", "--order"]
    assert complete("cnatool study --f") == ["--from"]
    assert complete("cnatool convert --codec z") == ["zstd"]
    assert complete("cnatool score --convention ") == ["paper", "reference", "legacy"]
    assert complete("cnatool plot --figure tr") == ["trajectory"]
    # Files are the shell's own.
    assert complete("cnatool score ") == []


def test_the_shell_gets_a_script() -> None:
    for name in ("--install-completion", "--show-completion"):
        assert name in help_text()
    # Not by --show-completion, which looks at the shell that started the tests.
    script = run(_CNATOOL_COMPLETE="source_bash").stdout
    assert "_CNATOOL_COMPLETE=complete_bash" in script
