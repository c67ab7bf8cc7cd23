"""The table of pauses and drains, and what of it is carried over from a damaged journal.

A pause that is lost would let cede attach what the administrator took out of its hands. So where the table can't be
read for certain, everything counts as paused, until a person resumes it.
"""

from __future__ import annotations

import sqlite3

from cede.model.journal_state import Pause

_LOST = (
    "the journal is damaged, and what was paused or drained can't be read; `cede resume` ends this"
)


def read_pauses(connection: sqlite3.Connection, at: str) -> tuple[Pause, ...]:
    """Return the pauses in force at that time, drains first."""
    rows = connection.execute(
        "SELECT target, domain, device, drained, who, reason, since, until FROM pause"
        " WHERE until = '' OR until > ? ORDER BY NOT drained, domain, device",
        (at,),
    )
    return tuple(
        Pause(
            target=target, domain=domain, device=device, drained=bool(drained),
            requester=who, reason=reason, since=since, until=until,
        )
        for target, domain, device, drained, who, reason, since, until in rows
    )  # fmt: skip


def write_pause(connection: sqlite3.Connection, pause: Pause) -> None:
    """Save a pause, replacing an earlier one of the same domain or device."""
    connection.execute(
        "INSERT OR REPLACE INTO pause VALUES (?,?,?,?,?,?,?,?)",
        (
            pause.target, pause.domain, pause.device, pause.drained, pause.requester, pause.reason, pause.since,
            pause.until,
        ),
    )  # fmt: skip


def rescued_pauses(connection: sqlite3.Connection, at: str) -> tuple[Pause, ...]:
    """Return the pauses of a damaged journal if SQLite finds their table whole, else a pause of everything."""
    try:
        (said,) = connection.execute("PRAGMA quick_check('pause')").fetchone()
        if said == "ok":
            return read_pauses(connection, at)
    except (sqlite3.Error, ValueError, TypeError):
        pass
    return (Pause(requester="cede", reason=_LOST, since=at),)
