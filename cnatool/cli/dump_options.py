"""The options of a dump on the command line, made from the fields of `DumpOptions`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, fields
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from cnatool._util.local_paths import check_downloaded, check_local
from cnatool.cli.completion import Complete, complete_format, complete_from, complete_store
from cnatool.cli.console import read_pairs
from cnatool.dumping.options import DumpOptions, choices_of
from cnatool.errors import UsageError
from cnatool.records.choices import Statistic


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How the command line writes an option, where that does not follow from its field."""

    metavar: str | None = None
    type: Any = None  # a dict is read from KEY=VALUE words
    flag: str | None = None
    min: int | None = None
    help: str = ""
    read: Callable[[Any], Any] = lambda value: value
    complete: Complete | None = None


def read_constants(words: Sequence[str]) -> dict[str, Any]:
    """Read ``INPUT=VALUE`` words: numbers with commas, a number and a shape, or ``FILE.npy``."""
    return {
        name: _read_constant(name, text)
        for name, text in read_pairs("--constant", words, "INPUT=VALUE").items()
    }


def _read_constant(name: str, text: str) -> Any:
    import numpy as np

    if text.endswith(".npy"):
        check_local(text)
        check_downloaded(Path(text))
        try:
            return np.load(Path(text), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"--constant {name}={text}: cannot be read ({error}).") from None
    try:
        number, colon, shape = text.partition(":")
        if colon:
            # A view of one number: an array of this shape may not fit into memory.
            return np.broadcast_to(
                _parse_number(number), [_parse_length(word) for word in shape.split("x")]
            )
        numbers = [_parse_number(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--constant {name}={text}: give a number, numbers separated by commas, a number and "
            "a shape as in 0:1x8x64, or FILE.npy."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_length(word: str) -> int:
    if not word.isdecimal() or int(word) > 1 << 24:
        raise ValueError
    return int(word)


def _parse_number(word: str) -> float | int | bool:
    booleans = {"true": True, "false": False}
    if word.strip().lower() in booleans:
        return booleans[word.strip().lower()]
    try:
        return int(word)
    except ValueError:
        return float(word)


def read_reductions(words: Sequence[str]) -> dict[str, list[str]]:
    """Read ``GLOB=FORM`` words: each glob may have several forms."""
    forms: dict[str, list[str]] = {}
    for word in words:
        # The form has no = in it, but the name of a tensor may.
        pattern, equals, form = word.rpartition("=")
        if not (pattern and equals and form):
            raise UsageError(f"--reduce {word!r} should be GLOB=FORM, as in '*=mean'.")
        forms.setdefault(pattern, []).append(form)
    return forms


def _read_image(name: str) -> Callable[[str], Any]:
    """Return the parser of an option for images."""

    def read(text: str) -> Any:
        # Imported on use: it loads Pillow, for which the help should not wait.
        from cnatool.data.images import transform

        return getattr(transform, f"parse_{name}")(text)

    return read


def _read_fraction(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--scale {text}: give a number, or a fraction as in 1/255.") from None


def _read_numbers(option: str) -> Callable[[str], tuple[float, ...]]:
    def read(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(word) for word in text.split(","))
        except ValueError:
            raise UsageError(f"{option} {text}: give numbers separated by commas.") from None

    return read


# Untyped for mypy, which cannot follow an enumeration that is made at run time.
_make_enum: Callable[..., Any] = StrEnum
_TYPES = {"int": int, "float": float, "str": str, "str | Path": Path}
_SPELLINGS = {
    "splits": _Spelling("NAME=PATH", dict, "--split"),
    "format": _Spelling("NAME", complete=complete_format),
    "labels": _Spelling("NAME"),
    "label_offset": _Spelling("N"),
    "split_column": _Spelling("NAME"),
    "holdout": _Spelling("SHARE"),
    "seed": _Spelling("N", min=0),
    "limit": _Spelling("N", min=1),
    "part": _Spelling("K/N", str),
    "inputs": _Spelling("INPUT=ARRAY", dict, "--input"),
    "tokenizer": _Spelling("PATH"),
    "max_length": _Spelling("N", min=1),
    "constants": _Spelling(
        "INPUT=VALUE",
        list[str],
        "--constant",
        help="A value is a number, several numbers separated by commas, a number and a shape "
        "(0:1x8x64), or FILE.npy.",
        read=read_constants,
    ),
    "mask": _Spelling("INPUT|none"),
    "preprocess": _Spelling("FILE.json|yaml|toml"),
    "resize": _Spelling("SIDE|HxW", str, read=_read_image("resize")),
    "crop": _Spelling("SIDE|HxW", str, read=_read_image("crop")),
    "interpolation": _Spelling("NAME", str, read=_read_image("interpolation")),
    "colour": _Spelling("as-is|rgb|bgr|grey", str, read=_read_image("colour")),
    "scale": _Spelling("S|1/N", str, read=_read_fraction),
    "mean": _Spelling("M[,M…]", str, read=_read_numbers("--mean")),
    "std": _Spelling("S[,S…]", str, read=_read_numbers("--std")),
    "layout": _Spelling(
        "[FROM->]TO", complete=complete_from("chw", "hwc", "flat", "flat-chw", "flat-hwc")
    ),
    "tensors": _Spelling(
        "all|layers|residual|inner|GLOB|!GLOB",
        list[str],
        complete=complete_from("all", "layers", "residual", "inner"),
    ),
    "statistics": _Spelling(
        "NAME|all", list[str], complete=complete_from(*get_args(Statistic), "all")
    ),
    "units_tensors": _Spelling(
        "all|layers|residual|GLOB|!GLOB",
        list[str],
        complete=complete_from("all", "layers", "residual"),
    ),
    "units_axis": _Spelling("GLOB=AXIS|element", dict, "--units-axis"),
    "units_top": _Spelling("N", min=1),
    "reduce": _Spelling("GLOB=FORM", list[str], read=read_reductions),
    "inputs_from": _Spelling("STORE", complete=complete_store),
    "initial_model": _Spelling("FILE"),
    "tags": _Spelling("KEY=VALUE", dict, "--tag"),
    "batch_size": _Spelling("N", min=1),
    "provider": _Spelling("NAME"),
    "threads": _Spelling("N", min=0),
    "parts": _Spelling("N", min=1),
    "custom_ops": _Spelling("FILE", list[Path]),
}
# Options for the fields of the record `Flatness`.
_FLATNESS = {
    "samples": (int, "N", "Number of training samples for --flatness; default 2000."),
    "draws": (int, "N", "Number of draws of noise for --flatness; default 10."),
    "target": (float, "SHARE", "Loss of accuracy that --flatness allows; default 0.1."),
}
# Options without a form on the command line.
_PYTHON_ONLY = {"client", "observer"}


def with_dump_options(
    *panels: str, names: tuple[str, ...] = (), panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of a dump to a command, in place of its parameter ``options``.

    ``options`` receives their values as keyword arguments of `DumpOptions`. By default all options
    are added; otherwise only those in ``panels`` of the help and those called ``names``, which go
    to ``panel``.
    """
    declared = [
        option
        for option in fields(DumpOptions)
        if option.name not in _PYTHON_ONLY
        and (not (panels or names) or option.metadata["panel"] in panels or option.name in names)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
        added = [
            parameter
            for option in declared
            for parameter in _make_parameters(
                option, panel if option.name in names else option.metadata["panel"]
            )
        ]

        @wraps(command)
        def run(**values: Any) -> None:
            options = {parameter.name: values.pop(parameter.name) for parameter in added}
            command(**values, options=_read_options(options))

        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            if parameter.name == "options":
                parameters += added
            else:
                keyword = parameter.replace(
                    kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]
                )
                parameters.append(keyword)
        wrapped: Any = run
        wrapped.__signature__ = own.replace(parameters=parameters, return_annotation=None)
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _make_parameters(declared: Field[Any], panel: str | None) -> Iterator[inspect.Parameter]:
    spelling, words = _SPELLINGS.get(declared.name, _Spelling()), choices_of(declared)
    summary, default = declared.metadata["summary"], declared.default
    flag = spelling.flag or f"--{declared.name.replace('_', '-')}"
    annotation = list[str] if spelling.type is dict else spelling.type
    if isinstance(default, bool):
        annotation = bool
    elif annotation is not None:
        default = None
        if annotation in (list[str], list[Path]):
            summary = " ".join(filter(None, (summary, spelling.help, "Repeatable.")))
    elif words:
        annotation = _make_enum(declared.name, {word: word for word in words})
        default = None if default is None else annotation(default)
    else:
        annotation = _TYPES[str(declared.type).removesuffix(" | None")]
    yield _make_parameter(
        declared.name,
        annotation,
        default,
        typer.Option(
            flag,
            metavar=spelling.metavar,
            min=spelling.min,
            autocompletion=spelling.complete or (complete_from(*words) if words else None),
            help=_name_options(summary),
            rich_help_panel=panel,
        ),
    )
    if declared.name == "flatness":
        for name, (kind, metavar, text) in _FLATNESS.items():
            yield _make_parameter(
                f"flatness_{name}",
                kind,
                None,
                typer.Option(
                    f"--flatness-{name}", metavar=metavar, help=text, rich_help_panel=panel
                ),
            )


def _make_parameter(
    name: str, annotation: Any, default: Any, declaration: Any
) -> inspect.Parameter:
    optional = annotation | None if default is None else annotation
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[optional, declaration],
    )


def _name_options(text: str) -> str:
    """Replace names of parameters in backquotes by those of options and arguments."""

    def spell(match: re.Match[str]) -> str:
        name = match[1]
        if name in ("model", "data"):
            return name.upper()
        spelling = _SPELLINGS.get(name, _Spelling())
        return spelling.flag or f"--{name.replace('_', '-')}"

    return re.sub(r"`(\w+)`", spell, text)


def _read_options(values: dict[str, Any]) -> dict[str, Any]:
    """Convert parsed values to keyword arguments of `DumpOptions`."""
    options = {
        name: _read_value(name, value)
        for name, value in values.items()
        if value not in (None, []) and not name.startswith("flatness")
    }
    if "flatness" in values:
        settings = {name: values[f"flatness_{name}"] for name in _FLATNESS}
        options["flatness"] = _read_flatness(
            {name: value for name, value in settings.items() if value is not None},
            options["seed"],
            measured=values["flatness"],
        )
    return options


def _read_value(name: str, value: Any) -> Any:
    spelling = _SPELLINGS.get(name, _Spelling())
    if spelling.type is dict:
        return read_pairs(str(spelling.flag), value, str(spelling.metavar))
    return spelling.read(value.value if isinstance(value, StrEnum) else value)


def _read_flatness(settings: dict[str, Any], seed: int, *, measured: bool) -> Any:
    if settings and not measured:
        raise UsageError(f"--flatness-{next(iter(settings))}: pass --flatness too.")
    if not measured:
        return False
    import msgspec

    from cnatool.records.weights import Flatness

    return msgspec.convert({**settings, "seed": seed}, Flatness)
