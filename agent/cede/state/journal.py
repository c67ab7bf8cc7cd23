"""The journal: changes and their actions as they start and end, and what planning needs to know of them.

Each action is in the journal, and on the disk, before it is done. So whatever ends the process, the next one knows
what is unfinished; `cede history` shows the rest. Source: https://www.sqlite.org/wal.html, pragma synchronous=FULL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cede.model.journal_state import (
    Given,
    Held,
    JournalState,
    Quarantined,
    Restarted,
    Restarting,
    Unfinished,
)
from cede.model.pci import Address, OriginalState
from cede.model.serialization import build, plain
from cede.state import database
from cede.state.history import History

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from cede.errors import CedeError
    from cede.model.actions import Action
    from cede.model.plan import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who requested a change: the command as it was given, and the user or service that gave it."""

    command: str = ""
    user: str = ""


_KEPT_DAYS = 180
_MAX_BYTES = 32 * 1024 * 1024
_AT_ONCE = 100
# the domain ids, `?` if not known, at which any open change of it began what can have left the device in a running
# domain, in this boot; an unnamed action of an older cede can have
_MOVED = (
    "(SELECT group_concat(coalesce(json_extract(nullif(deed.before, ''), '$.domid'), '?'))"
    " FROM deed JOIN task AS other ON deed.task = other.id WHERE other.open"
    " AND coalesce(json_extract(nullif(deed.before, ''), '$.boot'), :boot) = :boot"
    " AND other.address = task.address AND coalesce(json_extract(deed.step, '$.action'), '') NOT IN"
    " ('bind-to-pciback', 'load-pciback', 'load-at-boot', 'dont-load-at-boot', 'return-to-dom0', 'switch-on',"
    " 'switch-off', 'add-to-config', 'adopt', 'remove-from-config'))"
)
# of a change that was done: whom it gave the device to
_NOTE_GIVEN = (
    "INSERT OR REPLACE INTO given SELECT task.address, task.device, task.domain,"
    " json_extract(nullif(deed.before, ''), '$.domid'), :instance, :boot"
    " FROM deed JOIN task ON deed.task = task.id"
    " WHERE task.id = :task AND task.inward AND NOT deed.undoing AND json_extract(deed.step, '$.action') = 'hot-plug'"
)


def _domids(moved: object) -> tuple[int, ...]:
    """Return the domain ids in what `_MOVED` has found; empty if one of them isn't known."""
    ids = set(str(moved or "").split(","))
    return tuple(sorted(map(int, ids))) if all(one.isdecimal() for one in ids) else ()


