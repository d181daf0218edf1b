"""However a writer of an HDF5 store ends, what is found is its last commit or the next one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
from support.forked import Forked
from support.stores import append, arrays, check_rows, record, write_slowly

import cnatool
from cnatool._util import files
from cnatool.errors import NotAStoreError
from cnatool.records.store import StoreRecord
from cnatool.store import writer
from cnatool.store.hdf5 import journal
from cnatool.store.hdf5 import tree as hdf5
from cnatool.store.integrity import start_digests, update_digests
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter

ROWS = 44
# A write that was not made durable survives a power loss by the sector.
SECTOR = 512
# What changes the entries of a folder.
ENTRIES = ("create", "remove", "replace")
# Random losses tried after each operation.
LOSSES = int(os.environ.get("CNATOOL_LOSSES", "1"))
# One in so many of these stores is continued, too.
CONTINUED = int(os.environ.get("CNATOOL_CONTINUED", "37"))


class Disk:
    """Everything that was done to files, in order, and what a crash may leave of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[object, ...]] = []
        self._files: dict[int, int] = {}
        self._count = 0
        names = ("open_file", "write_at", "truncate", "sync_file", "sync", "remove", "rename_over")
        for name in names:
            monkeypatch.setattr(files, name, getattr(self, f"_{name}")(getattr(files, name)))

    def _open_file(self, real):
        def open_file(path: Path, mode: str) -> FileIO:
            file = real(path, mode)
            if mode != "rb":
                self._count += 1
                self._files[id(file)] = self._count
                self.done.append(("create", path.name, self._count))
            return file

        return open_file

    def _write_at(self, real):
        def write(file: FileIO, offset: int, data: bytes) -> None:
            real(file, offset, data)
            # Sectors of a write survive one by one, so each is an operation of its own.
            for at in range(0, len(data), 8 * SECTOR):
                part = bytes(data[at : at + 8 * SECTOR])
                self.done.append(("write", self._files[id(file)], offset + at, part))

        return write

    def _truncate(self, real):
        def truncate(file: FileIO, size: int) -> None:
            real(file, size)
            self.done.append(("truncate", self._files[id(file)], size))

        return truncate

    def _sync_file(self, real):
        def sync(file: FileIO) -> None:
            self.done.append(("sync", self._files[id(file)]))

        return sync

    def _sync(self, real):
        return lambda folder: self.done.append(("sync folder",))

    def _remove(self, real):
        def remove(path: Path) -> None:
            real(path)
            self.done.append(("remove", path.name))

        return remove

    def _rename_over(self, real):
        def replace(path: Path, target: Path) -> None:
            real(path, target)
            self.done.append(("replace", path.name, target.name))

        return replace

    def left(self, count: int, folder: Path, lost: random.Random | None, share: float) -> None:
        """Put into a folder what is there after ``count`` operations and a power loss.

        Without ``lost`` the machine runs on and only the process died: nothing is lost.
        """
        done = self.done[:count]
        names: dict[str, int] = {}
        contents: dict[int, bytearray] = {}
        folder_safe = max((i for i, o in enumerate(done) if o[0] == "sync folder"), default=-1)
        safe = {o[1]: i for i, o in enumerate(done) if o[0] == "sync"}
        # Entries of a folder are kept in order: from some point on, none is.
        entries = [i for i, o in enumerate(done) if o[0] in ENTRIES]
        unsafe = [i for i in entries if i > folder_safe]
        last_entry = count
        if lost is not None and unsafe and lost.random() < share:
            last_entry = lost.choice(unsafe)
        for i, operation in enumerate(done):
            kind, *what = operation
            if kind in ENTRIES:
                if kind == "create":
                    contents.setdefault(what[1], bytearray())
                if i >= last_entry:
                    continue
                if kind == "create":
                    names[what[0]] = what[1]
                elif kind == "replace":
                    names[what[1]] = names.pop(what[0])
                else:
                    names.pop(what[0], None)
                continue
            if kind not in ("write", "truncate"):
                continue
            if i > safe.get(what[0], -1) and lost is not None and lost.random() < share:
                continue
            content = contents[what[0]]
            if kind == "truncate":
                del content[what[1] :]
                content.extend(bytes(what[1] - len(content)))
                continue
            offset, data = what[1:]
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        for name, number in names.items():
            (folder / name).write_bytes(contents[number])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make commits often and chunks small."""
    monkeypatch.setattr(writer, "commit_rows", lambda sizes, most=None: 16)
    monkeypatch.setattr(writer, "chunk_rows", lambda sizes, rows, most=None: [8] * len(sizes))


def dumped(path: Path, data: dict[str, np.ndarray]) -> None:
    """Write a store in batches, then a second split into it."""
    store = StoreWriter(path, record())
    for name in ("train", "test"):
        split = store.split(name, ROWS, source="made", labels=True, id_bytes=9)
        for start in range(0, ROWS, 7):
            append(split, data, start, min(start + 7, ROWS))
        split.finish()
    store.close()


def continued(path: Path, data: dict[str, np.ndarray]) -> None:
    """Go on with a store that a crash left, up to its end."""
    there = open_store(path)
    whole = {name: len(split) for name, split in there.splits.items() if split.record.complete}
    store = StoreWriter.resume(there, "none")
    for name in ("train", "test"):
        if name in there.splits:
            rows = len(there.splits[name])
            digests = start_digests(there.record, labels=True)
            update_digests(digests, [data["inputs"][:rows]], data["labels"][:rows])
            split = store.resume_split(there.splits[name], digests)
        else:
            rows, split = 0, store.split(name, ROWS, source="made", labels=True, id_bytes=9)
        assert split.committed == rows
        for start in range(rows, ROWS, 9):
            append(split, data, start, min(start + 9, ROWS))
        if name not in whole:
            split.finish()
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["s.h5"]
    found = open_store(path)
    for split in found.splits.values():
        assert split.record.complete
        check_rows(split, data)
    assert len({split.record.fingerprint for split in found.splits.values()}) == 1


def commits(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, StoreRecord]]:
    """Collect of each commit its first and last operation, and what it says."""
    made: list[tuple[int, int, StoreRecord]] = []
    commit = hdf5.HDF5Tree.commit

    def watched(
        self: hdf5.HDF5Tree, attribute: bytes, checksum: str, *, final: bool = False
    ) -> None:
        first = len(disk.done)
        commit(self, attribute, checksum, final=final)
        made.append((first, len(disk.done), msgspec.json.decode(attribute, type=StoreRecord)))

    monkeypatch.setattr(hdf5.HDF5Tree, "commit", watched)
    return made


def found(path: Path, data: dict[str, np.ndarray]) -> StoreRecord | None:
    """Open what is there, check every row that counts, and touch nothing."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    try:
        store = open_store(path)
    except NotAStoreError:
        return None
    for split in store.splits.values():
        check_rows(split, data)
    assert before == {file.name: file.read_bytes() for file in path.parent.iterdir()}
    return store.record


