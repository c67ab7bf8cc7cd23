"""The journal: changes and their actions as they start and end, and what planning needs to know of them.

Each action is written down, and on the disk, before it is done. So whatever ends the process, the next one knows what
had been started, and `cede history` tells the rest. Source: https://www.sqlite.org/wal.html, pragma synchronous=FULL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cede.model.journal_state import Held, Memory, Unfinished
from cede.model.pci import Address, Origin
from cede.model.serialization import build, plain
from cede.state.status_store import Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from cede.errors import CedeError
    from cede.model.plan import Step, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """On whose behalf something is done: the command as it was given, and the person or service that gave it."""

    command: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedEntry:
    """One deed in the history; `seconds` is None if it never ended. `undoing` if it took an earlier one back."""

    text: str
    begun: str
    seconds: float | None
    outcome: str
    message: str
    undoing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One task in the history, with its deeds in order. Times are UTC, ISO 8601.

    `outcome` is `done`, `failed`, `rolled back`, `stranded`, `interrupted`, `found` (by a rebuilt journal) or
    `cut off`, if cede was killed there. `address` is None for what was about no device. `open` tells that something of
    it may still be left to finish or to undo.
    """

    number: int
    begun: str
    ended: str | None
    subject: str
    address: Address | None
    domain: str
    asked: str
    who: str
    outcome: str
    message: str
    remedy: str
    open: bool
    deeds: tuple[DeedEntry, ...]


_KEPT_DAYS = 180


_MOST_BYTES = 32 * 1024 * 1024


_AT_ONCE = 100


