"""The two packages that pictures need and nothing else does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cnatool.errors import UsageError

if TYPE_CHECKING:
    import types

__all__ = ["need_altair", "need_converter"]


def need_altair() -> None:
    """Make sure that Altair is there.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    _needed("altair", "Altair")


def need_converter() -> types.ModuleType:
    """Give vl-convert, which turns charts into files.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    return _needed("vl_convert", "vl-convert-python")


def _needed(module: str, name: str) -> types.ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(
            f"pictures need {name}, which is not installed: python -m pip install 'cnatool[plot]'"
        ) from None
