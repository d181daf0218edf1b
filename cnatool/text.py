"""Text for people: names from files made fit to print, sizes and times with units."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "bytes_text",
    "classes_text",
    "listed",
    "natural_order",
    "one_line",
    "printable",
    "replace_unencodable",
    "time_text",
    "transliterated",
    "with_operator",
]

# What a terminal shows of characters that its encoding lacks.
_TRANSLITERATED = {
    **dict(pair.split() for pair in (
        "α alpha", "β beta", "γ gamma", "δ delta", "ε epsilon", "λ lambda", "μ mu", "π pi",
        "ρ rho", "σ sigma", "τ tau", "φ phi", "ψ psi", "ω omega", "Δ Delta", "Λ Lambda",
        "Σ Sigma", "Φ Phi", "Ψ Psi", "Ω Omega", "× x", "· *", "• *", "± +/-", "√ sqrt",
        "≤ <=", "≥ >=", "≠ !=", "≈ ~", "∞ inf", "‖ ||", "² ^2", "³ ^3", "– -", "— -", "− -",
        "… ...", "→ ->", "← <-", "‘ '", "’ '", '“ "', '” "', "│ |", "┃ |",
    )),
    **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
    **dict.fromkeys("─━╶╴╸╺", "-"),
    **dict.fromkeys("┼┬┴├┤┌┐└┘╇╈╋", "+"),
    "\xa0": " ",
}  # fmt: skip
# Of what a message lists, so many, and of each no more than so much.
_LISTED = 20
_LONGEST = 60
# Classes that a line names.
_CLASSES = 6


def printable(name: object) -> str:
    """Show a name from a file: as it is, or quoted and escaped if it holds control characters."""
    text = str(name)
    return text if text.isprintable() else repr(text)


def transliterated(text: str, encoding: str | None) -> str:
    """Write what an encoding lacks in its characters: α as alpha, ≤ as <=, others as escapes."""
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return "".join(_fitting(character, encoding or "ascii") for character in text)
    return text


def _fitting(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        escaped = character.encode("ascii", "backslashreplace").decode()
        return _TRANSLITERATED.get(character, escaped)
    return character


def replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error as `codecs.register_error` has it, as `transliterated` does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end]
    return "".join(_fitting(character, error.encoding) for character in piece), error.end


def with_operator(name: str, operator: str) -> str:
    """Write a tensor's name with the operator that makes it, where that is known."""
    return f"{name} ({operator})" if operator else name


def listed(names: Iterable[object]) -> str:
    """Show names from a file with commas between them, the first of many and the start of long."""
    shown = [printable(name) for name, _ in zip(names, range(_LISTED), strict=False)]
    return ", ".join(n if len(n) <= _LONGEST else f"{n[:_LONGEST]}…" for n in shown) or "nothing"


def bytes_text(size: float) -> str:
    """Write a number of bytes with its unit, to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def time_text(seconds: float) -> str:
    """Write an estimated time with its unit, no finer than it can be known."""
    if seconds < 90:
        return f"{max(1, round(seconds / 5)) * 5} seconds"
    for unit, size in (("minutes", 60), ("hours", 3600)):
        if seconds < 90 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86400)} days"


def one_line(error: Exception) -> str:
    """Give an exception's text in one short line, or its kind where it has none."""
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


def classes_text(classes: Sequence[str]) -> str:
    """List the first classes by number and name, as in ``0 cat, 1 dog``."""
    named = [f"{number} {printable(name)[:40]}" for number, name in enumerate(classes[:_CLASSES])]
    if len(classes) > _CLASSES:
        last = len(classes) - 1
        named = [*named[: _CLASSES - 2], "…", f"{last} {printable(classes[last])[:40]}"]
    return ", ".join(named)


def natural_order(text: str) -> tuple[int, float, str]:
    """Give what sorts numbers by their size, before words."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
