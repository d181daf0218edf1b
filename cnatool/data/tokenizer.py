"""Tokenizers as model hubs keep them: ``tokenizer.json``, alone or in a folder with its settings.

The `tokenizers` package runs them. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from cnatool._util.local_paths import check_local
from cnatool._util.text import list_names, one_line, printable
from cnatool.errors import DataError, UsageError
from cnatool.records.run import TokenizerRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_FILE = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"
# What tokenizers are made from, and what keeps them in other forms.
_VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
# A length that hubs write where there is no limit is about 1e30.
_MOST_TOKENS = 10**9
# Bytes of texts that are given to the tokenizer at once: for each it holds some hundred more.
_PIECE = 1 << 21
_PROBE = "a"


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A tokenizer, and how it cuts texts that are too long.

    Attributes
    ----------
    record : TokenizerRecord
    special : tuple of int
        Ids of special tokens.
    before, after : int
        Special tokens that are put before and behind each text.
    model_length : int or None
        Tokens that its model takes, as its settings say.
    """

    record: TokenizerRecord
    special: tuple[int, ...]
    before: int
    after: int
    model_length: int | None
    _tokenizer: Any

    @property
    def max_length(self) -> int | None:
        """Tokens to which longer texts are truncated."""
        return self.record.max_length

    def encode(self, texts: Sequence[bytes]) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Yield the ids of each text, special tokens included, and how many were cut off."""
        held: list[str] = []
        size = 0
        for text in texts:
            if held and size + len(text) > _PIECE:
                yield from self._encode(held)
                held, size = [], 0
            held.append(text.decode())
            size += len(text)
        yield from self._encode(held)

    def _encode(self, texts: list[str]) -> Iterator[tuple[NDArray[np.int64], int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts)
        except Exception as error:
            raise DataError(
                f"{self.record.name} fails on a text ({printable(one_line(error))}): it may be "
                "damaged."
            ) from error
        for encoding in encodings:
            yield self._cut(np.array(encoding.ids, np.int64))

    def _cut(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Cut tokens of the text; the special tokens around it stay."""
        most = self.max_length
        if most is None or len(ids) <= most:
            return ids, 0
        head, tail = self.before, self.after
        if self.record.truncated == "right":
            head = most - tail
        else:
            tail = most - head
        return np.concatenate([ids[:head], ids[len(ids) - tail :]]), len(ids) - most


def load_tokenizer(path: Path, max_length: int | None = None) -> TextTokenizer:
    """Load a tokenizer from its file, or from a folder with it and its settings.

    Padding and truncation that the file asks for are switched off: they are not part of a text.

    Raises
    ------
    DataError
        If there is no tokenizer, or its file and its settings contradict each other.
    UsageError
        If no token of a text is left of ``max_length``.
    """
    file = _find_file(path)
    try:
        content = file.read_bytes()
        settings = _read_settings(path / _SETTINGS) if path.is_dir() else {}
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}).") from error
    library, tokenizer = _parse(file, content)
    cut = json.loads(content).get("truncation") or {}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    before, after = _find_template(file, tokenizer)
    _check_settings(path, tokenizer, settings)
    if max_length is not None and max_length <= before + after:
        raise UsageError(
            f"`max_length={max_length}`: {file} adds {before + after} special tokens to each "
            f"text, so at least {before + after + 1}."
        )
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise DataError(f"{file} has no tokens: it was saved before it was trained.")
    added: dict[int, Any] = tokenizer.get_added_tokens_decoder()
    # [UNK] is special as well, but stands for a part of the text.
    unknown = _find_unknown(json.loads(content).get("model") or {}, vocabulary)
    special = {number for number, token in added.items() if token.special} - {unknown}
    special.update(tokenizer.encode("").ids)
    side = settings.get("truncation_side") or str(cut.get("direction", "right")).lower()
    record = TokenizerRecord(
        name=printable(path.name or str(path)),
        sha256=hashlib.sha256(content).hexdigest(),
        library=library,
        vocabulary=max(vocabulary.values()) + 1,
        max_length=max_length,
        truncated=cast("Literal['left', 'right']", side if side == "left" else "right"),
    )
    most = settings.get("model_max_length")
    limit = int(most) if isinstance(most, int | float) and 0 < most < _MOST_TOKENS else None
    return TextTokenizer(record, tuple(sorted(special)), before, after, limit, tokenizer)


