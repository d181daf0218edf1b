"""The options of ``cnatool dump`` are the fields of `DumpOptions`, and the reverse."""

import dataclasses
import re
from typing import Any

import typer

from cnatool.cli.app import app
from cnatool.dumping.options import DATA, PREPROCESSING, DumpOptions

FIELDS = {field.name: field for field in dataclasses.fields(DumpOptions)}
# A program alone has an observer; the fields of `Flatness` are options of their own.
PYTHON_ONLY = {"observer"}
FLATNESS = {"flatness_samples", "flatness_draws", "flatness_target"}
COMMAND_ONLY = {"model", "data", "store", "dry_run", "json", "quiet"}
COMMAND_ONLY |= {"config", "print_config", "progress"}


def parameters(*names: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    return {parameter.name: parameter for parameter in command.params if parameter.name != "help"}


def test_every_field_is_an_option_of_the_command() -> None:
    found = parameters("dump")
    assert found.keys() - COMMAND_ONLY - FLATNESS == FIELDS.keys() - PYTHON_ONLY
    assert found.keys() >= COMMAND_ONLY | FLATNESS
    for name in found.keys() & FIELDS.keys():
        # An option that may be repeated is spelled in the singular.
        spelled = found[name].opts[0].removeprefix("--").replace("-", "_")
        assert name in (spelled, f"{spelled}s") or not found[name].multiple


def test_the_help_is_the_description_of_the_field() -> None:
    for name, option in parameters("dump").items():
        # A client has another form on the command line.
        if name in FIELDS and name != "client":
            first = re.sub(r"`\w+`", "…", FIELDS[name].metadata["summary"]).split("…")[0]
            assert option.help.startswith(first)
        assert "`" not in option.help


def test_preprocess_show_has_the_options_of_data_and_of_preprocessing() -> None:
    panels = {name: field.metadata["panel"] for name, field in FIELDS.items()}
    expected = {name for name, panel in panels.items() if panel in (DATA, PREPROCESSING)}
    assert expected | {"keep_inputs"} <= parameters("preprocess", "show").keys()
