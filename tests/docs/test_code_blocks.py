"""Every code block of the README and of the pages of docs/ does what its page says.

The blocks of a page run in order, in a folder of their own and in one namespace. What they read is
made of the demo's networks and digits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.buckets import Bucket, Server, use_bucket
from support.code_blocks import Block, Command, read_blocks, read_commands
from support.command import run
from support.page_files import make_demo_files

from cnatool.store import object_client

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in read_blocks(page, str(page.relative_to(ROOT)))]
BUCKET = "bucket"
RUN = {"bash", "console", "python"}
LANGUAGES = {*RUN, "json", "text", "toml", "yaml"}
# Commands that change the machine, or that a scheduler starts.
_ELSEWHERE = (
    "cd ",
    "docker ",
    "git ",
    "pip ",
    "pipx ",
    "python -m pip ",
    "conda ",
    "export ",
    "sbatch ",
    "uv",
)
# What these write is made once for all pages that show them.
_SHARED = ("cnatool demo -o demo", "cnatool study demo -o study --cluster run")
# Numbers may differ in their last digits between processors and versions of the runtime.
_RELATIVE, _ABSOLUTE = 0.02, 0.015


class Shared:
    """What the commands that several pages begin with write and print."""

    def __init__(self, demo: tuple[Path, str]) -> None:
        self._folder, self.demo_output = demo
        self._printed = {_SHARED[0]: self.demo_output}

    def copy(self, command: str, folder: Path) -> str:
        """Put what a command writes into the folder of a page; return what it prints."""
        words = command.split()
        if command not in self._printed:
            self._printed[command] = run(*words[1:], cwd=self._folder).stdout
        written = words[words.index("-o") + 1]
        shutil.rmtree(folder / written, ignore_errors=True)
        shutil.copytree(self._folder / written, folder / written)
        return self._printed[command]


class Workplace:
    """The folder and the namespace of a page, and how far its blocks have run."""

    def __init__(self, folder: Path, shared: Shared, blocks: list[Block]) -> None:
        self.folder = folder
        self._shared = shared
        self._blocks = blocks
        self._done = 0
        self._names: dict[str, Any] = {"__name__": "page"}

    def run_through(self, block: Block) -> None:
        """Run a block, and those before it that have not run."""
        while self._done <= self._blocks.index(block):
            self._done += 1
            each = self._blocks[self._done - 1]
            # Without its server, a block about a bucket would wait for one for long.
            is_served = uses_bucket(block) or not uses_bucket(each)
            if each.language in RUN and is_served and skip_reason(each) is None:
                with contextlib.chdir(self.folder):
                    self._run(each)

    def _run(self, block: Block) -> None:
        before = block.directives.get("before", "")
        if block.language == "python":
            self._execute(before, block, self._names)
            self._execute(block.text, block, self._names)
        else:
            # What prepares a command is not there for code that readers see.
            self._execute(before, block, {})
            *first, last = read_commands(block)
            for command in first:
                self._run_command(command, 0)
            self._run_command(last, int(block.directives.get("exit code", 0)))

    def _execute(self, code: str, block: Block, names: dict[str, Any]) -> None:
        # Blank lines before the code, so that a traceback has the line of the page.
        compiled = compile("\n" * block.line + code, str(ROOT / block.page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compiled, names)
        for call, comment in re.findall(r"^(print\(.*\))  # (.+)$", code, re.MULTILINE):
            check_comment(call, comment, printed.getvalue())

    def _run_command(self, command: Command, code: int) -> None:
        if command.text.startswith(_ELSEWHERE):
            return
        words = split_words(command.text)
        if command.text in _SHARED:
            printed = self._shared.copy(command.text, self.folder)
        elif command.text == "cnatool demo":
            printed = self._shared.demo_output
        elif words[0] == "cnatool":
            result = run(*words[1:], code=None)
            printed = result.stdout + result.stderr
            assert result.returncode == code, f"{command.text}\n{printed}"
        else:
            subprocess.run(words, check=True, timeout=600)
            return
        check_output(command, printed)


def split_words(text: str) -> list[str]:
    """Split a command into words as a shell does, with its globs expanded."""
    words: list[str] = []
    for word in shlex.split(text, comments=True):
        quoted = f"'{word}'" in text or f'"{word}"' in text
        found = (
            sorted(str(path) for path in Path().glob(word)) if "*" in word and not quoted else []
        )
        words += found or [word]
    return words


def check_output(command: Command, printed: str) -> None:
    """Check that every line that the page shows was printed; … stands for what is left out."""
    lines = [line.split() for line in printed.splitlines()]
    for shown in command.shown:
        if not shown.strip(" …─"):
            continue
        words = shown.split()
        assert any(is_alike(words, line) for line in lines), (
            f"the page shows what `{command.text}` does not print:\n{shown}\n\n{printed}"
        )


def check_comment(call: str, comment: str, printed: str) -> None:
    """Check that the comment behind a call of print is what a printed line is, or ends with."""
    shown = comment.split()
    assert any(is_alike(shown, line.split()[-len(shown) :]) for line in printed.splitlines()), (
        f"the page says that `{call}` prints {comment}:\n\n{printed}"
    )


def is_alike(shown: list[str], printed: list[str]) -> bool:
    if shown[-1] == "…":
        return len(printed) >= len(shown) and all(map(is_same_word, shown[:-1], printed))
    return len(shown) == len(printed) and all(map(is_same_word, shown, printed))


def is_same_word(shown: str, printed: str) -> bool:
    numbers = [re.fullmatch(r"[(≤]?([−-]?\d[\d,]*\.?\d*)(%?[),;:]*)", w) for w in (shown, printed)]
    if shown == printed or None in numbers:
        return shown == printed
    one, other = (float(n[1].replace(",", "").replace("−", "-")) for n in numbers if n)
    return abs(one - other) <= max(_ABSOLUTE, _RELATIVE * abs(one))


def check_syntax(block: Block) -> None:
    """Check what does not run here as far as that goes."""
    if block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    elif block.language == "python":
        compile(block.text, str(block), "exec")


def uses_bucket(block: Block) -> bool:
    return f"s3://{BUCKET}/" in block.text


def skip_reason(block: Block) -> str | None:
    """Return why a block does not run here; None if it does."""
    if "not run" in block.directives:
        return block.directives["not run"]
    modules = block.directives.get("needs", "").replace(",", " ").split()
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@pytest.fixture(scope="module")
def workplaces(
    made_demo: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Workplace]:
    """A workplace for each page, with the files that pages take for granted."""
    made, shared = {}, Shared(made_demo)
    for page in {block.page for block in BLOCKS}:
        folder = tmp_path_factory.mktemp("page")
        make_demo_files(folder)
        blocks = [block for block in BLOCKS if block.page == page]
        made[page] = Workplace(folder, shared, blocks)
    return made


@pytest.fixture(scope="module")
def served() -> set[str]:
    """Pages that have put something into the bucket."""
    return set()


@pytest.fixture
def documented_bucket(
    bucket_server: Server,
    served: set[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[None]:
    """The bucket of the pages' URLs, empty at the beginning of each page."""
    use_bucket(monkeypatch, bucket_server.url)
    bucket, page = Bucket(bucket_server, BUCKET), request.node.callspec.params["block"].page
    bucket.send("PUT")
    for key in [] if page in served else bucket.list():
        bucket.delete(key)
    served.add(page)
    yield
    object_client.connect.cache_clear()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_does_what_its_page_says(
    block: Block, workplaces: dict[str, Workplace], request: pytest.FixtureRequest
) -> None:
    assert block.language in LANGUAGES, "name the language of the block, or `text`"
    if (reason := skip_reason(block)) is not None:
        check_syntax(block)
        pytest.skip(reason)
    if uses_bucket(block):
        request.getfixturevalue("documented_bucket")
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language in RUN:
        workplaces[block.page].run_through(block)


def test_output_that_is_not_printed_is_noticed() -> None:
    """The comparison itself: numbers of other digits pass, other numbers and words do not."""
    check_output(Command("x", ("CNA  0.1483", "…", "7 tensors, …")), "CNA 0.1484\n7 tensors, 4 x")
    for shown in ("CNA  0.1983", "CNB  0.1483", "CNA 0.1483 more"):
        with pytest.raises(AssertionError, match="does not print"):
            check_output(Command("x", (shown,)), "CNA 0.1484\n")
