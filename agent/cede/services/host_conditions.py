"""Host conditions: whether libvirt, the policy, the journal and xen-pciback are as they should be. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.conditions import (
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


def of_host(
    *,
    libvirt: CedeError | None = None,
    policy: CedeError | None = None,
    journal: Sequence[str] = (),
    pciback: bool | None = None,
    pauses: Iterable[Pause] = (),
) -> tuple[Condition, ...]:
    """Return the host's own conditions.

    `libvirt` and `policy` are why it can't be asked or read, `journal` what is said of its file; `pciback` is None if
    nobody could look.
    """
    drained = next((pause for pause in pauses if pause.drained and pause.everything), None)
    return (
        _of_host(
            LIBVIRT_REACHABLE, libvirt is None, "Answers", "Unreachable",
            "" if libvirt is None else libvirt.with_remedy,
        ),
        _of_host(POLICY_VALID, policy is None, "Read", "Wrong", _message(policy)),
        _of_host(JOURNAL_USABLE, not journal, "Written", "Damaged", "; ".join(journal)),
        Condition(
            subject=HOST, type=PCIBACK_LOADED, status=Status.UNKNOWN, reason="NotLooked"
        )
        if pciback is None
        else _of_host(PCIBACK_LOADED, pciback, "InSysfs", "NotInSysfs", "loaded with the first device"),
        _of_host(MAINTENANCE, drained is not None, "Drained", "InService", "", str(drained or "")),
    )  # fmt: skip


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
