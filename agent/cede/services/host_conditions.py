"""Host conditions: whether libvirt, the policy, the journal and xen-pciback are as they should be. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.conditions import (
    DOMAINS_READABLE,
    HOST,
    JOURNAL_USABLE,
    LIBVIRT_REACHABLE,
    MAINTENANCE,
    PCIBACK_LOADED,
    POLICY_VALID,
    Condition,
    ConditionType,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cede.errors import CedeError
    from cede.model.journal_state import Pause


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
