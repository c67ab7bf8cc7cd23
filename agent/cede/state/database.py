"""The journal's SQLite file: its tables by version; made, opened, and set aside if damaged."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cede.errors import PermanentError
from cede.state.pauses import rescued_pauses, write_pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from cede.model.journal_state import Pause

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

DEVICE_OF_SUBJECT = (  # a change on a device of the policy: its subject is `nic0 -> pv1` or `nic0 in pv1`
    "CASE WHEN subject LIKE '% -> %' OR subject LIKE '% in %'"
    " THEN substr(subject, 1, instr(subject, ' ') - 1) ELSE '' END"
)

_THIRD = (
    "ALTER TABLE task ADD COLUMN device TEXT NOT NULL DEFAULT ''",
    f"UPDATE task SET device = {DEVICE_OF_SUBJECT}",  # noqa: S608 - a constant
)

_FOURTH = (
    "ALTER TABLE task ADD COLUMN error TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE deed ADD COLUMN error TEXT NOT NULL DEFAULT ''",
)

_FIFTH = tuple(  # a policy's identity instead of its path as typed (model/policy.py)
    statement
    for table in ("attachment", "condition")
    for statement in (
        f"UPDATE {table} SET source = 'host' WHERE source = '/etc/cede/policy.yaml'",  # noqa: S608 - a constant
        f"UPDATE {table} SET source = 'file:' || source WHERE source LIKE '/%'",  # noqa: S608 - a constant
    )
)

_SIXTH = (
    "ALTER TABLE condition ADD COLUMN domid INTEGER",
    "ALTER TABLE condition ADD COLUMN boot TEXT NOT NULL DEFAULT ''",
)

_SEVENTH = (
    """CREATE TABLE operation (
      id TEXT PRIMARY KEY, command TEXT NOT NULL, request TEXT NOT NULL, requester TEXT NOT NULL,
      as_json INTEGER NOT NULL, started TEXT NOT NULL, after INTEGER NOT NULL, ended TEXT NOT NULL DEFAULT '',
      until INTEGER, exit INTEGER, digest TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
      events TEXT NOT NULL DEFAULT '')""",
)

_EIGHTH = (
    """CREATE TABLE given (
      address TEXT PRIMARY KEY, device TEXT NOT NULL, domain TEXT NOT NULL, domid INTEGER, instance INTEGER,
      boot TEXT NOT NULL)""",
    """CREATE TABLE quarantine (
      address TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, instance INTEGER, errors TEXT NOT NULL,
      lifted INTEGER NOT NULL, boot TEXT NOT NULL)""",
)


STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH)

VERSION = len(STEPS)
STATUS_VERSION = 2  # from which version on there are pauses, attachments and conditions
DEVICE_VERSION = 3  # from which version on a change knows its device's name
ERROR_VERSION = 4  # from which version on changes and actions know their error's name
DOMID_VERSION = 6  # from which version on a condition knows its domain's start and its boot
OPERATION_VERSION = 7  # from which version on there are operations
GIVEN_VERSION = (
    8  # from which version on it is known who was given which card, and what is quarantined
)


def version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if cede was killed before it made any."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make the missing tables, all or none; wait for another process that does the same."""
    if version(connection) == VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statements in STEPS[version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


_MODE = 0o700
_TIMEOUT_SECONDS = 10.0


def _now() -> datetime:
    return datetime.now(UTC)


class JournalFile:
    """Made at the first write; a journal that does not exist yet reads as empty.

    `boot` is this boot's id: a call that hung in an earlier boot hangs no longer. `warnings` has a damaged file, which
    is renamed, not deleted. A process that has it locked is waited for `timeout` seconds. Every method raises
    PermanentError if the file can't be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        boot: str = "",
        now: Callable[[], datetime] = _now,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.warnings: list[str] = []
        self.rebuilt = False
        self._path = path
        self._boot = boot
        self._now = now
        self._timeout = timeout
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = None
        self._rescued: tuple[Pause, ...] = ()

    @property
    def boot(self) -> str:
        """This boot's id."""
        return self._boot

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def _stamp(self) -> str:
        return self._now().isoformat(timespec="milliseconds")

    # -- opening

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise PermanentError(
                f"cede can't use the journal {self._path}: {error}",
                name="journal-unusable",
                remedy="is the file system full or read-only (df -h), and does cede run as root? Without its "
                "journal cede changes nothing, since no change could be undone",
            ) from error

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as error:
            raise PermanentError(
                f"cede can't read a value in the journal {self._path}: {error}",
                name="journal-unreadable",
                remedy=f"mv {self._path} {self._path}.old; cede then begins a new journal from what it observes",
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._said():
            if self._open is None:
                self._open = self._opened()
            with self._open:
                yield self._open

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection to read with; None if there is no readable journal: then `_rescued` counts."""
        self._rescued = ()
        with self._lock, self._said(), self._understood():
            if self._open is not None:
                yield self._open
            elif not os.access(self._path, os.R_OK):
                yield None
            else:
                with closing(self._connect("ro")) as connection:
                    damage = _damage(connection)
                    if damage:
                        self._warn(damage)
                        self._rescued = rescued_pauses(connection, self._stamp())
                    yield connection if not damage and self._made(connection) else None

    def _connect(self, mode: str, path: Path | None = None) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{(path or self._path).absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._timeout,
            check_same_thread=False,
        )

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=_MODE, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = self._connect("rw")
        try:
            damage = _damage(connection)
            if not damage:
                self._prepare(connection)
                return connection
            rescued = rescued_pauses(connection, self._stamp())
        except BaseException:
            connection.close()  # else its locks live as long as the error
            raise
        connection.close()
        fresh = self._made_fresh(rescued)
        path = self._set_aside()
        fresh.replace(self._path)
        self._warn(
            f"{damage}; cede keeps it as {path}, and begins a new journal from what it observes"
        )
        self.rebuilt = True
        return self._opened()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        self._made(connection)
        bring_up_to_date(connection)

    def _made(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables exist: cede may have been killed before it made them."""
        number = version(connection)
        if not 0 <= number <= VERSION:
            raise PermanentError(
                f"the journal {self._path} has version {number}, and this cede reads version {VERSION} at most",
                name="journal-version",
                remedy="use the newer cede that wrote the journal",
            )
        return bool(number)

    def _warn(self, damage: str) -> None:
        self.warnings.append(f"the journal {self._path} is damaged: {damage}")

    def _made_fresh(self, pauses: Iterable[Pause]) -> Path:
        """Make a new journal beside the damaged one, with the pauses in it before it takes the other's place."""
        path = self._path.with_name(f"{self._path.name}.new")
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(self._connect("rw", path)) as connection:
            self._prepare(connection)
            with connection:
                for pause in pauses:
                    write_pause(connection, pause)
        return path

    def _set_aside(self) -> Path:
        """Keep the damaged file under another name; it has its own until a new one takes its place."""
        path = self._path.with_name(f"{self._path.name}.damaged-{self._now():%Y%m%dT%H%M%S%f}")
        path.hardlink_to(self._path)
        for suffix in ("-wal", "-shm"):
            beside = self._path.with_name(self._path.name + suffix)
            with suppress(FileNotFoundError):
                beside.rename(path.with_name(path.name + suffix))
        return path


def _damage(connection: sqlite3.Connection) -> str:
    """Return what is wrong with the file; empty if nothing is."""
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return str(error)
    return "" if said == "ok" else str(said)
