"""Small tokenizers, trained in the test, and texts for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

_DOCS = Path(__file__).parents[2] / "docs"


@cache
def doc_lines(count: int = 400) -> tuple[str, ...]:
    """Return lines of the project's own documentation that are not blank."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(_DOCS.glob("*.md"))[:6])
    return tuple(line for line in text.splitlines() if line.strip())[:count]


@cache
def _trained(kind: str, vocabulary: int) -> str:
    models, pre = tokenizers.models, tokenizers.pre_tokenizers
    if kind == "bpe":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = tokenizers.normalizers.BertNormalizer()
        made.pre_tokenizer = pre.BertPreTokenizer()
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            show_progress=False,
        )
    made.train_from_iterator(doc_lines(), trainer)
    if kind == "bert":
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    text: str = made.to_str()
    return text


def make_tokenizer(kind: str = "bert", vocabulary: int = 400) -> Any:
    """Train a tokenizer: ``bert`` adds [CLS] and [SEP], ``bpe`` adds nothing, as GPT-2's."""
    return tokenizers.Tokenizer.from_str(_trained(kind, vocabulary))


def save_tokenizer(folder: Path, kind: str = "bert", vocabulary: int = 400) -> Path:
    """Save a tokenizer as a folder of a model hub has it; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_text(_trained(kind, vocabulary), "utf-8")
    return path
