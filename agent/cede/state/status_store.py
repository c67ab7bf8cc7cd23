"""The status store: pauses, where the last pass left each device, and the conditions with their times."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cede.model.conditions import Condition, ConditionType, Status
from cede.model.journal_state import LastApplied, Pause
from cede.model.pci import Address
from cede.state import database
from cede.state.database import JournalFile
from cede.state.pauses import read_pauses, write_pause

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence


# words of older journals
_RENAMED = {
    "Permanent": "Persistent",
    "Proven": "Verified",
    "InStep": "InSync",
    "Stranded": "RollbackFailed",
    "FoundOtherwise": "GuestFoundOtherwise",  # whoever it was, the guest is asked again
}


class StatusStore(JournalFile):
    """The part of the journal about the present; each policy (`source`) has its own conditions."""

    @property
    def time(self) -> str:
        """The present time, as the journal writes it."""
        return self._stamp()

    # -- pauses

    def pause(self, pause: Pause, *, seconds: float | None = None) -> Pause:
        """Save `pause`, replacing an earlier one of the same domain or device; return it with its times.

        The pause ends by itself after `seconds`, if given.
        """
        at = self._stamp()
        until = ""
        if seconds is not None:
            until = (self._now() + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        pause = replace(pause, since=at, until=until)
        with self._writing() as connection:
            connection.execute("DELETE FROM pause WHERE until != '' AND until <= ?", (at,))
            write_pause(connection, pause)
        return pause

    def resume(self, pauses: Iterable[Pause]) -> None:
        """End these pauses."""
        with self._writing() as connection:
            connection.executemany(
                "DELETE FROM pause WHERE domain = ? AND device = ? AND drained = ?",
                [(pause.domain, pause.device, pause.drained) for pause in pauses],
            )

    def _pauses(self, connection: sqlite3.Connection) -> tuple[Pause, ...]:
        """Return the pauses in force now, drains first."""
        if database.version(connection) < database.STATUS_VERSION:
            return ()
        return read_pauses(connection, self._stamp())

    # -- where what was

    def _last_applied(self, connection: sqlite3.Connection) -> tuple[LastApplied, ...]:
        if database.version(connection) < database.STATUS_VERSION:
            return ()
        rows = connection.execute(
            "SELECT DISTINCT address, domain, live, config FROM attachment ORDER BY address, domain"
        )
        return tuple(
            LastApplied(address=Address.parse(at), domain=domain, live=bool(live), config=bool(config))
            for at, domain, live, config in rows
        )  # fmt: skip

    # -- conditions

    def conditions(self, source: str) -> tuple[Condition, ...]:
        """Return the conditions that the last pass for the policy `source` saved, and those of the host."""
        with self._reading() as connection:
            if connection is None or database.version(connection) < database.STATUS_VERSION:
                return ()
            known = database.version(connection) >= database.DOMID_VERSION
            life = "domid, boot" if known else "NULL, ''"
            rows = connection.execute(
                f"SELECT subject, type, status, reason, message, since, next_try, {life} FROM condition"  # noqa: S608 - constants
                " WHERE source = ? OR subject = '' ORDER BY rowid",
                (source,),
            ).fetchall()
            return tuple(
                Condition(
                    subject=subject, type=ConditionType(_RENAMED.get(kind, kind)), status=Status(status),
                    reason=_RENAMED.get(reason, reason), message=message,
                    since=since, next_try=next_try,
                    domid=domid if boot == self._boot else None,  # domids begin anew at each boot
                )
                for subject, kind, status, reason, message, since, next_try, domid, boot in rows
            )  # fmt: skip

    def save_status(
        self,
        source: str,
        conditions: Sequence[Condition],
        attachments: Sequence[LastApplied] | None = None,
    ) -> None:
        """Replace the conditions of that policy and of the host; `attachments` of None leaves those unchanged.

        An empty subject is the host, which has the same conditions for every policy. Writes only what changed.
        """
        with self._writing() as connection:
            rows: set[_Row] = {
                (
                    "" if not condition.subject else source,
                    condition.subject,
                    str(condition.type),
                    str(condition.status),
                    condition.reason,
                    condition.message,
                    condition.since,
                    condition.next_try,
                    condition.domid,
                    "" if condition.domid is None else self._boot,
                )
                for condition in conditions
            }
            had = set(
                connection.execute(
                    "SELECT source, subject, type, status, reason, message, since, next_try, domid, boot FROM condition"
                    " WHERE source = ? OR subject = ''",
                    (source,),
                )
            )
            _replace(
                connection, "condition", "source = ? AND subject = ? AND type = ?", had, rows, 3
            )
            if attachments is not None:
                places: set[_Row] = {
                    (source, str(a.address), a.domain, int(a.live), int(a.config))
                    for a in attachments
                }
                there = set(
                    connection.execute("SELECT * FROM attachment WHERE source = ?", (source,))
                )
                key = "source = ? AND address = ? AND domain = ?"
                _replace(connection, "attachment", key, there, places, 3)


_Row = tuple[object, ...]


def _replace(
    connection: sqlite3.Connection,
    table: str,
    key: str,
    had: set[_Row],
    rows: set[_Row],
    width: int,
) -> None:
    """Change a table from `had` to `rows`, writing only what differs; the first `width` columns are the `key`."""
    gone = [row[:width] for row in had - rows]
    if gone:
        connection.executemany(f"DELETE FROM {table} WHERE {key}", gone)  # noqa: S608 - both are written above
    new = sorted(rows - had, key=str)
    if new:
        marks = ",".join("?" * len(new[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", new)  # noqa: S608 - as above
