"""Text for messages: names that are safe to print, sizes and times with units."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# Replacements of characters that the encoding of a terminal lacks.
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
# Characters that control a terminal, change the direction of text, or are invisible: controls (C0
# except the line feed, DEL, C1), bidirectional controls, line and paragraph separators, zero-width
# and other default-ignorable characters of Unicode, variation selectors, tags, and surrogates.
_HIDDEN = (
    "\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDDEN_CHARACTER = re.compile(f"[{_HIDDEN}]")
# Most characters of a message, which a small terminal shows at once, and of a word in a longer one.
_LONGEST_MESSAGE = 1800
_LONGEST_WORD = 160
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
# Most names that a message lists, and most characters of each.
_LISTED = 20
_LONGEST = 60
# Most names that are all shown where one of them is to be chosen.
_OFFERED = 40
# Most classes that a line names.
_CLASSES = 6


def escape(text: str) -> str:
    """Replace hidden and unprintable characters by Python escapes."""
    if text.isprintable() and _HIDDEN_CHARACTER.search(text) is None:
        return text
    return "".join(
        character
        if character.isprintable() and _HIDDEN_CHARACTER.match(character) is None
        else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_json(document: str) -> str:
    """Replace hidden characters of a JSON document by equivalent JSON escapes."""
    # Most documents are ASCII, where JSON itself escapes all of them but DEL.
    if document.isascii() and "\x7f" not in document:
        return document
    if _HIDDEN_CHARACTER.search(document) is None:
        return document
    return _HIDDEN_CHARACTER.sub(_json_escape, document)


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def shorten(text: str, longest: int) -> str:
    """Replace the middle of a text that is too long by an ellipsis."""
    if len(text) <= longest:
        return text
    end = (longest - 1) * 2 // 5
    return f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"


def format_message(text: str) -> str:
    """Make a text safe to print on a terminal: escape hidden characters, and limit its length.

    A text that is too long first loses the middle of its longest words, such as names, and then its
    own middle, so that the advice at its end remains.
    """
    if len(text) > _LONGEST_MESSAGE:
        text = _LONG_WORD.sub(lambda word: shorten(word[0], _LONGEST_WORD), text)
    return shorten(escape(shorten(text, _LONGEST_MESSAGE)), _LONGEST_MESSAGE)


def printable(name: object) -> str:
    """Return a name as it is, or quoted and escaped if it contains hidden characters."""
    text = str(name)
    return text if escape(text) == text else escape(repr(text))


def quote_for_shell(path: str | Path) -> str:
    """Quote a path for a shell, with hidden characters as ``$'…'`` escapes."""
    text = str(path)
    if escape(text) == text:
        return shlex.quote(text)
    plain = (
        chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(path)
    )
    return f"$'{''.join(plain)}'"


def transliterate(text: str, encoding: str | None) -> str:
    """Replace characters that an encoding lacks: α by alpha, ≤ by <=, others by escapes."""
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return "".join(
            _transliterate_character(character, encoding or "ascii") for character in text
        )
    return text


def _transliterate_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        escape_sequence = character.encode("ascii", "backslashreplace").decode()
        return _TRANSLITERATED.get(character, escape_sequence)
    return character


def replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding error by `transliterate`, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end]
    return "".join(
        _transliterate_character(character, error.encoding) for character in piece
    ), error.end


def name_with_operator(name: str, operator: str) -> str:
    """Append the operator to a tensor's name, if it is known."""
    return f"{name} ({operator})" if operator else name


def list_names(names: Iterable[object]) -> str:
    """Join names by commas: the first of many, and the beginning of long ones."""
    every = list(names)
    shown = [printable(name) for name in every[:_LISTED]]
    text = ", ".join(n if len(n) <= _LONGEST else f"{n[:_LONGEST]}…" for n in shown)
    more = len(every) - len(shown)
    return f"{text} and {more:,} more" if more else text or "nothing"


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that is closest to another, or with those there are.

    Words in another order or with other signs between them are close: ``cna_train`` is
    ``train.cna``.
    """
    from difflib import get_close_matches

    names = list(known)
    words = _list_words(name)
    near = [each for each in names if _list_words(each) == words]
    near = near or get_close_matches(name, names, 1)
    if near:
        return f"Did you mean {printable(near[0])}?"
    every = ", ".join(map(printable, names)) if len(names) <= _OFFERED else list_names(names)
    return f"There are {every}."


def _list_words(name: str) -> list[str]:
    return sorted(filter(None, re.split(r"[\W_]+", name.casefold())))


def bytes_text(size: float) -> str:
    """Format a number of bytes to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def number_text(value: float | None, digits: int = 4) -> str:
    """Write a number for a table, no zero with a sign; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}"


def count_text(count: int, noun: str) -> str:
    """Write a number of things, with a noun in the singular or the plural.

    Examples
    --------
    >>> count_text(1, "sample"), count_text(1200, "sample")
    ('1 sample', '1,200 samples')
    """
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def all_text(count: int, noun: str) -> str:
    """Write all of some things, with a noun in the singular.

    Examples
    --------
    >>> all_text(1, "part"), all_text(2, "part"), all_text(1200, "part")
    ('the only part', 'both parts', 'all 1,200 parts')
    """
    if count == 1:
        return f"the only {noun}"
    return f"both {noun}s" if count == 2 else f"all {count_text(count, noun)}"


def time_text(seconds: float) -> str:
    """Format an estimated time, rounded to what an estimate can tell."""
    if seconds < 90:
        return f"{max(1, round(seconds / 5)) * 5} seconds"
    for unit, size in (("minutes", 60), ("hours", 3600)):
        if seconds < 90 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86400)} days"


def one_line(error: Exception) -> str:
    """Return an exception's text in one short line, or its type if there is no text."""
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
    """Return a sort key that orders numbers by value, before words."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
