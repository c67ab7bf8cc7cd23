"""The history: each change and its actions as they ended, which `cede history` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cede.model.conditions import Time
from cede.model.pci import Address
from cede.state import database
from cede.state.status_store import StatusStore
from cede.util.json_keywords import Keywords

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRecord:
    """One action in the history.

    `text` is the action as a sentence; `started` is when it began; `seconds` is how long it took, None if it never
    ended; `outcome` is how it ended; `message` is why it failed; `error_name` is the stable name of the error, empty
    if there was none, or where an older cede wrote this; `is_rollback` tells whether it took an earlier one back.
    """

    text: str
    started: Time
    seconds: float | None
    outcome: Annotated[str, Keywords(enum=("done", "failed", "incomplete"))]
    message: str
    error_name: str
    is_rollback: bool


_ENDINGS = (
    "done", "failed", "rolled back", "rollback failed", "hung", "interrupted", "found", "incomplete",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """One change in the history, with its actions in order. Times are UTC, ISO 8601.

    `number` counts the changes; `ended` is None if it never did; `outcome` is how it ended: `found` by a rebuilt
    journal, `incomplete` if cede was killed there. `subject` is what it was about; `address` is None for what was about
    no device; `domain` is empty for what was about none. `command` is as it was given, by the person or service
    `requester`. `message` is why it did not end well; `error_name` is the stable name of the error, empty if there was
    none, or where an older cede wrote this; `remedy` is what the administrator can do; `open` tells that
    something of it may still be left to finish or to undo; `actions` are its actions in order.
    """

    number: int
    started: Time
    ended: Time | None
    subject: str
    address: Address | None
    domain: str
    command: str
    requester: str
    outcome: Annotated[str, Keywords(enum=_ENDINGS)]
    message: str
    error_name: str
    remedy: str
    open: bool
    actions: tuple[ActionRecord, ...]


# the words of older tables -> the present ones
_OUTCOMES = {"cut off": "incomplete", "stranded": "rollback failed"}


class History(StatusStore):
    """The part of the journal about the past."""

    def history(self, *, most: int = 50, about: str = "") -> tuple[ChangeRecord, ...]:
        """Return the latest changes, the newest first; with `about`, those with it in address, subject or domain."""
        with self._reading() as connection:
            if connection is None:
                return ()
            rows = connection.execute(
                f"SELECT id, begun, ended, subject, address, domain, asked, who, outcome, message,"  # noqa: S608 - a constant
                f" {_error(connection)}, remedy, open FROM task"
                " WHERE instr(address || ' ' || subject || ' ' || domain, ?) ORDER BY id DESC LIMIT ?",
                (about, most),
            ).fetchall()
            return tuple(
                ChangeRecord(
                    number=number, started=started, ended=ended, subject=subject,
                    address=Address.parse(at) if at else None, domain=domain, command=command, requester=requester,
                    outcome=_OUTCOMES.get(outcome, outcome), message=message, error_name=error, remedy=remedy,
                    open=bool(is_open), actions=_actions(connection, number),
                )
                for number, started, ended, subject, at, domain, command, requester, outcome, message, error, remedy,
                is_open in rows
            )  # fmt: skip


def _error(connection: sqlite3.Connection) -> str:
    """Return the expression for an error's name: a journal that is only read may be of an older version."""
    return "error" if database.version(connection) >= database.ERROR_VERSION else "''"


def _actions(connection: sqlite3.Connection, change_id: int) -> tuple[ActionRecord, ...]:
    rows = connection.execute(
        f"SELECT text, begun, seconds, outcome, message, {_error(connection)}, undoing FROM deed"  # noqa: S608 - a constant
        " WHERE task = ? ORDER BY id",
        (change_id,),
    )
    return tuple(
        ActionRecord(
            text=text,
            started=started,
            seconds=seconds,
            outcome=_OUTCOMES.get(outcome, outcome),
            message=message,
            error_name=error,
            is_rollback=bool(is_rollback),
        )
        for text, started, seconds, outcome, message, error, is_rollback in rows
    )
