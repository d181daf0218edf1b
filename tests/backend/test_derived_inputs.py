"""Inputs that are filled in by rule: which they are, and what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnatool.backend.derived_inputs import DerivedInput, describe_rules
from cnatool.backend.derived_rules import find_derived_inputs
from cnatool.backend.inputs import ModelInput

_DTYPES = {"i": np.int64, "f": np.float32, "b": np.bool_}


def _inputs(**declared: tuple[str, tuple[Any, ...]]) -> list[ModelInput]:
    return [
        ModelInput(name.replace("__", "."), np.dtype(_DTYPES[kind]), dims)
        for name, (kind, dims) in declared.items()
    ]


_IDS = ("i", ("batch", "sequence"))


def _rules(**declared: tuple[str, tuple[Any, ...]]) -> dict[str, tuple[str, tuple[Any, ...]]]:
    found = find_derived_inputs(_inputs(**declared))
    return {each.name: (each.rule, each.dims) for each in found}


@pytest.mark.parametrize(
    ("name", "declared", "rule", "dims"),
    [
        ("attention_mask", ("i", ("batch", "sequence")), "mask", ("samples", "length")),
        ("attention_mask", ("f", ("batch", "total")), "mask", ("samples", "length")),
        ("input_mask", ("i", (None, None)), "mask", ("samples", "length")),
        ("token_type_ids", ("i", ("batch", "sequence")), "zeros", ("samples", "length")),
        ("segment_ids", ("i", ("batch", "sequence")), "zeros", ("samples", "length")),
        ("position_ids", ("i", ("batch", "sequence")), "positions", ("samples", "length")),
        ("position_ids", ("i", (1, "sequence")), "positions", (1, "length")),
        ("position_ids", ("i", (3, "batch", "sequence")), "positions", (3, "samples", "length")),
        ("cache_position", ("i", ("sequence",)), "positions", ("length",)),
        ("past_key_values__0__key", ("f", ("batch", 4, "past", 8)), "empty", ("samples", 4, 0, 8)),
        ("past_0", ("f", (2, "batch", 4, "past", 8)), "empty", (2, "samples", 4, 0, 8)),
        ("past_key_values__0", ("f", ("batch", "past", 64)), "empty", ("samples", 0, 64)),
        ("use_cache_branch", ("b", (1,)), "false", (1,)),
        ("use_cache", ("b", ()), "false", ()),
        ("num_logits_to_keep", ("i", ()), "all positions", ()),
        ("seqlens_k", ("i", ("batch", 1)), "last position", ("samples", 1)),
        ("total_sequence_length", ("i", ()), "total length", ()),
        ("input_lengths", ("i", ("batch",)), "lengths", ("samples",)),
        ("length", ("i", ("batch",)), "lengths", ("samples",)),
    ],
)
def test_rule_of_a_name_and_shape(
    name: str, declared: tuple[str, tuple[Any, ...]], rule: str, dims: tuple[Any, ...]
) -> None:
    found = _rules(input_ids=_IDS, **{name: declared})
    assert found == {name.replace("__", "."): (rule, dims)}


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("mask", ("i", ("batch", "sequence"))),  # of what, no name says
        ("padding_mask", ("i", ("batch", "sequence"))),  # 1 where padding is, as a rule
        ("attention_mask", ("i", ("sequence", "batch"))),
        ("attention_mask", ("i", ("batch", 128))),
        ("attention_mask", ("i", ("batch", 1, "sequence", "sequence"))),
        ("attention_mask", ("f", ("batch", 1, "sequence", "sequence"))),  # no decoder
        ("attn_mask", ("b", ("sequence", "sequence"))),
        ("position_ids", ("i", (4, "batch", "sequence"))),
        ("position_ids", ("f", ("batch", "sequence"))),
        ("past_key_values__0__key", ("f", ("batch", "heads", "past", 8))),
        ("past_key_values__0__key", ("f", ("batch", 4, 16, 8))),  # always of 16 tokens
        ("past_length", ("i", ())),
        ("decoder_input_ids", ("i", ("batch", "decoder_sequence"))),
        ("head_mask", ("f", (2, 4))),
        ("length", ("i", ("batch", "sequence"))),
        ("max_length", ("i", (1,))),
        ("use_cache_branch", ("i", (1,))),
    ],
)
def test_no_rule_where_there_is_doubt(name: str, declared: tuple[str, tuple[Any, ...]]) -> None:
    assert _rules(input_ids=_IDS, **{name: declared}) == {}


def test_no_rule_without_a_sequence() -> None:
    image = ("f", ("batch", 3, 32, 32))
    assert _rules(image=image, attention_mask=("i", ("batch", 32))) == {}
    assert _rules(image=image, mask=("f", ("batch", 1, 32, 32)), length=("i", ("batch",))) == {}
    assert _rules(x=("f", ("batch", 7)), position_ids=("i", ("batch", 7))) == {}


def test_tokens_that_have_a_number_for_a_name() -> None:
    found = _rules(input__1=_IDS, attention_mask=("i", ("batch", "sequence")))
    assert list(found) == ["attention_mask"]
    assert _rules(input__1=_IDS, other=_IDS, attention_mask=("i", ("batch", "sequence"))) == {}


def test_a_mask_of_another_input_is_not_that_of_the_tokens() -> None:
    found = _rules(
        input_ids=_IDS,
        frames=("f", ("batch", "time", 8)),
        attention_mask=("i", ("batch", "time")),
    )
    assert found == {}


def test_sound_has_a_mask_and_lengths() -> None:
    found = _rules(input_values=("f", ("batch", "time")), attention_mask=("i", ("batch", "time")))
    assert found == {"attention_mask": ("mask", ("samples", "length"))}
    inputs = _inputs(audio_signal=("f", ("batch", 80, "time")), length=("i", ("batch",)))
    [length] = find_derived_inputs(inputs)
    fed = {"audio_signal": np.zeros((2, 80, 50), np.float32)}
    assert length.fill(fed).tolist() == [50, 50]


def test_a_causal_mask_needs_a_past_that_says_that_this_is_a_decoder() -> None:
    found = find_derived_inputs(
        _inputs(
            input_ids=_IDS,
            attention_mask=("f", ("batch", 1, "sequence", "total")),
            past_key_values__0__key=("f", ("batch", 4, "past", 8)),
        )
    )
    mask = found[0].array(np.array([3, 2]), 3)
    low = np.finfo(np.float32).min
    assert mask[0, 0].tolist() == [[0, low, low], [0, 0, low], [0, 0, 0]]
    assert mask[1, 0].tolist() == [[0, low, low], [0, 0, low], [0, 0, low]]


def test_a_past_that_is_given_leaves_masks_and_positions_to_the_data() -> None:
    inputs = _inputs(
        input_ids=_IDS,
        attention_mask=("i", ("batch", "total")),
        position_ids=_IDS,
        token_type_ids=_IDS,
        past_key_values__0__key=("f", ("batch", 4, "past", 8)),
    )
    past = "past_key_values.0.key"
    assert [each.name for each in find_derived_inputs(inputs, [past])] == ["token_type_ids"]
    full, empty = np.ones((1, 4, 2, 8)), np.ones((1, 4, 0, 8))
    assert len(find_derived_inputs(inputs, (), {past: full})) == 1
    assert len(find_derived_inputs(inputs, (), {past: empty})) == 3
    assert find_derived_inputs(inputs, (), {"input_ids": 1}) == ()
    # A flag that is false would let the model ignore the past.
    flagged = [*inputs, *_inputs(use_cache_branch=("b", (1,)))]
    assert [each.name for each in find_derived_inputs(flagged, [past])] == ["token_type_ids"]


def test_what_a_decoder_keeps_of_the_encoder_is_empty_only_where_it_is_ignored() -> None:
    inputs = {
        "input_ids": _IDS,
        "past_key_values__0__decoder__key": ("f", ("batch", 4, "past", 8)),
        "past_key_values__0__encoder__key": ("f", ("batch", 4, "encoder_sequence", 8)),
    }
    assert list(_rules(**inputs)) == ["past_key_values.0.decoder.key"]
    assert len(_rules(**inputs, use_cache_branch=("b", (1,)))) == 3


def test_arrays_of_padded_samples() -> None:
    lengths = np.array([3, 1])

    def array(rule: Any, dims: tuple[Any, ...], mask: Any = None) -> list[Any]:
        derived = DerivedInput("x", rule, np.dtype(np.int64), dims, "ids")
        value = derived.array(lengths, 4, mask)
        assert value.dtype == np.int64
        return value.tolist()

    row = ("samples", "length")
    assert array("mask", row) == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert array("positions", row) == [[0, 1, 2, 3]] * 2
    assert array("positions", (3, *row)) == [[[0, 1, 2, 3]] * 2] * 3
    assert array("zeros", row) == [[0] * 4] * 2
    assert array("last position", ("samples", 1)) == [[2], [0]]
    assert array("lengths", ("samples",)) == [3, 1]
    assert array("total length", ()) == 4
    # The data say where padding is: here in front.
    left = np.array([[0, 1, 1, 1], [0, 0, 0, 1]])
    assert array("positions", row, left) == [[0, 0, 1, 2], [0, 0, 0, 0]]
    assert array("lengths", ("samples",), left[:, ::-1]) == [3, 1]


def test_a_line_for_all_rules() -> None:
    rules: dict[str, Any] = {f"past.{i}": "empty" for i in range(4)} | {"attention_mask": "mask"}
    assert describe_rules(rules) == (
        "inputs that are not in the data, filled in by rule: attention_mask (1 at each token), 4 "
        "inputs, first 'past.0' (empty)"
    )
    assert describe_rules({}) is None
