from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnatool.errors import StoreDamagedError
from cnatool.store.hdf5.journal import forget, journal_path, recover
from cnatool.store.hdf5.journaled_file import JournaledFile

SIZES = st.integers(0, 3 * 4096)
STEPS = st.one_of(
    st.tuples(st.just("write"), SIZES, st.integers(0, 9000), st.integers(1, 255)),
    st.tuples(st.just("truncate"), SIZES),
    st.tuples(st.just("commit")),
)


def whole(file: JournaledFile) -> bytes:
    size = file.seek(0, 2)
    file.seek(0)
    return file.read(size + 10)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_it_behaves_like_a_file_and_commits_all_at_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "s.h5"
    file = JournaledFile.create(path)
    now, safe = bytearray(), b""
    # Bytes that a truncation uncovers hold nothing that anybody may rely on.
    unknown: set[int] = set()
    for kind, *what in steps:
        if kind == "write":
            offset, length, value = what
            file.seek(offset)
            assert file.write(bytes([value]) * length) == length
            if length:
                unknown |= set(range(len(now), offset))
                now.extend(bytes(max(0, offset + length - len(now))))
                now[offset : offset + length] = bytes([value]) * length
                unknown -= set(range(offset, offset + length))
        elif kind == "truncate":
            (size,) = what
            file.truncate(size)
            unknown |= set(range(len(now), size))
            unknown -= set(range(size, max(size, len(now))))
            now = now[:size] + bytes(max(0, size - len(now)))
        else:
            file.commit()
            safe = bytes(now)
            assert not journal_path(path).exists()
            known = [i for i in range(len(safe)) if i not in unknown]
            found = path.read_bytes()
            assert len(found) == len(safe)
            assert all(found[i] == safe[i] for i in known)
            unchanged = known
        got = whole(file)
        assert len(got) == len(now)
        assert all(got[i] == now[i] for i in range(len(now)) if i not in unknown)
        if safe:
            # What was committed is there still, whatever was written since.
            found = path.read_bytes()[: len(safe)]
            assert all(found[i] == safe[i] for i in unchanged)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", google_crc32c.value(body))


def test_a_whole_journal_is_read_and_then_applied(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(b"0123456789 and what was never committed")
    body = b"cnatool journal 1\n" + struct.pack("<QQQQ", 12, 1, 2, 3) + b"abc"
    journal_path(path).write_bytes(sealed(body))
    assert whole(JournaledFile.open(path)) == b"01abc56789 a"
    assert path.read_bytes().startswith(b"0123456789")
    recover(path)
    assert path.read_bytes() == b"01abc56789 a"
    assert not journal_path(path).exists()


@pytest.mark.parametrize("cut", [0, 1, 17, 30, 45, 53])
def test_part_of_a_journal_never_happened(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(b"0123456789")
    body = b"cnatool journal 1\n" + struct.pack("<QQQQ", 12, 1, 2, 3) + b"abc"
    journal_path(path).write_bytes(sealed(body)[:cut])
    assert whole(JournaledFile.open(path)) == b"0123456789"
    recover(path)
    assert path.read_bytes() == b"0123456789"
    assert not journal_path(path).exists()


def test_a_journal_that_nobody_wrote(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(b"0123456789")
    body = b"cnatool journal 1\n" + struct.pack("<QQQQ", 12, 1, 2, 30) + b"abc"
    journal_path(path).write_bytes(sealed(body))
    with pytest.raises(StoreDamagedError, match="s.h5.journal is not a journal that cnatool wrote"):
        JournaledFile.open(path)


def test_a_file_that_only_has_the_name_of_a_journal_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    journal_path(path).write_text("cnatool and I: a diary")
    with pytest.raises(FileExistsError, match="s.h5.journal is in the way"):
        JournaledFile.create(path)
    path.write_bytes(b"0123456789")
    recover(path)
    forget(path)
    assert journal_path(path).read_text() == "cnatool and I: a diary"
    for lost in (b"", bytes(100), b"cnatool jour" + bytes(30)):
        path.unlink(missing_ok=True)
        journal_path(path).write_bytes(lost)
        JournaledFile.create(path)
        assert not journal_path(path).exists()


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        JournaledFile.create(path)
    assert path.read_bytes() == b"mine"
