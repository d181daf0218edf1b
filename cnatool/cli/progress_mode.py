"""How this process shows progress, as ``--progress`` says.

This module imports nothing: a signal may arrive before anything else is imported.
"""

_OPTION = "--progress"
_chosen = ["auto"]


def choose(mode: str) -> None:
    """Show progress in this way from now on."""
    _chosen[0] = mode


def chosen() -> str:
    """Return how progress is shown: auto, bar, lines, json or none."""
    return _chosen[0]


def choose_early(words: list[str]) -> None:
    """Choose JSON if a command line asks for it, before it is parsed: it may be wrong."""
    pairs = zip(["", *words], words, strict=False)
    asked = any(
        (before, word) == (_OPTION, "json") or word == f"{_OPTION}=json" for before, word in pairs
    )
    choose("json" if asked else "auto")


def is_json() -> bool:
    """Whether everything on standard error is JSON lines."""
    return chosen() == "json"
