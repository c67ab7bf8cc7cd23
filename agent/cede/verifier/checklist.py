"""The results of a verification, and the whole path of a device into its guest as a checklist.

An assignment is verified when none of its results is failed or not verified. Each says whose word it rests on: the
guest's alone, that of dom0 and Xen, or the device's own state, which only who has the device can change. The checklist
is what one checks by hand, each item with the command by which the administrator sees the same: module, driver,
binding, hot-plug, the guest's own view, and all of that again after a restart. Pure: values in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from cede.guest.probe import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Device


class CheckStatus(StrEnum):
    """How a check ends; INFO decides nothing."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "not verified"
    INFO = "info"


class Witness(StrEnum):
    """Whose word a result rests on: dom0's and Xen's, the guest's, or what the guest's driver did to the device."""

    HOST = "host"
    GUEST = "guest"
    DEVICE = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check.

    `source` is where it looked; `witness` says whose word it rests on; `expected` is what was expected; `found` is what
    was found.
    """

    source: str
    witness: Witness = Witness.HOST
    expected: str
    found: str
    status: CheckStatus

    def __str__(self) -> str:
        return f"{self.source}: {self.found}" + (
            ""
            if self.status in {CheckStatus.PASSED, CheckStatus.INFO}
            else f" (expected {self.expected})"
        )


def by_guest(*results: CheckResult) -> tuple[CheckResult, ...]:
    """Return the results as resting on the guest's word."""
    return tuple(replace(result, witness=Witness.GUEST) for result in results)


def check_result(source: str, expected: object, found: object, *, passed: bool) -> CheckResult:
    """Return a result that passed or failed."""
    return CheckResult(
        source=source,
        expected=str(expected),
        found=str(found),
        status=CheckStatus.PASSED if passed else CheckStatus.FAILED,
    )


def verified(findings: Sequence[CheckResult]) -> bool:
    """Return whether at least one result decides, and every result that decides passed."""
    deciding = [f for f in findings if f.status is not CheckStatus.INFO]
    return bool(deciding) and all(f.status is CheckStatus.PASSED for f in deciding)


def refused_result(reason: str) -> CheckResult:
    """Return the result for an assignment that the planner refuses."""
    return CheckResult(
        source="plan", expected="no refusal", found=reason, status=CheckStatus.FAILED
    )


def alternative_result(reason: str) -> CheckResult:
    """Return the result for an assignment that is in sync without the device, which its alternative has."""
    return CheckResult(source="plan", expected=reason, found=reason, status=CheckStatus.PASSED)


def unverified_result(source: str, why: str) -> CheckResult:
    """Return a result that could not be had, and why; such a result never counts as passed."""
    return CheckResult(
        source=source, expected="an answer", found=why, status=CheckStatus.UNVERIFIED
    )


def not_asked_result() -> CheckResult:
    """Return the result for a guest that the policy says not to ask: all other results are dom0's and Xen's."""
    result = info_result(
        "guest", "not verified: the policy says not to ask the guest (verify: {guest: none})"
    )
    return replace(result, witness=Witness.GUEST)


