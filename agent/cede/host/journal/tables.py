"""The journal's tables, version by version: each is what its predecessor lacks, in one transaction."""

from __future__ import annotations

import sqlite3

_FIRST = (
    """CREATE TABLE task (
      id INTEGER PRIMARY KEY, begun TEXT NOT NULL, ended TEXT, open INTEGER NOT NULL DEFAULT 1,
      asked TEXT NOT NULL, who TEXT NOT NULL, subject TEXT NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL,
      inward INTEGER NOT NULL, back INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT 'cut off',
      message TEXT NOT NULL DEFAULT '', remedy TEXT NOT NULL DEFAULT '')""",
    """CREATE INDEX task_address ON task (address)""",
    """CREATE TABLE deed (
      id INTEGER PRIMARY KEY, task INTEGER NOT NULL REFERENCES task (id) ON DELETE CASCADE, undoing INTEGER NOT NULL,
      step TEXT NOT NULL, text TEXT NOT NULL, before TEXT NOT NULL, begun TEXT NOT NULL, seconds REAL,
      outcome TEXT NOT NULL DEFAULT 'cut off', message TEXT NOT NULL DEFAULT '')""",
    """CREATE INDEX deed_task ON deed (task)""",
    """CREATE TABLE origin (address TEXT PRIMARY KEY, value TEXT NOT NULL, taken TEXT NOT NULL)""",
    """CREATE TABLE held (address TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, boot TEXT NOT NULL)""",
)
_SECOND = (
    """CREATE TABLE pause (
      target TEXT NOT NULL, domain TEXT NOT NULL, device TEXT NOT NULL, drained INTEGER NOT NULL, who TEXT NOT NULL,
      reason TEXT NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL, PRIMARY KEY (domain, device, drained))""",
    """CREATE TABLE attachment (
      source TEXT NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL, live INTEGER NOT NULL,
      config INTEGER NOT NULL, PRIMARY KEY (source, address, domain))""",
    """CREATE TABLE condition (
      source TEXT NOT NULL, subject TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
      message TEXT NOT NULL, since TEXT NOT NULL, next_try TEXT NOT NULL, PRIMARY KEY (source, subject, type))""",
)
STEPS = (_FIRST, _SECOND)
VERSION = len(STEPS)
STANDING = 2  # from which version on there are pauses, attachments and conditions


def version(connection: sqlite3.Connection) -> int:
    """Which version's tables are there; 0 if cede was killed before it came to any."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make what is missing, all or nothing; another process that does the same is waited for."""
    if version(connection) == VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in STEPS[version(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
