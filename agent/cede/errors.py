"""Errors, named for what the caller may do about them.

Each carries the exit status that scripts see, one sentence on what is wrong and one on the remedy.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of every cede command; scripts rely on these."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNSAFE = 3
    OUT_OF_SYNC = 4
    TRY_LATER = 75


class CedeError(Exception):
    """The ground of all errors that cede reports on purpose.

    `remedy` is what the administrator can do, as a sentence or a command; empty where the message says it all.
    """

    exit = Exit.FAILED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(CedeError):
    """The command line names something that isn't there: fix the command."""

    exit = Exit.USAGE


class PolicyError(CedeError):
    """The policy file is wrong: fix the file. The message opens with file:line:column."""

    exit = Exit.USAGE


class UnsafeError(CedeError):
    """It would harm the host or another tool's work: never retried."""

    exit = Exit.UNSAFE


class TransientError(CedeError):
    """The world was busy: the same call may work in a moment, so it is retried."""

    exit = Exit.TRY_LATER


class PermanentError(CedeError):
    """The same call will fail again: not retried, the administrator must change something."""


class WorldMovedError(CedeError):
    """What was planned on is no longer so: observe and plan again."""

    exit = Exit.TRY_LATER


class HungError(CedeError):
    """A call never came back: the device is not touched again until the administrator asks for it by name."""


class InterruptedByPersonError(CedeError):
    """The administrator asked to stop; what was begun is written down, and can be gone on with."""

    exit = Exit.TRY_LATER


class UnreachableError(CedeError):
    """libvirt or xenstore doesn't answer: nothing was changed, try again when it runs."""

    exit = Exit.TRY_LATER


class GuestSilentError(CedeError):
    """The guest's channel is busy, absent or gave no answer in its time: nothing is verified either way."""

    exit = Exit.TRY_LATER
