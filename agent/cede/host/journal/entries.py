"""What the journal takes and tells: on whose behalf, what was done, what it remembers for the next plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cede.address import Address
from cede.memory import Attachment, Pause
from cede.model import Held, Origin, Unfinished


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the journal adds to what is observed."""

    origins: Mapping[Address, Origin]
    unfinished: tuple[Unfinished, ...] = ()
    held: tuple[Held, ...] = ()
    pauses: tuple[Pause, ...] = ()
    attachments: tuple[Attachment, ...] = ()
