"""The code blocks of a Markdown page, and what comments before them say of running them.

A comment belongs to the block right after it::

    <!-- not run: a cluster -->        the block is skipped, for this reason
    <!-- needs: torch -->              the block is skipped where these modules are not installed
    <!-- exit code: 1 -->              what the block's last command ends with, 0 by default
    <!-- before: PYTHON -->            code that runs before the block, and readers need not see
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_BLOCK = re.compile(
    r"(?P<comments>(?:^ *<!--(?:(?!-->).)*-->\s*\n\s*)*)"
    r"^(?P<indent> *)```(?P<language>\w*)[ \t]*\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
DIRECTIVES = ("not run", "needs", "exit code", "before")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    directives: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a block, and the lines that the page shows below it."""

    text: str
    shown: tuple[str, ...]


def read_blocks(page: Path, name: str) -> list[Block]:
    """List the blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        comments = (comment.strip() for comment in _COMMENT.findall(match["comments"]))
        words = [comment.partition(":") for comment in comments]
        directives = {word: value.strip() for word, _, value in words if word in DIRECTIVES}
        line = text.count("\n", 0, match.start("text"))
        lines = match["text"].splitlines(keepends=True)
        body = "".join(each.removeprefix(match["indent"]) for each in lines)
        blocks.append(Block(name, line, match["language"], body, directives))
    return blocks


def read_commands(block: Block) -> list[Command]:
    """List the commands of a block in `bash`, or in `console` with their output."""
    if block.language == "bash":
        joined = block.text.replace("\\\n", " ")
        lines = (line.strip() for line in joined.splitlines())
        return [Command(line, ()) for line in lines if line and not line.startswith("#")]
    commands: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], ()))
        else:
            last = commands.pop()
            commands.append(Command(last.text, (*last.shown, line)))
    return commands
