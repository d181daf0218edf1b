"""Recorders where their framework is not installed."""

from __future__ import annotations

import pytest
from support.command import python


@pytest.mark.parametrize(
    ("call", "hidden", "message"),
    [
        (
            "lightning import store_callback as record",
            ("lightning", "pytorch_lightning"),
            "recording from Lightning requires it: python -m pip install lightning",
        ),
        (
            "torch import Recorder as record",
            ("torch",),
            "recording from PyTorch requires it: python -m pip install torch",
        ),
        (
            "keras import Recorder as record",
            ("keras", "tensorflow"),
            "recording from Keras requires it and TensorFlow: python -m pip install tensorflow",
        ),
    ],
)
def test_without_the_framework_it_says_what_to_install(
    call: str, hidden: tuple[str, ...], message: str
) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"from cnatool.recorders.{call}\n"
        "try:\n    record({}, 'x')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    assert python(code).strip() == f"UsageError {message}"
