"""Texts as a source of tokens: ids beside the bytes, in order, with what is cut and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tokenizers import doc_lines, make_tokenizer, save_tokenizer

from cnatool.data.blocks import regroup_blocks, take_rows
from cnatool.data.selection import ArraySelection, ImageOptions
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.data.tokenize import TokenCounts, TokenInput, TokenLimit
from cnatool.data.tokenizer import load_tokenizer
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

TEXTS = [*doc_lines()[:50], "", "a"]


def opened(
    folder: Path,
    texts: list[str] = TEXTS,
    *,
    kind: str = "bert",
    max_length: int | None = None,
    limit: int | None = None,
    skip: bool = False,
) -> tuple[Source, TokenInput]:
    tokenizer = load_tokenizer(save_tokenizer(folder / "tok", kind), max_length)
    path = folder / "data.txt"
    path.write_bytes("\n".join(texts).encode("utf-8", "surrogateescape") + b"\n")
    target = TokenInput(
        "input_ids", np.dtype(np.int32), tokenizer, TokenLimit(limit, "its positions", True)
    )
    reading = ReaderOptions(images=ImageOptions(skip_unreadable=skip), tokens=target)
    selection = ArraySelection(("input_ids",), tokens="input_ids")
    return open_splits(path, {}, selection, reading, lambda _: None)["all"], target


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_ids_beside_bytes(tmp_path: Path, rows: int) -> None:
    source, target = opened(tmp_path)
    text, ids = source.inputs
    assert (text.name, text.fed, text.kind) == ("text", False, "text")
    assert (ids.name, ids.dtype, ids.ragged_axis, ids.fed) == ("input_ids", np.int32, 0, True)
    assert (ids.kind, ids.special) == ("tokens", (0, 2, 3, 4))
    assert ids.tokenizer == target.tokenizer.record
    expected = [part.ids for part in make_tokenizer().encode_batch(TEXTS)]
    assert ids.shape == (round(np.mean([len(part) for part in expected])),)
    found: list[list[int]] = []
    for block in source.blocks(rows):
        stored, tokens = block.inputs
        assert isinstance(stored, Ragged)
        assert isinstance(tokens, Ragged)
        assert tokens.dtype == np.int32
        assert [part.tobytes().decode() for part in stored] == [TEXTS[int(i)] for i in block.ids]
        found += [part.tolist() for part in tokens]
    assert found == expected


def test_what_is_cut_follows_its_text(tmp_path: Path) -> None:
    source, _ = opened(tmp_path, max_length=8)
    whole = [len(part.ids) for part in make_tokenizer().encode_batch(TEXTS)]
    expected = [max(0, length - 8) for length in whole]
    blocks = list(source.blocks(7))
    assert np.concatenate([b.cut for b in blocks if b.cut is not None]).tolist() == expected
    [joined] = regroup_blocks(blocks, [(0, len(TEXTS))])
    assert joined.cut is not None
    assert joined.cut.tolist() == expected
    some = take_rows(joined, np.array([3, 9]))
    assert some.cut is not None
    assert some.cut.tolist() == [expected[3], expected[9]]
    counts = TokenCounts()
    for block in blocks:
        counts.add(block, None)
    cut = [c for c in expected if c]
    lengths = [min(8, length) for length in whole]
    assert counts.describe("all", 8) == (
        f"split all: {len(TEXTS)} texts of {min(lengths)} to 8 tokens, {sum(lengths)} in "
        f"all; {len(cut)} truncated to 8 tokens, which cost {sum(cut):,} tokens"
    )


def test_a_text_that_is_too_long(tmp_path: Path) -> None:
    source, target = opened(tmp_path, ["a", "the model " * 30], limit=20)
    with pytest.raises(DataError, match=r"text 1 has .* the model takes 20 \(its positions\)"):
        list(source.blocks(4))
    target.limit.enforced = False
    assert sum(len(block.ids) for block in source.blocks(4)) == 2


def test_a_text_without_tokens(tmp_path: Path) -> None:
    source, _ = opened(tmp_path, ["a", "", "b"], kind="bpe")
    with pytest.raises(DataError, match="text 1, has no tokens"):
        list(source.blocks(4))
    source, _ = opened(tmp_path, ["a", "", "b"], kind="bpe", skip=True)
    [block] = source.blocks(4)
    assert block.ids == ["0", "2"]
    assert [row.id for row in block.skipped] == ["1"]
    # With special tokens there is something to run on.
    source, _ = opened(tmp_path, ["a", "", "b"])
    assert next(iter(source.blocks(4))).ids == ["0", "1", "2"]


def test_what_is_no_text_is_left_out(tmp_path: Path) -> None:
    texts = ["a", "b\udcff", "c"]
    with pytest.raises(DataError, match="line 2, is not UTF-8"):
        opened(tmp_path, texts)
    source, _ = opened(tmp_path, texts, skip=True)
    [block] = source.blocks(4)
    assert block.ids == ["0", "2"]


def test_a_long_line(tmp_path: Path) -> None:
    source, _ = opened(tmp_path, ["a", "ab " * 100_000], max_length=16)
    [block] = source.blocks(2)
    assert block.cut is not None
    ids = block.inputs[1]
    assert isinstance(ids, Ragged)
    assert ids.lengths[1] == 16
    assert block.cut[1] > 90_000