def test_a_crash_at_any_moment_leaves_a_commit(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = arrays(ROWS)
    disk = Disk(monkeypatch)
    made = commits(disk, monkeypatch)
    (tmp_path / "real").mkdir()
    dumped(tmp_path / "real/s.h5", data)
    monkeypatch.undo()
    make_small(monkeypatch)
    assert len(made) == 3 + 2 * 3
    assert len(disk.done) > 100
    states = set()
    known: dict[frozenset[tuple[str, bytes]], StoreRecord | None] = {}
    for count in range(len(disk.done) + 1):
        finished = [number for number, (_, last, _) in enumerate(made) if last <= count]
        begun = [number for number, (first, _, _) in enumerate(made) if first <= count]
        allowed = [made[n][2] for n in {*finished[-1:], *begun[-1:]}] + [None] * (not finished)
        # Nothing is lost; everything that was not made durable is; some of it is.
        losses = [(None, 0.0), (random.Random(0), 1.0)]
        losses += [(random.Random(count * 100 + i), 0.5) for i in range(LOSSES)]
        for number, (lost, share) in enumerate(losses):
            folder = tmp_path / f"{count}-{number}"
            folder.mkdir()
            disk.left(count, folder, lost, share)
            # Many moments leave the same bytes.
            left = frozenset((file.name, file.read_bytes()) for file in folder.iterdir())
            if left not in known:
                known[left] = found(folder / "s.h5", data)
            got = known[left]
            assert got in allowed, (count, number)
            states.add(None if got is None else msgspec.json.encode(got))
            if got is not None and (count + number) % CONTINUED == 0:
                continued(folder / "s.h5", data)
            elif got is not None and number == len(losses) - 1:
                # Without the journal any reader finds the same.
                journal.recover(folder / "s.h5")
                assert [file.name for file in folder.iterdir()] == ["s.h5"]
                with h5py.File(folder / "s.h5", "r") as root:
                    text = root.attrs["cnatool"]
                    assert msgspec.json.decode(text, type=StoreRecord) == got
                    for name, split in got.splits.items():
                        stop = split.committed[-1][1] if split.committed else 0
                        values = root[f"splits/{name}/activations/1"][:stop]
                        np.testing.assert_array_equal(values, data["b"][:stop])
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    assert len(states) == len(made) + 1


def test_a_commit_that_fails_leaves_the_last_one(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may refuse any write; what is safe stays so, and nothing hangs or crashes."""
    data = arrays(ROWS)
    write = files.write_at
    for limit in range(0, 200, 7):
        path = tmp_path / f"{limit}.h5"
        left = iter(range(limit))

        def refusing(file: FileIO, offset: int, content: bytes, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            write(file, offset, content)

        monkeypatch.setattr(files, "write_at", refusing)
        try:
            dumped(path, data)
        except OSError as error:
            refused = error
        else:
            refused = None
        assert refused is None or "No space left on device" in str(refused)
        monkeypatch.setattr(files, "write_at", write)
        found(path, data)


def started(path: Path) -> Forked:
    process = Forked(write_slowly, path)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("lines", [1, 3, 10, 30, 60])
def test_a_killed_writer(lines: int, tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with started(path) as process:
        said = [process.stdout.readline() for _ in range(lines)]
        time.sleep(random.Random(lines).uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    split = open_store(path).splits["train"]
    safe = 4000 if said[-1] == "done\n" else int(said[-1])
    # The commit after the one that was last told of may have come through.
    assert safe <= len(split) <= safe + 2 * 64
    check_rows(split, arrays(4000))


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    data = arrays(4000)
    seen, early = [], None
    with started(path) as process:
        while not (seen and seen[-1] == 4000):
            split = cnatool.open(path).splits["train"]
            check_rows(split, data)
            seen.append(len(split))
            if early is None and len(split):
                early = split
            elif early is not None:
                # What was opened long ago still gives the rows of then.
                assert len(early) < 4000
                check_rows(early, data)
        process.communicate()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_store_put_in_its_place_is_left_alone(small: None, tmp_path: Path) -> None:
    data = arrays(ROWS)
    path = tmp_path / "s.h5"
    store = StoreWriter(path, record())
    split = store.split("train", ROWS, source="made", labels=True, id_bytes=9)
    path.rename(tmp_path / "aside.h5")
    path.write_bytes(b"another")
    with pytest.raises(OSError, match="another file replaced it"):
        append(split, data, 0, ROWS)
    store.close()
    assert path.read_bytes() == b"another"
    assert [file.name for file in tmp_path.glob("*.journal")] == []
