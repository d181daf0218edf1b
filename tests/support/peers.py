"""Libraries that tests compare with where they are installed, and work."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest


def keras_of_tests(*modules: str) -> Any:
    """Import Keras over TensorFlow, quietly, or skip."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        patched.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        warnings.simplefilter("ignore")
        for name in ("tensorflow", *modules):
            pytest.importorskip(name, reason=f"{name} is not installed")
        keras = pytest.importorskip("keras", reason="keras is not installed")
    keras.utils.set_random_seed(3)
    return keras


def peer(name: str) -> Any:
    """Import a module, or skip: it is not there, or not fit for what else is installed."""
    try:
        return importlib.import_module(name)
    # torchvision raises RuntimeError beside a torch that it was not built for.
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be imported ({str(error)[:80]})")
