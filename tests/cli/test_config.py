"""Options from a file, and as a file."""

from __future__ import annotations

import json
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command import refused, run
from support.dumps import make_data, same_arrays

import cnatool
import cnatool.store.verify
from cnatool.backend.schedule import processors

# Everything but surrogates, which no UTF-8 has.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = TEXTS.filter(lambda text: "=" not in text and not text.startswith("-"))
PAIRS = st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3)
OPTIONS = {
    "labels": NAMES,
    "label-offset": st.integers(0, 9),
    "split": PAIRS,
    "holdout": st.floats(0.01, 0.99),
    "limit": st.integers(1, 99),
    "on-error": st.sampled_from(["stop", "skip"]),
    "follow-links": st.just(True),
    "input": PAIRS,
    "keep": st.sampled_from(["full", "statistics"]),
    "tensors": st.lists(NAMES, min_size=1, max_size=3),
    "tag": PAIRS,
    "batch-size": st.integers(1, 99),
    "output": st.just("a.zarr"),
}
# Workers decide the rest, so that nothing is read: neither the model nor the data is there.
ASKED = {"model": "m.onnx", "data": "some data", "dask": "127.0.0.1:1"}


def words_of(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for key, value in options.items():
        if value is True:
            words.append(f"--{key}")
        elif isinstance(value, dict):
            words += [f"--{key}={name}={text}" for name, text in value.items()]
        elif isinstance(value, list):
            words += [f"--{key}={text}" for text in value]
        else:
            words.append(f"--{key}={value}")
    return words


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=st.fixed_dictionaries({}, optional=OPTIONS))
def test_what_is_printed_repeats_the_options(tmp_path: Path, options: dict[str, Any]) -> None:
    words = ["--dask", ASKED["dask"], *words_of(options), "--print-config"]
    printed = run("dump", ASKED["model"], ASKED["data"], *words).stdout
    found = tomllib.loads(printed)["dump"]
    assert found.items() >= (ASKED | options).items()
    (tmp_path / "run.toml").write_text(printed, "utf-8")
    again = run("dump", "--config", tmp_path / "run.toml", "--print-config").stdout
    assert again == printed


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return make_data(tmp_path, 60, 20)


def test_a_file_repeats_a_dump(here: Path) -> None:
    words = ["--tag", "lr=0.1", "--tensors", "fc*", "--tensors", "!fc2", "--limit", "30"]
    printed = run("dump", "net.onnx", "data", *words, "--print-config", cwd=here).stdout
    assert sorted(path.name for path in here.iterdir()) == ["data", "net.onnx"]
    decided = tomllib.loads(printed)["dump"]
    assert decided["output"] == "net.zarr"
    run("dump", "net.onnx", "data", *words, "-o", "other.zarr", cwd=here)
    runtime = cnatool.open(here / "other.zarr").record.runtime
    assert runtime is not None
    assert decided["batch-size"] == runtime.batch_size
    (here / "run.toml").write_text(printed)
    assert run("dump", "--config", "run.toml", cwd=here).stdout == "net.zarr\n"
    same_arrays(here / "net.zarr", here / "other.zarr")
    assert cnatool.open(here / "net.zarr").record.runtime == runtime
    one = run("dump", "net.onnx", "data", "--threads", "1", "--print-config", cwd=here).stdout
    assert tomllib.loads(one)["dump"]["threads"] == 1
    assert decided["threads"] == processors()
    # What is there already does not keep its options from being printed.
    assert run("dump", "--config", "run.toml", "--print-config", cwd=here).stdout == printed


def test_one_file_has_the_options_of_several_commands(here: Path) -> None:
    (here / "run.toml").write_text(
        """
        [dump]
        model = "net.onnx"
        data = "data"
        output = "a.zarr"
        keep = "statistics"
        mean = [0.5]
        tag = {seed = 3, wide = true}

        [score]
        store = "a.zarr"
        set = {bins = 64, include_output = true, layers = "fc*"}
        """
    )
    run("dump", "--config", "run.toml", "--progress", "none", cwd=here)
    assert cnatool.open(here / "a.zarr").record.tags == {"seed": "3", "wide": "true"}
    found = json.loads(run("score", "--config", "run.toml", "--json", cwd=here).stdout)
    assert found["convention"]["overrides"] == {
        "bins": 64,
        "include_output": True,
        "layers": "fc*",
    }
    # The command line goes before, for what can be repeated as a whole.
    words = ["--config", "run.toml", "--set", "bins=32", "--json"]
    found = json.loads(run("score", *words, cwd=here).stdout)
    assert found["convention"]["overrides"] == {"bins": 32}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dump]\nbatch_size = 3", "[dump] batch_size: there is no such option. Did you mean "
         "batch-size?"),
        ("[dump]\nmodle = 'x'", "[dump] modle: there is no such option. Did you mean model?"),
        ("[dmp]", "dmp: there is no such command. Did you mean dump?"),
        ("limit = 3", "limit: there is no such command. There are dump, "),
        ("dump = 3", "dump: must be a table, [dump]."),
        ("[score]\nset = {}", " has no table [dump], "),
        ("[dump]\ntag = {'a=b' = 'c'}", "[dump] tag: a name cannot have an equals sign, as 'a=b'"),
        ("[dump]\nresume = 'yes'", "[dump] resume: must be true or false."),
        ("[dump]\nbatch-size = 0", "[dump] batch-size: "),
        ("[dump]\nbatch-size = 1.5", "[dump] batch-size: "),
        ("[dump]\nkeep = 'all'", "[dump] keep: 'all' is not one of 'full', 'statistics'."),
        ("[dump]\nmodel = ['a']", "[dump] model: must be text or a number."),
        ("[dump]\ntag = {a = [1]}", "[dump] tag: must be text or a number."),
        ("[dump]\nresize = {a = 1}", "[dump] resize: must be text or a number, or a list."),
        ("[dump]\nconfig = 'b.toml'", "[dump] config: there is no such option."),
        ("[dump", "cannot be read as TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    said = refused("dump", "--config", "run.toml", cwd=tmp_path)
    assert said.startswith("cnatool: run.toml")
    assert message in said


def test_quiet_in_a_file_silences_libraries(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*words: Any, **options: Any) -> Any:
        warnings.warn("careful", stacklevel=1)
        return verify(*words, **options)

    verify = cnatool.store.verify.verify
    monkeypatch.setattr(cnatool.store.verify, "verify", warn)
    run("dump", "net.onnx", "data", "-q", cwd=here)
    (here / "run.toml").write_text("[verify]\nstore = 'net.zarr'\nquiet = true")
    assert "careful" in run("verify", "net.zarr", cwd=here).stderr
    for words in (["net.zarr", "-q"], ["--config", "run.toml"]):
        assert run("verify", *words, cwd=here).stderr == ""


def test_a_url_in_a_file_is_refused_like_one_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[dump]\nmodel='m'\ninputs-from='s3://me:secret@b/a.zarr'")
    said = refused("dump", "--config", "run.toml", cwd=tmp_path)
    assert "secret" not in said
    assert "user, a password" in said
