"""Masks and lengths are recognised by what they cover, and what is in doubt is asked."""

from __future__ import annotations

import numpy as np
import pytest

from cnatool.dumping.mask_search import find_mask
from cnatool.errors import UsageError

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(3, 13, 40)
REAL = np.arange(16) < LENGTHS[:, None]
IDS = np.where(REAL, RNG.integers(5, 90, REAL.shape), 0)
ONES = REAL.astype(np.int64)
FRAMES = np.where(REAL[:, :, None], RNG.normal(size=(40, 16, 3)), 0)
SQUARE = np.where(REAL[:, None, :], RNG.normal(size=(40, 16, 16)), 0)
BOTH = {"input_ids": (0,), "attention_mask": (0,)}


@pytest.mark.parametrize(
    ("inputs", "name", "kind", "padding", "axes"),
    [
        ({"input_ids": IDS, "attention_mask": ONES}, "attention_mask", "mask", 0, BOTH),
        ({"input_ids": IDS, "attention_mask": REAL}, "attention_mask", "mask", 0, BOTH),
        (
            {"input_ids": IDS[:, ::-1], "attention_mask": ONES[:, ::-1].astype(np.float32)},
            "attention_mask",
            "mask",
            0,
            BOTH,
        ),
        ({"tokens": IDS, "m": ONES}, "m", "mask", 0, {"tokens": (0,), "m": (0,)}),
        (
            {"x": FRAMES, "padding_mask": ~REAL},
            "padding_mask",
            "mask",
            1,
            {"x": (0,), "padding_mask": (0,)},
        ),
        ({"x": SQUARE, "mask": ONES}, "mask", "mask", 0, {"x": (1,), "mask": (0,)}),
        (
            {"x": FRAMES.transpose(0, 2, 1), "mask": ONES[:, None, None]},
            "mask",
            "mask",
            0,
            {"x": (1,), "mask": (2,)},
        ),
        (
            {
                "input_ids": IDS,
                "token_type_ids": np.zeros_like(IDS),
                "position_ids": np.broadcast_to(np.arange(16), IDS.shape),
                "attention_mask": ONES,
                # As long as texts by chance.
                "features": RNG.normal(size=(40, 16)),
            },
            "attention_mask",
            "mask",
            0,
            BOTH | {"token_type_ids": (0,), "position_ids": (0,)},
        ),
        ({"x": FRAMES, "x_lengths": LENGTHS}, "x_lengths", "lengths", 0, {"x": (0,)}),
        ({"ids": IDS, "n": LENGTHS[:, None]}, "n", "lengths", 0, {"ids": (0,)}),
        # Garbage at padding.
        (
            {"x": RNG.normal(size=(40, 16, 3)), "attention_mask": ONES},
            "attention_mask",
            "mask",
            0,
            {"x": (0,), "attention_mask": (0,)},
        ),
    ],
)
def test_what_says_where_padding_is(
    inputs: dict[str, np.ndarray],
    name: str,
    kind: str,
    padding: int,
    axes: dict[str, tuple[int, ...]],
) -> None:
    mask, _ = find_mask(inputs)
    assert mask is not None
    assert (mask.input, mask.kind, mask.padding, mask.length) == (name, kind, padding, 16)
    assert mask.axes == axes
    found = mask.find_real(inputs)
    assert np.array_equal(found, REAL) or np.array_equal(found, REAL[:, ::-1])


FULL = RNG.integers(2, 90, (40, 16))


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": FULL, "attention_mask": np.ones_like(FULL)},
        {"input_ids": IDS, "token_type_ids": ONES},
        {"input_ids": FULL, "flags": RNG.integers(0, 2, FULL.shape)},
        {"input_ids": FULL, "mlm_mask": RNG.integers(0, 2, FULL.shape)},
        {"input_ids": FULL, "head_mask": ONES},
        {"input_ids": FULL, "mask": np.tril(np.ones((16, 16)))[None].repeat(40, 0)},
        # No input has as many positions.
        {"image": RNG.normal(size=(40, 3, 8, 8)), "bool_masked_pos": ONES},
        {"x": FRAMES, "age": RNG.integers(3, 90, 40)},
        {"x": RNG.normal(size=(40, 16, 3)), "count": LENGTHS},
    ],
)
def test_other_inputs_are_no_masks(inputs: dict[str, np.ndarray]) -> None:
    assert find_mask(inputs)[0] is None


def test_a_mask_without_padding_is_watched() -> None:
    mask, unpadded = find_mask({"input_ids": FULL, "attention_mask": np.ones_like(FULL)})
    assert mask is None
    assert [each.input for each in unpadded] == ["attention_mask"]


HOLES = RNG.integers(0, 2, FULL.shape)


@pytest.mark.parametrize(
    ("inputs", "asked", "text"),
    [
        (
            {"ids": FULL, "padding_mask": HOLES},
            None,
            "`mask='padding_mask=0'`, `mask='padding_mask=1'`, or `mask='none'`",
        ),
        (
            {"ids": IDS, "mask": ONES},
            "masks",
            "data feed no input of this name, only 'ids', 'mask'",
        ),
        (
            {"ids": IDS, "mask": ONES},
            "mask=2",
            "either 0 or 1 marks padding, as in `mask='mask=0'`",
        ),
        ({"ids": IDS, "mask": ONES}, "ids", "a mask has 0 or 1 for each position"),
        (
            {"ids": IDS, "mask": ONES, "attention_mask": HOLES},
            None,
            "pass `mask='mask'`, `mask='attention_mask'`, or `mask='none'`",
        ),
    ],
)
def test_doubt_is_asked(inputs: dict[str, np.ndarray], asked: str | None, text: str) -> None:
    with pytest.raises(UsageError) as error:
        find_mask(inputs, asked)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "asked", "real"),
    [
        ({"ids": FULL, "mlm_mask": HOLES}, "mlm_mask", HOLES == 1),
        ({"ids": FULL, "mlm_mask": HOLES}, "mlm_mask=1", HOLES == 0),
        ({"ids": FULL, "n": LENGTHS}, "n", REAL),
    ],
)
def test_the_user_decides(inputs: dict[str, np.ndarray], asked: str, real: np.ndarray) -> None:
    mask, _ = find_mask(inputs, asked)
    assert mask is not None
    np.testing.assert_array_equal(mask.find_real(inputs), real)
    assert mask.axes["ids"] == (0,)
