"""A journal beside a file that it does not belong to, and a journal that is damaged."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from support.stores import append, arrays, check_rows, record

import cnatool
from cnatool import StoreWarning
from cnatool._util import files
from cnatool.errors import StoreDamagedError
from cnatool.store import writer
from cnatool.store.hdf5 import journaled_file
from cnatool.store.hdf5 import tree as hdf5
from cnatool.store.hdf5.journal import (
    Journal,
    find_journal_fault,
    journal_path,
    partial_path,
    recover,
)
from cnatool.store.hdf5.journaled_file import JournaledFile
from cnatool.store.reader import open_store
from cnatool.store.replace import ReplacedStore
from cnatool.store.writer import StoreWriter

ROWS = 60
STEP = 16
# Of the commits that `dumped` makes: the one that a crash cuts off.
CUT = 3
COMMITTED = 32


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "commit_rows", lambda sizes, most=None: STEP)
    monkeypatch.setattr(writer, "chunk_rows", lambda sizes, rows, most=None: [8] * len(sizes))
    monkeypatch.setattr(journaled_file, "_PAUSES", ())
    monkeypatch.setattr(files, "sync_file", lambda file: None)
    monkeypatch.setattr(files, "sync", lambda folder: None)


def dumped(path: Path, data: dict[str, np.ndarray]) -> None:
    store = StoreWriter(path, record())
    split = store.split("train", ROWS, source="made", labels=True, id_bytes=9)
    for start in range(0, ROWS, 5):
        append(split, data, start, min(start + 5, ROWS))
    split.finish()
    store.close()


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[bytes]]:
    """Give a store whose writer died at a commit, once its journal was there.

    With it comes what the file would have been after each commit of the dump.
    """
    path = tmp_path / "s.h5"
    states: list[bytes] = []
    died: list[bytes] = []
    commit, apply = hdf5.HDF5Tree.commit, Journal.apply

    def watched(self: hdf5.HDF5Tree, *words: object, **named: object) -> None:
        commit(self, *words, **named)
        states.append(path.read_bytes())

    def dies(self: Journal, file: object) -> None:
        if len(states) == CUT:
            died.extend((path.read_bytes(), journal_path(path).read_bytes()))
        apply(self, file)

    with monkeypatch.context() as patched:
        patched.setattr(hdf5.HDF5Tree, "commit", watched)
        patched.setattr(Journal, "apply", dies)
        dumped(path, arrays(ROWS))
    path.write_bytes(died[0])
    journal_path(path).write_bytes(died[1])
    return path, states


@pytest.fixture
def cut(dump: tuple[Path, list[bytes]]) -> Path:
    return dump[0]


@pytest.fixture
def states(dump: tuple[Path, list[bytes]]) -> list[bytes]:
    return dump[1]


def as_old(path: Path) -> None:
    """Write the journal again in the first form, which lacks the state of the file."""
    journal = Journal.read(path)
    body = b"cnatool journal 1\n" + struct.pack("<QQ", journal.size, len(journal.extents))
    body += b"".join(struct.pack("<QQ", offset, len(data)) for offset, data in journal.extents)
    body += b"".join(data for _, data in journal.extents)
    journal_path(path).write_bytes(body + struct.pack("<I", google_crc32c.value(body)))


FORMS = {"new": lambda path: None, "old": as_old}


def half_applied(path: Path) -> None:
    """Overwrite every other sector of what the journal changes."""
    with path.open("r+b") as file:
        for offset, data in Journal.read(path).extents:
            for at in range(0, len(data), 1024):
                file.seek(offset + at)
                file.write(data[at : at + 512])


def longer(path: Path) -> None:
    """Append what a writer of the next commit had begun to."""
    with path.open("ab") as file:
        file.write(b"chunk" * 1000)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [lambda path: None, half_applied, longer])
def test_a_journal_is_applied_to_the_file_of_its_commit(
    cut: Path, states: list[bytes], form: str, change: Callable[[Path], None]
) -> None:
    FORMS[form](cut)
    change(cut)
    split = open_store(cut).splits["train"]
    assert len(split) == COMMITTED
    check_rows(split, arrays(ROWS))
    recover(cut)
    assert not journal_path(cut).exists()
    assert cut.read_bytes() == states[CUT]


def restored(number: int) -> Callable[[Path, list[bytes]], None]:
    def put(path: Path, states: list[bytes]) -> None:
        path.write_bytes(states[number])

    return put


def shortened(path: Path, states: list[bytes]) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def another(path: Path, states: list[bytes]) -> None:
    journal = journal_path(path).read_bytes()
    path.unlink()
    journal_path(path).unlink()
    dumped(path, arrays(ROWS + 40))
    journal_path(path).write_bytes(journal)


OTHERS = {
    "an earlier commit": restored(CUT - 2),
    "the last commit": restored(CUT - 1),
    "a later commit": restored(CUT + 1),
    "the end": restored(-1),
    "cut short": shortened,
    "another store": another,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", OTHERS)
def test_a_journal_of_another_state_is_in_the_way(
    cut: Path, states: list[bytes], other: str, form: str
) -> None:
    FORMS[form](cut)
    OTHERS[other](cut, states)
    before = cut.read_bytes(), journal_path(cut).read_bytes()
    text = f"{re.escape(str(journal_path(cut)))} is in the way: .* delete the journal"
    for use in (open_store, hdf5.HDF5Tree.open, recover, ReplacedStore, cnatool.score, resumed):
        with pytest.raises(StoreDamagedError, match=text):
            use(cut)
    assert (cut.read_bytes(), journal_path(cut).read_bytes()) == before
    fault = cnatool.verify(cut).faults[0]
    assert fault.problem.startswith(f"{journal_path(cut)} is in the way")
    # What the message advises.
    journal_path(cut).unlink()
    if other != "cut short":
        check_rows(open_store(cut).splits["train"], arrays(ROWS + 40 * (other == "another store")))


def resumed(path: Path) -> None:
    hdf5.HDF5Tree.reopen(path, ["train"])


def test_the_same_copy_restored_is_completed(cut: Path, states: list[bytes]) -> None:
    copy = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(copy)
    assert len(open_store(cut).splits["train"]) == COMMITTED


def test_a_copy_of_what_the_commit_made_is_read(cut: Path, states: list[bytes]) -> None:
    cut.write_bytes(states[CUT])
    assert len(open_store(cut).splits["train"]) == COMMITTED


def test_a_journal_with_any_byte_changed_is_never_applied(cut: Path) -> None:
    whole = journal_path(cut).read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        journal_path(cut).write_bytes(changed)
        assert find_journal_fault(cut) is not None, at
    for length in (0, 1, 17, 18, 40, len(whole) // 2, len(whole) - 1):
        journal_path(cut).write_bytes(whole[:length])
        assert find_journal_fault(cut) is not None, length
        journal_path(cut).write_bytes(whole[:length] + bytes(len(whole) - length))
        assert find_journal_fault(cut) is not None, length
    journal_path(cut).write_bytes(whole + b"more")
    assert find_journal_fault(cut) is not None


def flipped(journal: Path) -> None:
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)


def halved(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])


def zeroed(journal: Path) -> None:
    journal.write_bytes(bytes(journal.stat().st_size))


def a_folder(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


def a_dangling_link(journal: Path) -> None:
    journal.unlink()
    journal.symlink_to("nowhere")


def a_diary(journal: Path) -> None:
    journal.write_text("cnatool and I: a diary")


DAMAGE = {
    flipped: "is damaged",
    halved: "is damaged",
    zeroed: "begins with zeros",
    Path.unlink: None,
    lambda journal: journal.write_bytes(b""): "is empty",
    a_folder: "is a folder or a link",
    a_dangling_link: "is a folder or a link",
    a_diary: "is damaged or is not a journal",
}


@pytest.mark.parametrize(("change", "said"), DAMAGE.items())
def test_a_damaged_journal_is_said_with_the_rows_that_are_left(
    cut: Path, change: Callable[[Path], object], said: str | None
) -> None:
    change(journal_path(cut))
    if said is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store = open_store(cut)
    else:
        with pytest.warns(StoreWarning, match=f"s.h5.journal {said}") as caught:
            store = open_store(cut)
        assert len(caught) == 1
        assert f"it has {COMMITTED - STEP} of {ROWS} rows of train" in str(caught[0].message)
        assert "Complete the store with `dump(resume=True)`" in str(caught[0].message)
        with pytest.warns(StoreWarning):
            faults = cnatool.verify(cut).faults
        assert any(fault.where == "journal" and said in fault.problem for fault in faults)
    assert len(store.splits["train"]) == COMMITTED - STEP
    check_rows(store.splits["train"], arrays(ROWS))


def test_no_dump_completes_a_store_that_is_complete(tmp_path: Path) -> None:
    store, x = tmp_path / "s.h5", np.ones((4, 2), np.float32)
    with cnatool.create_store(store, tensors=["a"]) as recording:
        recording.append("train", inputs=x, outputs=x, activations={"a": x})
    a_diary(journal_path(store))
    with pytest.warns(StoreWarning, match="it has 4 of 4 rows of train. Restore both") as caught:
        open_store(store)
    assert "--resume" not in str(caught[0].message)


def test_a_damaged_old_journal_may_have_been_cut_off(cut: Path) -> None:
    as_old(cut)
    flipped(journal_path(cut))
    with pytest.warns(StoreWarning, match="was cut off or damaged"):
        open_store(cut)
    recover(cut)
    assert not journal_path(cut).exists()


def test_a_journal_that_may_not_be_read(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refused(self: Path, *words: object, **named: object) -> object:
        if self.suffix == ".journal":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *words, **named)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StoreDamagedError, match=r"s\.h5\.journal .*\(Permission denied\)"):
        open_store(cut)


@pytest.mark.parametrize("place", [journal_path, partial_path])
@pytest.mark.parametrize("change", [a_folder, a_dangling_link, a_diary])
def test_no_commit_writes_through_what_is_there(
    tmp_path: Path, place: Callable[[Path], Path], change: Callable[[Path], object]
) -> None:
    path = tmp_path / "s.h5"
    place(path).touch()
    change(place(path))
    with pytest.raises(FileExistsError, match="is in the way"):
        JournaledFile.create(path)
    assert sorted(tmp_path.iterdir()) == [place(path)]


def test_what_is_left_of_a_journal_being_written_counts_for_nothing(
    cut: Path, states: list[bytes]
) -> None:
    content = journal_path(cut).read_bytes()
    journal_path(cut).unlink()
    partial_path(cut).write_bytes(content[:-7])
    assert len(open_store(cut).splits["train"]) == COMMITTED - STEP
    JournaledFile.reopen(cut).close()
    assert [file.name for file in cut.parent.iterdir()] == ["s.h5"]
