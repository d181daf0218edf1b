"""Text that leaves: what is hidden is escaped, what is long is cut in its middle."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool._util.documents import Document
from cnatool._util.text import (
    escape,
    escape_json,
    format_message,
    list_names,
    printable,
    quote_for_shell,
    shorten,
    suggest_name,
)
from cnatool.errors import DataError, StoreDamagedError

# By Unicode's own categories and properties: controls, formats, separators, surrogates.
_HIDDEN = [
    *(chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Cc", "Zl", "Zp", "Cs")),
    *map(chr, (0xAD, 0x34F, 0x61C, 0x115F, 0x180E, *range(0x200B, 0x2010), 0x3164, 0xFEFF, 0xFFA0)),
    *map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10))),
    *map(chr, (0xE0001, *range(0xE0020, 0xE0080), *range(0xE0100, 0xE01F0))),
]


@pytest.mark.parametrize(
    "form", [escape, format_message, printable], ids=lambda form: form.__name__
)
def test_hidden_characters_are_escaped(form) -> None:  # type: ignore[no-untyped-def]
    for character in _HIDDEN:
        text = form(f"a{character}b")
        assert character not in text
        assert text.isprintable()
        assert "\\" in text


@pytest.mark.parametrize("text", ["a b", "größe α 日本 кот", "C:\\net", "👍🏽", "a'b\"c", ""])
def test_other_text_stays(text: str) -> None:
    assert escape(text) == format_message(text) == printable(text) == text
    assert escape_json(text) == text


class _Named(Document):
    name: str


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x9b\u202e\u2066\x7f")))
def test_json_keeps_its_values(text: str) -> None:
    document = _Named(text).to_json()
    assert json.loads(document) == {"name": text}
    assert msgspec.json.decode(document, type=_Named).name == text
    assert not set(document) & ({*_HIDDEN} - {"\n"})


def test_json_of_characters_beyond_16_bits_and_of_halves() -> None:
    assert escape_json('"\U000e0041\u202e\x7f"') == r'"\udb40\udc41\u202e\u007f"'
    assert escape_json('"\udc9b"') == r'"\udc9b"'


@pytest.mark.parametrize("last", ["", "α", "\u202e"])
def test_large_documents_are_escaped_fast(last: str) -> None:
    document = "1.2345, " * 4_000_000 + last
    started = time.process_time()
    escape_json(document)
    # Far above what it takes, far below what a loop over characters would.
    assert time.process_time() - started < 2


def test_the_middle_goes() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcdef…ijk"
    assert all(len(shorten("x" * 500, size)) == size for size in range(3, 400))


@pytest.mark.parametrize(
    "long",
    ["n" * 10_000_000, "two words " * 100_000, ", ".join(f"layer{i}" for i in range(20_000)),
     "\u202e" * 100_000, "\n" * 100_000],
    ids=["name", "words", "list", "hidden", "lines"],
)  # fmt: skip
def test_long_messages_keep_their_advice(long: str) -> None:
    text = f"net.onnx: tensor {long} is none: pass --tensors layers."
    for shown in (format_message(text), str(DataError(text)), str(StoreDamagedError(text))):
        assert len(shown) <= 1800
        assert shown.startswith("net.onnx: tensor ")
        assert shown.endswith(" is none: pass --tensors layers.")
        assert shown.isprintable()
        assert "…" in shown


def test_each_of_several_long_names_is_cut_before_what_is_said_of_them() -> None:
    text = f"{'a' * 5000} and {'b' * 5000}: two names; {'c' * 5000}: rename it."
    shown = format_message(text)
    assert all(part in shown for part in ("a and b", "b: two names; c", "c: rename it."))


@pytest.mark.parametrize("name", ["a b", "it's", "a\x1b[31m\x9b'\\\u202eb", "\udcff\x7f"])
def test_a_quoted_path_is_read_by_the_shell_as_it_was(name: str) -> None:
    quoted = quote_for_shell(name)
    assert quoted.isprintable()
    if name == escape(name):
        assert quoted == shlex.quote(name)
    words = ["bash", "-c", f"printf %s {quoted}"]
    found = subprocess.run(words, capture_output=True, check=True, timeout=600).stdout
    assert found == name.encode("utf-8", "surrogateescape")


def test_words_in_another_order_are_close() -> None:
    names = ["train.cna", "test.cna", "margin"]
    assert suggest_name("cna_train", names) == "Did you mean train.cna?"
    assert suggest_name("margins", names) == "Did you mean margin?"
    assert suggest_name("x", names) == "There are train.cna, test.cna, margin."


def test_a_list_of_names_says_how_many_it_leaves_out() -> None:
    assert list_names(f"p{number}" for number in range(64)).endswith(", p19 and 44 more")
    assert list_names([]) == "nothing"
    assert suggest_name("x", [f"{n:04}" for n in range(64)]).endswith("0019 and 44 more.")
