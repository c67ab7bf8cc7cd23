"""The agent's operations in the journal's file, so that their ids answer after the agent has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.state import database
from cede.state.database import JournalFile

if TYPE_CHECKING:
    import sqlite3

_KEPT = 200
_MAX_COUNT = 1000
_COLUMNS = "id, command, request, requester, as_json, started, after, ended, until, exit, digest, error, events"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOperation:
    """One operation. `request`, `error` and each line of `events` are JSON; `ended` is empty if it never did.

    Times are UTC, ISO 8601. `after` is the number of the newest change at its begin, `until` that at its end; `exit`
    and `until` are None before the end, `error` is empty without one.
    """

    id: str
    command: str
    request: str
    requester: str
    as_json: bool
    started: str
    after: int = 0
    ended: str = ""
    until: int | None = None
    exit: int | None = None
    digest: str = ""
    error: str = ""
    events: str = ""


class OperationStore(JournalFile):
    """Keeps the newest operations; see `JournalFile` for which errors are raised."""

    @property
    def time(self) -> str:
        """The present time, as the journal writes it."""
        return self._stamp()

    def begin(self, operation: StoredOperation) -> None:
        """Write down an operation that is about to begin, and forget the oldest of those that have ended."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO operation (id, command, request, requester, as_json, started, after)"
                " SELECT ?, ?, ?, ?, ?, ?, coalesce(max(id), 0) FROM task",
                (
                    operation.id, operation.command, operation.request, operation.requester, operation.as_json,
                    operation.started,
                ),
            )  # fmt: skip
            connection.execute(
                "DELETE FROM operation WHERE rowid NOT IN (SELECT rowid FROM operation ORDER BY rowid DESC LIMIT ?)",
                (_KEPT,),
            )

    def end(self, operation: StoredOperation) -> None:
        """Write down how it ended."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE operation SET until = (SELECT coalesce(max(id), 0) FROM task),"
                " ended = ?, exit = ?, digest = ?, error = ?, events = ? WHERE id = ?",
                (
                    operation.ended, operation.exit, operation.digest, operation.error, operation.events, operation.id,
                ),
            )  # fmt: skip

    def get(self, name: str) -> StoredOperation | None:
        """Return the operation with that id, or None."""
        return next(iter(self._read("WHERE id = ?", name)), None)

    def newest(self, most: int = _MAX_COUNT) -> tuple[StoredOperation, ...]:
        """Return the operations, the newest first, without their events."""
        return self._read("ORDER BY rowid DESC LIMIT ?", most, events=False)

    def _read(
        self, which: str, value: object, *, events: bool = True
    ) -> tuple[StoredOperation, ...]:
        columns = _COLUMNS if events else _COLUMNS.replace("events", "''")
        with self._reading() as connection:
            if connection is None or not _has_them(connection):
                return ()
            rows = connection.execute(f"SELECT {columns} FROM operation {which}", (value,))  # noqa: S608 - constants
            return tuple(
                StoredOperation(
                    id=name, command=command, request=request, requester=requester, as_json=bool(as_json),
                    started=started, after=after, ended=ended, until=until, exit=code, digest=digest, error=error,
                    events=said,
                )
                for name, command, request, requester, as_json, started, after, ended, until, code, digest, error, said
                in rows
            )  # fmt: skip


def _has_them(connection: sqlite3.Connection) -> bool:
    return database.version(connection) >= database.OPERATION_VERSION