class Journal(Standing):
    """Everything that is remembered; see `JournalFile` for how it is opened and what it raises."""

    # -- what planning needs

    def memory(self) -> Memory:
        """The origins of devices that cede took, what is unfinished, and what hung in this boot."""
        with self._reading() as connection:
            if connection is None:
                return Memory(origins={})
            origins = connection.execute("SELECT address, value FROM origin").fetchall()
            unfinished = connection.execute(
                "SELECT subject, address, domain, inward, back, begun FROM task"
                " WHERE id IN (SELECT max(id) FROM task WHERE open AND address != '' GROUP BY address) ORDER BY id"
            ).fetchall()
            held = connection.execute(
                "SELECT address, reason, since FROM held WHERE boot = ? ORDER BY address",
                (self._boot,),
            ).fetchall()
            return Memory(
                origins={Address.parse(at): _origin(value) for at, value in origins},
                unfinished=tuple(
                    Unfinished(
                        subject=subject,
                        address=Address.parse(at),
                        domain=domain,
                        inward=bool(inward),
                        back=bool(back),
                        since=since,
                    )
                    for subject, at, domain, inward, back, since in unfinished
                ),
                held=tuple(
                    Held(address=Address.parse(at), reason=reason, since=since)
                    for at, reason, since in held
                ),
                pauses=self._pauses(connection),
                attachments=self._attachments(connection),
            )

    # -- what executing needs

    def begin(self, work: Work, asked: Asked) -> int:
        """A task for `work`, which takes the place of earlier ones on the same device; returns its number.

        What was to go back to dom0 still is. If nothing comes of it, the earlier ones stand again.
        """
        with self._writing() as connection:
            (back,) = connection.execute(
                "SELECT max(back) FROM task WHERE open AND address = ?", (_place(work.address),)
            ).fetchone()
            return self._insert_task(connection, work, asked, back=bool(back))

    def _insert_task(
        self, connection: sqlite3.Connection, work: Work, asked: Asked, *, back: bool = False
    ) -> int:
        row = connection.execute(
            "INSERT INTO task (begun, asked, who, subject, address, domain, inward, back) VALUES (?,?,?,?,?,?,?,?)",
            (
                self._stamp(), asked.command, asked.who, work.subject, _place(work.address), work.domain,
                work.inward, work.back or back,
            ),
        )  # fmt: skip
        return row.lastrowid or 0

    def before(
        self,
        task: int,
        step: Step,
        was: object,
        *,
        origin: Origin | None = None,
        undoing: bool = False,
    ) -> int:
        """A deed that is about to be done, and what was so `was`; returns its number.

        `origin` is kept until the device is given back.
        """
        with self._writing() as connection:
            if origin is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO origin SELECT address, ?, ? FROM task WHERE id = ?",
                    (json.dumps(plain(origin)), self._stamp(), task),
                )
            row = connection.execute(
                "INSERT INTO deed (task, undoing, step, text, before, begun) VALUES (?,?,?,?,?,?)",
                (
                    task, undoing, json.dumps(plain(step)), str(step), json.dumps(plain(was)), self._stamp(),
                ),
            )  # fmt: skip
            return row.lastrowid or 0

    def after(self, deed: int, seconds: float, error: CedeError | None = None) -> None:
        """How the deed ended."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE deed SET seconds = ?, outcome = ?, message = ? WHERE id = ?",
                (seconds, "failed" if error else "done", error.message if error else "", deed),
            )

    def end(
        self, task: int, outcome: str, error: CedeError | None = None, *, settled: bool = True
    ) -> None:
        """How the task ended; unless `settled`, the next pass finishes or undoes what is left of it."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE task SET ended = ?, outcome = ?, message = ?, remedy = ?, open = ? WHERE id = ?",
                (
                    self._stamp(), outcome, error.message if error else "", error.remedy if error else "",
                    not settled, task,
                ),
            )  # fmt: skip
            if error is None:
                connection.execute(
                    "UPDATE task SET open = 0"
                    " WHERE id < ? AND address = (SELECT address FROM task WHERE id = ?)",
                    (task, task),
                )
                connection.execute(
                    "DELETE FROM attachment WHERE address ="
                    " (SELECT address FROM task WHERE id = ? AND NOT inward)",
                    (task,),
                )

    def origin(self, address: Address) -> Origin | None:
        """What dom0 had in the device before cede took it; None if that isn't known."""
        with self._reading() as connection:
            row = (
                connection
                and connection.execute(
                    "SELECT value FROM origin WHERE address = ?", (str(address),)
                ).fetchone()
            )
            return _origin(row[0]) if row else None

    def forget_origin(self, address: Address) -> None:
        """The device is dom0's again, as it was."""
        with self._writing() as connection:
            connection.execute("DELETE FROM origin WHERE address = ?", (str(address),))

    def settle(self, address: Address) -> None:
        """Nothing is left of what was begun on that device: it was seen to be so."""
        with self._writing() as connection:
            connection.execute("UPDATE task SET open = 0 WHERE address = ?", (str(address),))

    def hold(self, address: Address, reason: str) -> None:
        """Leave the device alone for as long as dom0 runs, or until `unhold`."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO held VALUES (?,?,?,?)",
                (str(address), reason, self._stamp(), self._boot),
            )

    def unhold(self, address: Address) -> None:
        """A person asked for it by name: it may be touched again."""
        with self._writing() as connection:
            connection.execute("DELETE FROM held WHERE address = ?", (str(address),))

    def found(self, works: Iterator[Work], asked: Asked) -> None:
        """After a rebuild: what was found in place, so that the history doesn't begin with nothing."""
        with self._writing() as connection:
            for work in works:
                number = self._insert_task(connection, work, asked)
                connection.execute(
                    "UPDATE task SET ended = begun, outcome = 'found', open = 0 WHERE id = ?",
                    (number,),
                )
        self.rebuilt = False

    # -- history

    def history(self, *, most: int = 50, about: str = "") -> tuple[Entry, ...]:
        """The latest tasks, the newest first; with `about`, those with that in their address, subject or domain."""
        with self._reading() as connection:
            if connection is None:
                return ()
            tasks = connection.execute(
                "SELECT id, begun, ended, subject, address, domain, asked, who, outcome, message, remedy, open"
                " FROM task WHERE instr(address || ' ' || subject || ' ' || domain, ?) ORDER BY id DESC LIMIT ?",
                (about, most),
            ).fetchall()
            return tuple(
                Entry(
                    number=number, begun=begun, ended=ended, subject=subject,
                    address=Address.parse(at) if at else None, domain=domain, asked=asked, who=who,
                    outcome=outcome, message=message, remedy=remedy, open=bool(is_open),
                    deeds=_deeds(connection, number),
                )
                for number, begun, ended, subject, at, domain, asked, who, outcome, message, remedy, is_open
                in tasks
            )  # fmt: skip

    def trim(self, *, days: int = _KEPT_DAYS, most_bytes: int = _MOST_BYTES) -> int:
        """Drop ended tasks older than `days`, then the oldest until the rest fits; returns how many went."""
        limit = (self._now() - timedelta(days=days)).isoformat(timespec="milliseconds")
        with self._writing() as connection:
            gone = connection.execute(
                "DELETE FROM task WHERE NOT open AND coalesce(ended, begun) < ?", (limit,)
            ).rowcount
            while _used(connection) > most_bytes:
                dropped = connection.execute(
                    "DELETE FROM task WHERE id IN (SELECT id FROM task WHERE NOT open ORDER BY id LIMIT ?)",
                    (_AT_ONCE,),
                ).rowcount
                if dropped == 0:
                    break
                gone += dropped
        return gone


def _place(address: Address | None) -> str:
    return "" if address is None else str(address)


def _origin(value: str) -> Origin:
    found: Origin = build(Origin, json.loads(value), "origin")
    return found


def _deeds(connection: sqlite3.Connection, task: int) -> tuple[DeedEntry, ...]:
    rows = connection.execute(
        "SELECT text, begun, seconds, outcome, message, undoing FROM deed WHERE task = ? ORDER BY id",
        (task,),
    )
    return tuple(
        DeedEntry(
            text=text,
            begun=begun,
            seconds=seconds,
            outcome=outcome,
            message=message,
            undoing=bool(undoing),
        )
        for text, begun, seconds, outcome, message, undoing in rows
    )


def _used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
