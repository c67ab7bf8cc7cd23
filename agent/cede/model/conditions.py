"""Conditions, in the shape that Kubernetes gave them: what is so of each assignment and of the host, why, since when.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md,
"Typical status properties". Times are UTC, ISO 8601, and handed in.

What a guest said is true for one start of its domain, which its domid tells within a boot of dom0, and so of Xen. Each
start makes a new domain, and Xen counts domids up from the last one given; it begins with 1 again only after all
32,751 of them (`rover` at XEN_DOMCTL_createdomain, xen/common/domctl.c), since neither libvirt nor xl ask for a certain
one. A reboot from inside is a new domain too: Xen only reports it, and the toolstack destroys and starts. What keeps
its domid, as a kexec or a soft reset does, is the guest's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from cede.util.json_keywords import Keywords

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.errors import CedeError
    from cede.model.journal_state import Pause


Time = Annotated[
    str,
    Keywords(
        name="time",
        description="a moment in UTC, ISO 8601",
        format="date-time",
        examples=("2026-01-31T03:00:00.000+00:00",),
    ),
]

HOST = ""  # the subject of the host's own conditions


class ConditionType(StrEnum):
    """What is so or not: of an assignment the first four, of the host the others."""

    ATTACHED = "Attached"
    PERSISTENT = "Persistent"
    VERIFIED = "Verified"
    IN_SYNC = "InSync"
    LIBVIRT_REACHABLE = "LibvirtReachable"
    POLICY_VALID = "PolicyValid"
    JOURNAL_USABLE = "JournalUsable"
    DOMAINS_READABLE = "DomainsReadable"
    PCIBACK_LOADED = "PcibackLoaded"
    MAINTENANCE = "Maintenance"


ATTACHED, PERSISTENT, VERIFIED, IN_SYNC = tuple(ConditionType)[:4]

(
    LIBVIRT_REACHABLE, POLICY_VALID, JOURNAL_USABLE, DOMAINS_READABLE, PCIBACK_LOADED, MAINTENANCE,
) = tuple(ConditionType)[4:]  # fmt: skip


class Status(StrEnum):
    """Whether it is so; Unknown where nobody could look."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is so or not of `subject` (empty for the host), and when it became so.

    `reason` is one word in CamelCase for programs; `message` is a sentence for people, or empty. `since` is when
    `status` and `reason` became so; `next_try` is when cede tries again, empty if it won't by itself, or nobody knows
    when; `domid` is the running domain that it is true for, None if it is about none, or one from before dom0's last
    boot.
    """

    subject: str
    type: ConditionType
    status: Status
    reason: Annotated[str, Keywords(pattern="^[A-Z][A-Za-z]+$")]
    message: str = ""
    since: Time = ""
    next_try: str = ""
    domid: Annotated[int, Keywords(minimum=0)] | None = None

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        again = f" (next try {self.next_try})" if self.next_try else ""
        message = f": {self.message}" if self.message else ""
        return f"{self.type} {self.status}{since}, {self.reason}{message}{again}"


def with_times(
    before: Iterable[Condition], now: Iterable[Condition], at: str
) -> tuple[Condition, ...]:
    """Return `now` with the times of `before` where nothing changed, else `at`; what isn't in `now` is no longer so.

    A condition changed if its status or reason did: a message may tell of a new detail of the same.
    """
    had = {(condition.subject, condition.type): condition for condition in before}
    return tuple(
        replace(
            condition,
            since=since(
                had.get((condition.subject, condition.type)), condition.status, condition.reason, at
            ),
        )
        for condition in now
    )


def since(was: Condition | None, status: Status, reason: str, at: str) -> str:
    """Return since when a condition is so that `was` so before, and `at` is the time now."""
    same = was is not None and was.status == status and was.reason == reason
    return was.since if was is not None and same else at


def changed_conditions(
    before: Iterable[Condition], now: Iterable[Condition]
) -> tuple[Condition, ...]:
    """Return those of `now` whose status or reason is another one than `before`."""
    had = {
        (condition.subject, condition.type): (condition.status, condition.reason)
        for condition in before
    }
    return tuple(
        condition
        for condition in now
        if had.get((condition.subject, condition.type)) != (condition.status, condition.reason)
    )


def host_conditions(
    *,
    libvirt: CedeError | None = None,
    policy: CedeError | None = None,
    journal: Sequence[str] = (),
    unreadable: Sequence[str] | None = None,
    pciback: bool | None = None,
    pauses: Iterable[Pause] = (),
) -> tuple[Condition, ...]:
    """Return the host's own conditions.

    `libvirt` and `policy` are why it can't be asked or read, `journal` what is said of its file, `unreadable` the
    domains whose XML can't be read; `unreadable` and `pciback` are None if nobody could look.
    """
    drained = next((pause for pause in pauses if pause.drained and pause.everything), None)
    return (
        _of_host(
            LIBVIRT_REACHABLE, libvirt is None, "Answers", "Unreachable",
            "" if libvirt is None else libvirt.with_remedy,
        ),
        _of_host(POLICY_VALID, policy is None, "Read", "Wrong", _message(policy)),
        _of_host(JOURNAL_USABLE, not journal, "Written", "Damaged", "; ".join(journal)),
        _not_looked(DOMAINS_READABLE)
        if unreadable is None
        else _of_host(
            DOMAINS_READABLE, not unreadable, "Read", "Unreadable",
            f"what these domains have can't be told: {', '.join(unreadable)}",
        ),
        _not_looked(PCIBACK_LOADED)
        if pciback is None
        else _of_host(PCIBACK_LOADED, pciback, "InSysfs", "NotInSysfs", "loaded with the first device"),
        _of_host(MAINTENANCE, drained is not None, "Drained", "InService", "", str(drained or "")),
    )  # fmt: skip


def _not_looked(kind: ConditionType) -> Condition:
    return Condition(subject=HOST, type=kind, status=Status.UNKNOWN, reason="NotLooked")


def _message(error: CedeError | None) -> str:
    return error.message if error is not None else ""


def _of_host(
    kind: ConditionType, so: bool, if_so: str, otherwise: str, message: str, message_if_so: str = ""
) -> Condition:
    return Condition(
        subject=HOST,
        type=kind,
        status=Status.TRUE if so else Status.FALSE,
        reason=if_so if so else otherwise,
        message=message_if_so if so else message,
    )
