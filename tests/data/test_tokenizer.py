"""Tokenizers as hubs keep them: loaded as they are, cut as the library cuts, refused with a way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.tokenizers import doc_lines, make_tokenizer, save_tokenizer, tokenizers

from cnatool.data.tokenizer import load_tokenizer
from cnatool.errors import DataError, UsageError

TEXTS = [*doc_lines()[:40], "", "a", "[SEP] inside [CLS]", "übel 日本 🎬"]


def encoded(loaded: Any, texts: list[str]) -> list[tuple[list[int], int]]:
    return [(ids.tolist(), cut) for ids, cut in loaded.encode([t.encode() for t in texts])]


@pytest.mark.parametrize("kind", ["bert", "bpe"])
def test_ids_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    path = save_tokenizer(tmp_path, kind)
    loaded = load_tokenizer(path)
    expected = make_tokenizer(kind).encode_batch(TEXTS)
    assert encoded(loaded, TEXTS) == [(part.ids, 0) for part in expected]
    assert loaded.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.record.vocabulary == make_tokenizer(kind).get_vocab_size()
    assert loaded.record.library == f"tokenizers {tokenizers.__version__}"
    assert loaded.special == ((0, 2, 3, 4) if kind == "bert" else (0,))  # without [UNK]
    assert (loaded.before, loaded.after) == ((1, 1) if kind == "bert" else (0, 0))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "bpe"])
def test_texts_are_cut_as_the_library_cuts_them(tmp_path: Path, kind: str, side: str) -> None:
    save_tokenizer(tmp_path, kind)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"truncation_side": side}))
    loaded = load_tokenizer(tmp_path, 9)
    reference = make_tokenizer(kind)
    whole = reference.encode_batch(TEXTS)
    reference.enable_truncation(9, direction=side)
    expected = [
        (short.ids, max(0, len(long.ids) - 9))
        for short, long in zip(reference.encode_batch(TEXTS), whole, strict=True)
    ]
    assert encoded(loaded, TEXTS) == expected
    assert any(cut for _, cut in expected)
    assert (loaded.record.max_length, loaded.record.truncated) == (9, side)


def test_padding_and_truncation_of_the_file_are_switched_off(tmp_path: Path) -> None:
    made = make_tokenizer()
    expected = [part.ids for part in made.encode_batch(TEXTS)]
    made.enable_padding(length=30)
    made.enable_truncation(4)
    made.save(str(tmp_path / "tokenizer.json"))
    assert [ids for ids, _ in encoded(load_tokenizer(tmp_path), TEXTS)] == expected


def test_settings_say_how_many_tokens_a_model_takes(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    for said, meant in ((512, 512), (int(1e30), None), (None, None)):
        settings = json.dumps({"model_max_length": said})
        (tmp_path / "tokenizer_config.json").write_text(settings)
        assert load_tokenizer(tmp_path).model_length == meant
    # The file alone has no settings.
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    assert load_tokenizer(tmp_path / "tokenizer.json").model_length is None


@pytest.mark.parametrize(
    ("kind", "settings", "word"),
    [
        ("bert", {"do_lower_case": False}, "do_lower_case=false"),
        ("bpe", {"add_prefix_space": True}, "add_prefix_space=true"),
        ("bpe", {"add_bos_token": True, "bos_token": "<|endoftext|>"}, "add_bos_token=true"),
        (
            "bpe",
            {"add_eos_token": True, "eos_token": {"content": "<|endoftext|>"}},
            "add_eos_token=true",
        ),
    ],
)
def test_settings_that_contradict_the_file(
    tmp_path: Path, kind: str, settings: dict[str, Any], word: str
) -> None:
    path = save_tokenizer(tmp_path, kind)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=f"says {word}, and tokenizer.json beside it"):
        load_tokenizer(tmp_path)
    load_tokenizer(path)
    agreeing = {name: not value for name, value in settings.items() if isinstance(value, bool)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | agreeing))
    load_tokenizer(tmp_path)


def test_a_vocabulary_with_gaps(tmp_path: Path) -> None:
    words = {"[UNK]": 0, "a": 1, "b": 9}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    assert loaded.record.vocabulary == 10
    assert encoded(loaded, ["b"]) == [([9], 0)]


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.model", "vocab.json"])
def test_a_vocabulary_alone_says_how_to_make_a_tokenizer(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[PAD]\n")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match="transformers makes a tokenizer.json of it: python -c"):
            load_tokenizer(path)


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(DataError, match="no such file or folder"):
        load_tokenizer(path)
    with pytest.raises(DataError, match="holds no tokenizer.json"):
        load_tokenizer(tmp_path)
    good = json.loads(make_tokenizer("bpe").to_str())
    gone = {name: part for name, part in good.items() if name != "model"}
    for content, text in (
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1]", "it has no 'model'"),
        (json.dumps(gone).encode(), "it has no 'model'"),
        (json.dumps(good | {"model": {"type": "Nope"}}).encode(), "of type 'Nope', is rejected"),
        (json.dumps(good | {"version": "9.0"}).encode(), "Unknown tokenizer version"),
        (json.dumps(good)[:-900].encode(), "it is not JSON"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=text) as refused:
            load_tokenizer(path)
        assert "\n" not in str(refused.value)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    save_tokenizer(tmp_path)
    with pytest.raises(DataError, match="is not a JSON object"):
        load_tokenizer(tmp_path)


def test_a_length_that_leaves_no_token_of_a_text(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    with pytest.raises(UsageError, match="adds 2 special tokens to each text, so at least 3"):
        load_tokenizer(tmp_path, 2)
    assert encoded(load_tokenizer(tmp_path, 3), ["the model"])[0][0][0] == 2


def test_a_tokenizer_that_marks_its_tokens_with_types(tmp_path: Path) -> None:
    made = make_tokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A:0 [SEP]:0 [CLS]:2", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="other types than 0"):
        load_tokenizer(tmp_path)