def info_result(source: str, found: str) -> CheckResult:
    """Return a result that the administrator may want to know and that decides nothing."""
    return CheckResult(source=source, expected="", found=found, status=CheckStatus.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentChecks:
    """The results for one subject, and whether they verify it."""

    subject: str
    findings: tuple[CheckResult, ...]

    @property
    def verified(self) -> bool:
        """Whether the results verify the subject."""
        return verified(self.findings)


_DRIVER = "/sys/bus/pci/drivers/pciback"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistItem:
    """One item of a device's path into its guest.

    `item` is its name; `found` is what was found; `command` shows the same.
    """

    item: str
    status: CheckStatus
    found: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistFacts:
    """All that the checklist is made from.

    `pciback` is how xen-pciback is loaded (`module`, `built in`), None if not; `at_boot` what loads it at the next
    boot; `given` what Xen's backend serves to the domain; `assigned` the kernel's line on the virtual slot, empty if
    the log has none; `findings` the check results; `restarted` whether the domain was shut down and started before.
    """

    device: Device
    domain: Domain
    pciback: str | None
    at_boot: tuple[str, ...]
    directory: bool
    given: tuple[BackendDevice, ...]
    assigned: str
    findings: tuple[CheckResult, ...]
    restarted: bool = False


def checklist(facts: ChecklistFacts) -> tuple[ChecklistItem, ...]:
    """Return every item, in order."""
    return (*_in_dom0(facts), *_given(facts), *_in_guest(facts), *_lasting(facts))


def _check(station: str, command: str, found: str, *, passed: bool) -> ChecklistItem:
    decision = CheckStatus.PASSED if passed else CheckStatus.FAILED
    return ChecklistItem(item=station, status=decision, found=found, command=command)


def _open(station: str, command: str, found: str) -> ChecklistItem:
    return ChecklistItem(item=station, status=CheckStatus.UNVERIFIED, found=found, command=command)


def _in_dom0(facts: ChecklistFacts) -> Iterator[ChecklistItem]:
    address = facts.device.address
    yield _check(
        "module loaded", "ls -d /sys/module/xen_pciback", f"xen-pciback: {facts.pciback or 'not loaded'}",
        passed=facts.pciback is not None,
    )  # fmt: skip
    built_in = ("built into the kernel",) if facts.pciback == "built in" else ()
    loads = ", ".join((*built_in, *facts.at_boot))
    nothing = (
        "nothing loads xen-pciback; `echo xen-pciback > /etc/modules-load.d/xen-pciback.conf` would"
    )
    yield _check(
        "loaded at boot", "grep -r pciback /etc/modules-load.d /etc/modules /proc/cmdline",
        loads or nothing, passed=bool(loads),
    )  # fmt: skip
    present = "exists" if facts.directory else "missing"
    yield _check("driver directory", f"ls -d {_DRIVER}", present, passed=facts.directory)
    yield _check(
        "device bound", f"readlink /sys/bus/pci/devices/{address}/driver",
        facts.device.driver or "no driver", passed=facts.device.on_pciback,
    )  # fmt: skip
    has_it = any(given.address == address for given in facts.given)
    listed = f"in {facts.domain.name}, so not listed" if has_it else "listed"
    yield _check(
        "assignable", "xl pci-assignable-list", listed if facts.device.on_pciback else "not on pciback",
        passed=facts.device.on_pciback,
    )  # fmt: skip


def _given(facts: ChecklistFacts) -> Iterator[ChecklistItem]:
    address, domid = facts.device.address, facts.domain.domid
    said = f"dmesg | grep '{address}.*assign to virtual slot'"
    if facts.assigned:
        yield _check("kernel line", said, facts.assigned, passed=True)
    else:
        yield _open("kernel line", said, "not in dom0's log, or no longer")
    slots = {given.address: given.slot_in(facts.domain.kind) for given in facts.given}
    listed = ", ".join(f"{given} at {slot or '?'}" for given, slot in slots.items())
    yield _check(
        "devices of the domain",
        f"xenstore-ls /local/domain/0/backend/pci/{'DOMID' if domid is None else domid}",
        listed or "none",
        passed=slots.get(address) is not None,
    )


def _in_guest(facts: ChecklistFacts) -> Iterator[ChecklistItem]:
    found = {f.source: f for f in facts.findings if f.witness is Witness.GUEST}
    seen = next((found[source] for source in VIEWS if source in found), None)
    unanswered = found.get("guest")
    for station, finding, command in (
        ("guest lspci", seen, "in the guest: lspci -nnk"),
        ("guest driver", found.get("guest driver"), "in the guest: lspci -nnk"),
        ("guest claims", found.get("guest BARs"), "in the guest: grep 0000: /proc/iomem"),
        (
            "guest dmesg",
            found.get("guest log"),
            'in the guest: dmesg | grep -E "(pci.*0000|pcifront)"',
        ),
    ):
        result = finding or unanswered
        if result is None:
            yield _open(station, command, "the guest was not asked")
        else:
            yield ChecklistItem(
                item=station, status=result.status, found=result.found, command=command
            )


def _lasting(facts: ChecklistFacts) -> Iterator[ChecklistItem]:
    kept = facts.domain.config_hostdev(facts.device.address) is not None
    yield _check(
        "permanent in the config", f"virsh dumpxml --inactive {facts.domain.name}",
        "hostdev" if kept else "no hostdev", passed=kept,
    )  # fmt: skip
    station, command = "after shutdown and start", "cede verify --restart"
    if not facts.restarted:
        yield _open(station, command, "not tried")
    else:
        passed = verified(facts.findings)
        yield _check(
            station, command, "verified again" if passed else "not verified again", passed=passed
        )


def not_explained(why: str) -> ChecklistItem:
    """Return the one item of a checklist that can't be made, and why."""
    return _open("checklist", "cede --debug verify --explain", why)


def slot_line(findings: Sequence[CheckResult]) -> str:
    """Return the kernel's line on the virtual slot; empty if the results have none."""
    return next((f.found for f in findings if "assign to virtual slot" in f.found), "")
