"""Errors, named for what the caller may do about them.

Each carries its name and its kind, one sentence on what is wrong and one on the remedy. A name is in kebab-case and
the same in every version, as the names of the rules are that refuse; sentences may change. The command line maps the
kinds to exit statuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cede.util.text import one_line

_MAX_ARGUMENT = 120


class FailureKind(StrEnum):
    """What stands behind an error, a refusal or a mistake: what the administrator may do about it follows from that."""

    FAILED = "failed"
    USAGE = "usage"
    UNSAFE = "unsafe"
    OUT_OF_SYNC = "out-of-sync"
    TRY_LATER = "try-later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One of several things that are wrong in a file.

    `place` is `file:line:column`, or the file alone; `name` is stable, in kebab-case; `text` says what is wrong.
    """

    place: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class CedeError(Exception):
    """An error that cede reports on purpose; the base of all of them.

    `name` says which error it is, the same in every version. Where none is given, the class has one for all that ask
    for the same. `message` is what went wrong; `remedy` is what the administrator can do, as a sentence or a command,
    empty where the message says it all; `kind` says what may be done about it, and so the exit status; `diagnostics`
    are all that is wrong, each with its own name, where the message lists the first of them.
    """

    kind = FailureKind.FAILED
    name = "failed"

    def __init__(
        self,
        message: str,
        *,
        name: str = "",
        remedy: str = "",
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.name = name or self.name
        self.remedy = remedy
        self.diagnostics = diagnostics

    @property
    def with_remedy(self) -> str:
        """What went wrong and its remedy, in a line."""
        return f"{self.message} (remedy: {self.remedy})" if self.remedy else self.message


class UsageError(CedeError):
    """The command line is wrong, or names what does not exist: fix the command."""

    kind = FailureKind.USAGE
    name = "wrong-usage"


class PolicyError(CedeError):
    """The policy file is wrong: fix the file. The message opens with file:line:column."""

    kind = FailureKind.USAGE
    name = "wrong-policy"


class UnsafeError(CedeError):
    """The action would harm the host or another tool's work: never retried."""

    kind = FailureKind.UNSAFE
    name = "unsafe"


class TransientError(CedeError):
    """libvirt, Xen or the device was busy: the same call may work in a moment, so it is retried."""

    kind = FailureKind.TRY_LATER
    name = "busy"


class LockedError(TransientError):
    """Another cede is running, and two at once would undo each other's; `holder` says which, in its own words."""

    name = "another-cede"

    def __init__(self, holder: str, *, remedy: str = "") -> None:
        super().__init__(
            f"{holder} is running, and two at once would undo each other's", remedy=remedy
        )
        self.holder = holder


class PermanentError(CedeError):
    """The same call will fail again: not retried, the administrator must change something."""


class UnexpectedError(PermanentError):
    """A fault of cede itself, met in what a guest, a file or a daemon said: the debug log has its traceback."""

    name = "unexpected"


class IndeterminateError(CedeError):
    """What must be known can't be told: nothing that can't be undone is done on it, and nothing is called good."""

    kind = FailureKind.OUT_OF_SYNC
    name = "unknown"


class WorldMovedError(CedeError):
    """The host has changed since the plan was made: observe and plan again."""

    kind = FailureKind.TRY_LATER
    name = "changed-meanwhile"


LIBVIRT_SILENT = "libvirt-silent"  # the name where it is libvirt that a call was made to
NOT_STARTED = "domain-not-started"  # the name where a domain that was shut down is off
NOT_RECORDED = "not-told"  # the name where a recorded host has no answer


class HungError(CedeError):
    """A call never came back: the device is not touched again until the administrator asks for it by name."""

    name = "hung"


class StopRequestedError(CedeError):
    """The administrator asked to stop; the journal has what is unfinished, and the next apply continues."""

    kind = FailureKind.TRY_LATER
    name = "interrupted"


class UnreachableError(CedeError):
    """libvirt or xenstore does not answer: nothing was changed, try again when it runs."""

    kind = FailureKind.TRY_LATER
    name = "unreachable"


class GuestSilentError(CedeError):
    """The guest's channel is busy, absent or gave no answer in time: nothing is verified either way."""

    kind = FailureKind.TRY_LATER
    name = "guest-silent"


def unexpected(fault: BaseException, doing: str) -> UnexpectedError:
    """Return as one of cede's errors what no code expected while `doing`; the debug log has the traceback."""
    import logging  # for what never happens; every command imports this module

    logging.getLogger("cede.faults").debug(
        "%s: an error that cede did not expect", doing, exc_info=fault
    )
    return UnexpectedError(
        f"cede failed at {doing}: {type(fault).__name__}: {one_line(str(fault), _MAX_ARGUMENT)}",
        name="unexpected",
        remedy="run `cede --debug` with the same command, and report the traceback",
    )