class Journal(History):
    """All that cede remembers; see `JournalFile` for how the file is opened and which errors are raised."""

    # -- what planning needs

    def load_state(self) -> JournalState:
        """Return what planning needs: original states, unfinished changes, held devices, pauses, last-applied state."""
        with self._reading() as connection:
            if connection is None:
                return JournalState(origins={}, pauses=self._rescued)
            origins = connection.execute("SELECT address, value FROM origin").fetchall()
            named = database.version(connection) >= database.DEVICE_VERSION
            device = "device" if named else database.DEVICE_OF_SUBJECT
            unfinished = connection.execute(
                f"SELECT subject, {device}, address, domain, inward, back, begun, {_MOVED} FROM task"  # noqa: S608
                " WHERE id IN (SELECT max(id) FROM task WHERE open AND address != '' GROUP BY address) ORDER BY id",
                {"boot": self._boot},
            ).fetchall()
            held = connection.execute(
                "SELECT address, reason, since FROM held WHERE boot = ? ORDER BY address",
                (self._boot,),
            ).fetchall()
            return JournalState(
                origins={Address.parse(at): _origin(value) for at, value in origins},
                unfinished=tuple(
                    Unfinished(
                        subject=subject,
                        device=name,
                        address=Address.parse(at),
                        domain=domain,
                        attaching=bool(attaching),
                        return_to_dom0=bool(back),
                        since=since,
                        moved=moved is not None,
                        domids=_domids(moved),
                    )
                    for subject, name, at, domain, attaching, back, since, moved in unfinished
                ),
                held=tuple(
                    Held(address=Address.parse(at), reason=reason, since=since)
                    for at, reason, since in held
                ),
                pauses=self._pauses(connection),
                last_applied=self._last_applied(connection),
                given=self._given(connection),
                quarantined=self._quarantined(connection),
                restarting=self._restarting(connection),
                restarted=self._restarted(connection),
            )

    def _quarantined(self, connection: sqlite3.Connection) -> tuple[Quarantined, ...]:
        if database.version(connection) < database.GIVEN_VERSION:
            return ()
        rows = connection.execute(
            "SELECT address, reason, since, instance, errors, lifted FROM quarantine WHERE boot = ? ORDER BY address",
            (self._boot,),
        )
        return tuple(
            Quarantined(
                address=Address.parse(at),
                reason=reason,
                since=since,
                instance=instance,
                errors=tuple(errors.split("\n") if errors else ()),
                lifted=bool(lifted),
            )
            for at, reason, since, instance, errors, lifted in rows
        )

    def _restarting(self, connection: sqlite3.Connection) -> tuple[Restarting, ...]:
        rows = connection.execute(
            "SELECT DISTINCT json_extract(step, '$.domain'), json_extract(step, '$.domid') FROM deed"
            " JOIN task ON deed.task = task.id WHERE task.address = '' AND task.open AND deed.outcome = 'cut off'"
            " AND json_extract(step, '$.action') = 'restart-domain'"
            " AND json_extract(nullif(before, ''), '$.boot') = ? ORDER BY deed.id",
            (self._boot,),
        )
        return tuple(Restarting(domain=domain, domid=domid) for domain, domid in rows)

    def _restarted(self, connection: sqlite3.Connection) -> tuple[Restarted, ...]:
        rows = connection.execute(
            "SELECT json_extract(step, '$.domain'), seconds FROM deed WHERE id IN (SELECT max(deed.id) FROM deed"
            " JOIN task ON deed.task = task.id WHERE task.address = ''"  # by the index, since each pass asks
            " AND deed.outcome = 'done' AND json_extract(step, '$.action') = 'restart-domain'"
            " GROUP BY json_extract(step, '$.domain')) ORDER BY id"
        )
        return tuple(Restarted(domain=domain, seconds=seconds) for domain, seconds in rows)

    def _given(self, connection: sqlite3.Connection) -> tuple[Given, ...]:
        if database.version(connection) < database.GIVEN_VERSION:
            return ()
        rows = connection.execute(
            "SELECT address, device, domain, domid, instance, boot FROM given ORDER BY address"
        )
        return tuple(
            Given(
                address=Address.parse(at),
                device=device,
                domain=domain,
                domid=domid if boot == self._boot else None,
                instance=instance if boot == self._boot else None,
            )
            for at, device, domain, domid, instance, boot in rows
        )

    # -- what executing needs

    def begin_change(self, change: Change, requester: Requester) -> int:
        """Begin `change`, which replaces earlier ones on the same device; return its number.

        A device that was to be returned to dom0 still is. If this change does nothing, the earlier ones count again.
        """
        with self._writing() as connection:
            (back,) = connection.execute(
                "SELECT max(back) FROM task WHERE open AND address = ?", (_place(change.address),)
            ).fetchone()
            return self._insert_change(connection, change, requester, back=bool(back))

    def _insert_change(
        self,
        connection: sqlite3.Connection,
        change: Change,
        requester: Requester,
        *,
        back: bool = False,
    ) -> int:
        row = connection.execute(
            "INSERT INTO task (begun, asked, who, subject, device, address, domain, inward, back)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                self._stamp(), requester.command, requester.user, change.subject, change.device,
                _place(change.address), change.domain, change.attaching, change.return_to_dom0 or back,
            ),
        )  # fmt: skip
        return row.lastrowid or 0

    def begin_action(
        self,
        change_id: int,
        action: Action,
        prestate: object,
        *,
        original_state: OriginalState | None = None,
        is_rollback: bool = False,
    ) -> int:
        """Write down an action that is about to be done, with its `prestate`; return its number.

        `original_state` is kept until the device is returned to dom0.
        """
        with self._writing() as connection:
            if original_state is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO origin SELECT address, ?, ? FROM task WHERE id = ?",
                    (json.dumps(plain(original_state)), self._stamp(), change_id),
                )
            row = connection.execute(
                "INSERT INTO deed (task, undoing, step, text, before, begun) VALUES (?,?,?,?,?,?)",
                (
                    change_id,
                    is_rollback,
                    json.dumps(plain(action)),
                    str(action),
                    json.dumps(plain(prestate)),
                    self._stamp(),
                ),
            )
            return row.lastrowid or 0

    def end_action(self, action_id: int, seconds: float, error: CedeError | None = None) -> None:
        """Write down how the action ended."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE deed SET seconds = ?, outcome = ?, message = ?, error = ? WHERE id = ?",
                (
                    seconds,
                    "failed" if error else "done",
                    error.message if error else "",
                    error.name if error else "",
                    action_id,
                ),
            )

    def end_change(
        self,
        change_id: int,
        outcome: str,
        error: CedeError | None = None,
        *,
        complete: bool = True,
        instance: int | None = None,
    ) -> None:
        """Write down how the change ended; unless `complete`, the next pass finishes or undoes the rest.

        `instance` is the kernel's number of the card that it was about.
        """
        with self._writing() as connection:
            connection.execute(
                "UPDATE task SET ended = ?, outcome = ?, message = ?, error = ?, remedy = ?, open = ? WHERE id = ?",
                (
                    self._stamp(), outcome, error.message if error else "", error.name if error else "",
                    error.remedy if error else "", not complete, change_id,
                ),
            )  # fmt: skip
            if error is None:
                connection.execute(
                    _NOTE_GIVEN, {"task": change_id, "instance": instance, "boot": self._boot}
                )
                connection.execute(
                    "UPDATE task SET open = 0 WHERE id < ? AND address = (SELECT address FROM task WHERE id = ?)"
                    " AND (address != '' OR domain = (SELECT domain FROM task WHERE id = ?))",
                    (change_id, change_id, change_id),
                )
                connection.execute(
                    "DELETE FROM attachment WHERE address ="
                    " (SELECT address FROM task WHERE id = ? AND NOT inward)",
                    (change_id,),
                )

    def quarantine(self, broken: Quarantined) -> Quarantined:
        """Write down a quarantine, or that it is lifted, for this boot of dom0; return it with its time."""
        since = broken.since or self._stamp()
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO quarantine VALUES (?,?,?,?,?,?,?)",
                (
                    str(broken.address), broken.reason, since, broken.instance, "\n".join(broken.errors),
                    broken.lifted, self._boot,
                ),
            )  # fmt: skip
        return replace(broken, since=since)

    def note_given(self, given: Sequence[Given]) -> None:
        """Write down which running domain has which card now, of those that aren't known yet."""
        if not given:
            return
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO given VALUES (?,?,?,?,?,?)",
                [
                    (str(g.address), g.device, g.domain, g.domid, g.instance, self._boot)
                    for g in given
                ],
            )

    def original_state(self, address: Address) -> OriginalState | None:
        """Return the state of the device in dom0 before cede bound it to pciback; None if unknown."""
        with self._reading() as connection:
            row = (
                connection
                and connection.execute(
                    "SELECT value FROM origin WHERE address = ?", (str(address),)
                ).fetchone()
            )
            return _origin(row[0]) if row else None

    def keep_original_state(self, address: Address, original_state: OriginalState) -> None:
        """Keep another original state of a device than was kept, until the device is returned to dom0."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE origin SET value = ? WHERE address = ?",
                (json.dumps(plain(original_state)), str(address)),
            )

    def forget_original_state(self, address: Address) -> None:
        """Forget the original state of a device that is back in dom0."""
        with self._writing() as connection:
            connection.execute("DELETE FROM origin WHERE address = ?", (str(address),))

    def mark_complete(self, address: Address) -> None:
        """Mark the changes of a device as complete: the host was observed to have nothing left of them."""
        with self._writing() as connection:
            connection.execute("UPDATE task SET open = 0 WHERE address = ?", (str(address),))

    def mark_restarted(self, domain: str) -> None:
        """Mark the restarts of a domain as complete: it was observed to run."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE task SET open = 0 WHERE address = '' AND domain = ?", (domain,)
            )

    def hold(self, address: Address, reason: str) -> None:
        """Leave the device alone until the next boot of dom0, or until `unhold`."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO held VALUES (?,?,?,?)",
                (str(address), reason, self._stamp(), self._boot),
            )

    def unhold(self, address: Address) -> None:
        """Touch the device again: the administrator named it in a command."""
        with self._writing() as connection:
            connection.execute("DELETE FROM held WHERE address = ?", (str(address),))

    def record_found(self, changes: Iterator[Change], requester: Requester) -> None:
        """Write down what was found in place after a rebuild, so that the history does not begin empty."""
        with self._writing() as connection:
            for change in changes:
                number = self._insert_change(connection, change, requester)
                connection.execute(
                    "UPDATE task SET ended = begun, outcome = 'found', open = 0 WHERE id = ?",
                    (number,),
                )
        self.rebuilt = False

    def trim(self, *, days: int = _KEPT_DAYS, most_bytes: int = _MAX_BYTES) -> int:
        """Drop ended changes older than `days`, then the oldest until the rest fits; return how many."""
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


def _origin(value: str) -> OriginalState:
    original: OriginalState = build(OriginalState, _with_nodes(json.loads(value)), "origin")
    return original


def _with_nodes(said: Any) -> Any:  # noqa: ANN401 - JSON is any
    """Return an original state with its disks as nodes; older journals have WWIDs, and the sizes of those without."""
    if not isinstance(said, dict) or "disks" not in said:
        return said
    disks = said.pop("disks")
    known = [one for one in disks if isinstance(one, str) and not one.isdecimal()]
    return {**said, "nodes": [{"kind": "disk", "name": "", "id": one} for one in known]}


def _used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
