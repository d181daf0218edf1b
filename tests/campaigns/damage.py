"""Damage to bytes and to folders of files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

_LONGEST = 600


def _bit(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return _put(content, place, bytes([content[place] ^ 1 << rng.randrange(8)]))


def _byte(content: bytes, rng: random.Random) -> bytes:
    return _put(content, rng.randrange(len(content)), bytes([rng.randrange(256)]))


def _digit(content: bytes, rng: random.Random) -> bytes:
    """Exchange a digit of a text for another one, which leaves the text well-formed."""
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    return _put(content, rng.choice(digits), b"%d" % rng.randrange(10)) if digits else content


def _zeros(content: bytes, rng: random.Random) -> bytes:
    return _put(content, rng.randrange(len(content)), bytes(rng.randint(1, _LONGEST)))


def _word(content: bytes, rng: random.Random) -> bytes:
    """Exchange 0x0000 for 0xffff or the other way round, which some checksums cannot tell apart."""
    words = [content[i : i + 2] for i in range(0, len(content) - 1, 2)]
    places = [i for i, word in enumerate(words) if word in (b"\0\0", b"\xff\xff")]
    if not places:
        return _byte(content, rng)
    place = rng.choice(places)
    return _put(content, 2 * place, bytes(255 - byte for byte in words[place]))


def _swap(content: bytes, rng: random.Random) -> bytes:
    length = rng.randint(1, max(1, min(_LONGEST, len(content) // 2)))
    if rng.randrange(2):
        length = max(4, length // 4 * 4)  # whole numbers of four bytes
    last = len(content) - length
    if last < length:
        return content
    first = rng.randint(0, last - length)
    second = rng.randint(first + length, last)
    one, other = content[first : first + length], content[second : second + length]
    return _put(_put(content, first, other), second, one)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _extend(content: bytes, rng: random.Random) -> bytes:
    more = rng.choice((bytes, rng.randbytes))(rng.randint(1, _LONGEST))
    return content + rng.choice((more, content[: len(more)]))


def _put(content: bytes, place: int, new: bytes) -> bytes:
    new = new[: len(content) - place]
    return content[:place] + new + content[place + len(new) :]


OF_BYTES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "bit": _bit,
    "byte": _byte,
    "digit": _digit,
    "zeros": _zeros,
    "word": _word,
    "swap": _swap,
    "cut": _cut,
    "extend": _extend,
}


def damaged_bytes(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage bytes; name how."""
    kind = rng.choice(list(OF_BYTES))
    return kind, OF_BYTES[kind](content, rng) if content else rng.randbytes(rng.randint(1, 9))


class Folder:
    """A folder whose files are damaged, and put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = self.read()
        places = sorted(path.rglob("*"))
        self._folders = [each for each in places if each.is_dir() and not each.is_symlink()]

    def read(self) -> dict[str, bytes]:
        """Give the contents of all files by name."""
        found = (file for file in self.path.rglob("*") if file.is_file() and not file.is_symlink())
        return {file.relative_to(self.path).as_posix(): file.read_bytes() for file in sorted(found)}

    def file(self, rng: random.Random) -> str:
        """Choose a file."""
        return rng.choice(list(self.files))

    def damage(self, name: str, rng: random.Random) -> str:
        """Damage the bytes of a file; say how."""
        kind, content = damaged_bytes(self.files[name], rng)
        (self.path / name).write_bytes(content)
        return f"{kind} of {name}"

    def delete(self, name: str, rng: random.Random) -> str:
        """Remove a file."""
        (self.path / name).unlink()
        return f"{name} deleted"

    def rename(self, name: str, rng: random.Random) -> str:
        """Call a file something else."""
        new = f"{name}{rng.choice(('~', ' (2)', '.bak'))}"
        (self.path / name).rename(self.path / new)
        return f"{name} renamed"

    def duplicate(self, name: str, rng: random.Random) -> str:
        """Have a file twice."""
        path = Path(name)
        new = path.with_name(
            rng.choice((f"{path.name} (2)", f"{path.stem} (2){path.suffix}", f"{path.name}1"))
        ).as_posix()
        if (self.path / new).exists():
            new = f"{name} (2)"
        (self.path / new).write_bytes(self.files[name])
        return f"{name} twice, as {new}"

    def exchange(self, name: str, rng: random.Random) -> str:
        """Exchange the contents of two files."""
        other = self.file(rng)
        if rng.randrange(2):  # one of the same name elsewhere, or of the same size
            end = name.rpartition("/")[2]
            alike = [each for each in self.files if each.endswith(end) and each != name]
            other = rng.choice(alike) if alike else other
        (self.path / name).write_bytes(self.files[other])
        (self.path / other).write_bytes(self.files[name])
        return f"{name} and {other} exchanged"

    def take(self, name: str, donor: Folder) -> str:
        """Take a file of another folder instead of ours."""
        (self.path / name).write_bytes(donor.files.get(name, b""))
        return f"{name} of another"

    def restore(self) -> None:
        """Put everything back."""
        for each in [each for each in self.path.rglob("*") if each.is_symlink()]:
            each.unlink()
        now = self.read()
        for name in now.keys() - self.files.keys():
            (self.path / name).unlink()
        for name, content in self.files.items():
            if now.get(name) != content:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(content)
        for each in [each for each in self.path.rglob("*") if each.is_dir()]:
            if each not in self._folders:
                shutil.rmtree(each, ignore_errors=True)
        for each in self._folders:
            each.mkdir(exist_ok=True)