def _find_unknown(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> int | None:
    """Return the id of the token that stands for what the vocabulary lacks, if there is one."""
    number = model.get("unk_id")
    if isinstance(number, int):
        return number
    token = model.get("unk_token")
    return vocabulary.get(token) if isinstance(token, str) else None


def _find_file(path: Path) -> Path:
    """Find ``tokenizer.json``; say how to make it where there is only a vocabulary."""
    if not path.exists():
        check_local(path)
        raise DataError(
            f"no such file or folder: {path}. A tokenizer is a tokenizer.json, or the folder that "
            "holds it; nothing is downloaded."
        )
    if not path.is_dir():
        if path.name in _VOCABULARIES:
            raise DataError(f"{path} is a vocabulary, not a tokenizer. {_advise(path.parent)}")
        return path
    if (path / _FILE).is_file():
        return path / _FILE
    found = [name for name in _VOCABULARIES if (path / name).is_file()]
    if found or (path / _SETTINGS).is_file():
        held = list_names(found or [_SETTINGS])
        raise DataError(f"{path} holds {held} and no {_FILE}. {_advise(path)}")
    raise DataError(f"{path} holds no {_FILE}: name the folder or file of the model's tokenizer.")


def _advise(folder: Path) -> str:
    return (
        f'transformers makes a {_FILE} of it: python -c "from transformers import AutoTokenizer; '
        f"AutoTokenizer.from_pretrained('{printable(str(folder))}').save_pretrained('TOKENIZER')\""
        "; then give `tokenizer=TOKENIZER`."
    )


def _read_settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({printable(one_line(error))}).") from error
    if not isinstance(settings, dict):
        raise DataError(f"{path} is not a JSON object, as the settings of a tokenizer are.")
    return settings


def _parse(file: Path, content: bytes) -> tuple[str, Any]:
    """Parse a tokenizer; return also the library that runs it, with its version."""
    try:
        import tokenizers
    except ImportError as error:
        raise UsageError(
            "`tokenizer` needs the package tokenizers, which is not installed: "
            "python -m pip install 'cnatool[text]'"
        ) from error
    try:
        loaded = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file} is not a tokenizer: it is not JSON ({printable(one_line(error))})."
        ) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("model"), dict):
        raise DataError(
            f"{file} is not a tokenizer: it has no 'model'. Give the {_FILE} of the model."
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    # A panic of Rust is no Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        kind = loaded["model"].get("type")
        raise DataError(
            f"{file}, a tokenizer of type {printable(repr(kind))}, is rejected by tokenizers "
            f"{tokenizers.__version__} ({printable(one_line(Exception(error)))[:200]}): it may be "
            "damaged, or need a newer release: pip install -U tokenizers."
        ) from error
    return f"tokenizers {tokenizers.__version__}", tokenizer


def _find_template(file: Path, tokenizer: Any) -> tuple[int, int]:
    """Count the special tokens that are put before and behind each text."""
    try:
        alone: list[int] = tokenizer.encode(_PROBE, add_special_tokens=False).ids
        encoding = tokenizer.encode(_PROBE)
    except Exception as error:
        raise DataError(
            f"{file} fails on the text {_PROBE!r} ({printable(one_line(error))}): it may be "
            "damaged."
        ) from error
    whole: list[int] = encoding.ids
    if any(encoding.type_ids):
        raise DataError(
            f"{file} gives tokens of a single text other types than 0, which models are not fed: "
            "tokenise the texts beforehand, and give ids and types as columns of lists."
        )
    added = len(whole) - len(alone)
    for before in range(added + 1):
        if whole[before : before + len(alone)] == alone:
            return before, added - before
    raise DataError(
        f"{file} puts special tokens inside a text, which is not supported: tokenise the texts "
        "beforehand, and give the ids as a column of lists."
    )


def _check_settings(path: Path, tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Refuse settings that contradict the tokenizer's file: transformers follows the settings."""
    ids: list[int] = tokenizer.encode("").ids
    tokens = [tokenizer.id_to_token(number) for number in ids]
    state = json.loads(tokenizer.to_str())
    differences = []
    for word in ("bos", "eos"):
        asked, token = settings.get(f"add_{word}_token"), settings.get(f"{word}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(asked, bool) and isinstance(token, str) and asked != (token in tokens):
            differences.append((f"add_{word}_token", asked))
    asked = settings.get("do_lower_case")
    lower = _find(state.get("normalizer"), "BertNormalizer", "lowercase")
    if isinstance(asked, bool) and lower is not None and lower != asked:
        differences.append(("do_lower_case", asked))
    asked = settings.get("add_prefix_space")
    space = _find(state.get("pre_tokenizer"), "ByteLevel", "add_prefix_space")
    if isinstance(asked, bool) and space is not None and space != asked:
        differences.append(("add_prefix_space", asked))
    if differences:
        name, asked = differences[0]
        raise DataError(
            f"{path / _SETTINGS} says {name}={json.dumps(asked)}, and {_FILE} beside it does "
            f"otherwise, so ids would differ: give {path / _FILE} itself to use it as it is, or "
            "save both anew with transformers, which follows the settings: "
            f"AutoTokenizer.from_pretrained('{printable(str(path))}').save_pretrained('TOKENIZER')."
        )


def _find(part: Any, kind: str, name: str) -> bool | None:
    """Find a setting of a part of a tokenizer, which may be one of a sequence."""
    if not isinstance(part, dict):
        return None
    if part.get("type") == kind:
        value = part.get(name)
        return value if isinstance(value, bool) else None
    for inner in (*part.get("normalizers", ()), *part.get("pretokenizers", ())):
        value = _find(inner, kind, name)
        if value is not None:
            return value
    return None
