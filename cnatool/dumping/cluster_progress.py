"""Progress and notes of the parts of a dump, from the workers of a cluster to its client."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from cnatool._util.cluster import report
from cnatool._util.text import count_text
from cnatool._util.urls import is_url
from cnatool.dumping.parts_folder import count_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cnatool._util.observer import Observer
    from cnatool.dumping.parts_folder import PartsFolder, Ticket

# Seconds between two reports of a worker.
_REPORT_SECONDS = 0.5
# Seconds between two looks at a ticket in a bucket, each of which is a request.
_TICKET_SECONDS = 2.0
_PROGRESS = "all parts"
# Numbers, and the ends of plurals.
_COUNTS = re.compile(r"[\d.,]+|s\b")


class PartObserver:
    """Reports the progress of a part, as long as its ticket is valid.

    Parameters
    ----------
    ticket : Ticket, optional
        The right to write the part.
    topic : str
        Where progress is reported.
    """

    def __init__(self, ticket: Ticket | None = None, topic: str = "") -> None:
        self._ticket = ticket
        self._topic = topic
        self._reported = 0.0
        self._checked = 0.0
        self.began = False
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def progress(self, split: str, done: int, rows: int) -> None:
        """Check the ticket, and report progress at times."""
        if self._ticket is None:
            return
        now = time.monotonic()
        # In a bucket, a part that another process continues cannot be committed any more.
        if not is_url(self._ticket.path) or now - self._checked >= _TICKET_SECONDS:
            self._checked = now
            self._ticket.check()
        # What was noted before is about the plan, which all parts share.
        self.notes.clear()
        self.began = True
        if done == rows or now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            report(self._topic, [self._ticket.part, split, done])


class ClusterProgress:
    """The rows that are done, over all parts."""

    def __init__(self, folder: PartsFolder, total: int, observer: Observer) -> None:
        self.topic = f"cnatool-{uuid.uuid4().hex}"
        self._total = total
        self._observer = observer
        self._shown = -1
        self._done: dict[tuple[str, str], int] = {}
        for part in folder.parts():
            for split, rows in count_rows(part).items():
                self._done[part.name, split] = rows

    def update(self, message: list[Any]) -> None:
        """Take over the report of a worker; runs in another thread."""
        part, split, done = message
        self._done[part, split] = done

    def show(self) -> None:
        """Show progress, if there is any."""
        done = min(self._total, sum([*self._done.values()]))
        if done not in (self._shown, self._total):
            self._shown = done
            self._observer.progress(_PROGRESS, done, self._total)

    def finish(self) -> None:
        """Show that all is done: the last reports of workers may be on their way."""
        self._observer.progress(_PROGRESS, self._total, self._total)


class Findings:
    """What the workers note about the values of their parts, each kind once."""

    def __init__(self) -> None:
        # Texts that differ only in numbers and names of samples are of one kind.
        self._kinds: dict[str, dict[str, str]] = {}

    def add(self, part: str, notes: Iterable[str]) -> None:
        """Add the notes of a part."""
        for text in notes:
            kind = _COUNTS.sub("", text.partition(", first ")[0])
            self._kinds.setdefault(kind, {})[part] = text

    def notes(self) -> Iterator[str]:
        """Yield a line for each kind, which says which part it is about unless that is all."""
        for texts in self._kinds.values():
            if len({*texts.values()}) == 1:
                yield next(iter(texts.values()))
                continue
            part, text = min(texts.items(), key=lambda item: int(item[0].split()[1]))
            yield f"{part}: {text} (likewise {count_text(len(texts) - 1, 'other part')})"
