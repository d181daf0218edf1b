"""Keyword arguments of a function that takes a record of options: signature and description."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from cnatool.dumping.options import choices_of
from cnatool.errors import UsageError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_Path = str | Path
_Options = TypeVar("_Options")
_TakesRecord = Callable[[_Path, _Path | None, _Path | None, _Options], _R]


class _TakesKeywords(Protocol[_P, _R_co]):
    def __call__(
        self,
        model: str | Path,
        data: str | Path | None = None,
        store: str | Path | None = None,
        *args: _P.args,
        **options: _P.kwargs,
    ) -> _R_co: ...


def keywords_of(
    record: Callable[_P, _Options],
) -> Callable[[_TakesRecord[_Options, _R]], _TakesKeywords[_P, _R]]:
    """Turn the last parameter of a function, a record of options, into keyword arguments.

    ``{options}`` in its docstring becomes their description.
    """

    def decorate(function: _TakesRecord[_Options, _R]) -> _TakesKeywords[_P, _R]:
        @wraps(function)
        def call(
            model: str | Path,
            data: str | Path | None = None,
            store: str | Path | None = None,
            *args: _P.args,
            **options: _P.kwargs,
        ) -> _R:
            try:
                inspect.signature(call).bind(model, data, store, *args, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            _check_path("model", model, "save it with `onnx.save`")
            _check_path("data", data, "save arrays with `numpy.savez`")
            _check_path("store", store, "name a file or folder")
            return function(model, data, store, record(*args, **options))

        described: Any = call
        described.__signature__ = _signature(call, record)
        described.__doc__ = (function.__doc__ or "").replace("    {options}\n", _describe(record))
        return call

    return decorate


def _check_path(name: str, value: object, advice: str) -> None:
    """Refuse an object in place of a path."""
    if value is not None and not isinstance(value, str | PathLike):
        raise UsageError(
            f"`{name}`: a path, not of type {type(value).__name__}: {advice}, and pass its path."
        )


def _signature(function: Callable[..., Any], record: Any) -> inspect.Signature:
    signature = inspect.signature(function, follow_wrapped=False)
    positional = list(signature.parameters.values())[:3]
    keywords = [
        inspect.Parameter(
            declared.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=declared.default,
            annotation=declared.type,
        )
        for declared in fields(record)
    ]
    return signature.replace(parameters=[*positional, *keywords])


def _describe(record: Any) -> str:
    """Describe all options as the NumPy style does."""
    lines = []
    for declared in fields(record):
        words = choices_of(declared)
        text = str(declared.type).removesuffix(" | None").replace(" | ", " or ")
        kind = "{" + ", ".join(f'"{word}"' for word in words) + "}" if words else text
        optional = ", optional" if declared.default is None else ""
        default = "" if declared.default is None else f", default {declared.default!r}"
        lines.append(f"    {declared.name} : {kind}{optional}{default}")
        sentences = f"{declared.metadata['summary']} {declared.metadata['details']}".strip()
        indent = " " * 8
        lines += textwrap.wrap(sentences, 100, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines) + "\n"
