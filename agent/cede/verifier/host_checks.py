"""What dom0 and Xen say of a device that a guest should have; no guest can forge it.

Sources: xen/include/public/io/xenbus.h (the states), drivers/xen/xen-pciback/xenbus.c (who sets them), pci_stub.c and
vpci.c there (what is logged), conf_space.c (what a guest may not write).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.model.domain import GuestKind
from cede.model.inventory import CONNECTED, INITIALISED, INITIALISING, RECONFIGURING
from cede.model.log_lines import RESET_CAME_BACK, RESET_GIVEN_UP
from cede.verifier.checklist import Witness, check_result, info_result, unverified_result

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.log_lines import KernelLine
    from cede.model.pci import Address, Device, SwitchedOn
    from cede.verifier.checklist import CheckResult

_BINDING = re.compile(r"seizing device|assign to virtual slot")
_ASSIGNED = re.compile(r"vpci: assign to virtual slot [0-9a-f]+(?: func [0-7])?")
_KEPT_FROM = re.compile(r"read-only configuration space field at offset (0x[0-9a-f]{1,3})")
_ERROR = re.compile(
    r"still in-use|xen map irq failed|[Uu]ncorrectable|severity=Uncorrected|can't (?:claim|enable|reserve)"
    r"|[Uu]nable to change power state|broken device|failed to (?:enable|restore)"
    r"|error \d+ (?:enabling|setting)"
)
_CAME_BACK = re.compile(rf"(?<!not ){RESET_CAME_BACK}")
_GIVEN_UP = re.compile(RESET_GIVEN_UP)
_WAITING = re.compile(r"not ready \d{1,9}ms after [^;]{1,40}; waiting")
_CORRECTED = re.compile(r"severity=Corrected|[Cc]orrected error")
_MAX_LENGTH = 160


def of_dom0(device: Device, domain: Domain, *, plugged: bool = True) -> tuple[CheckResult, ...]:
    """Check dom0's sysfs and libvirt's two XMLs.

    With `plugged` false the domain needs the device only at its next start.
    """
    live = domain.live_hostdev(device.address) is not None
    config = domain.config_hostdev(device.address) is not None
    return (
        check_result(
            "sysfs",
            "bound to pciback",
            f"bound to {device.driver or 'no driver'}",
            passed=device.on_pciback,
        ),
        check_result(
            "live XML", "hostdev", _live(live=live, plugged=plugged), passed=live or not plugged
        ),
        check_result(
            "persistent XML", "hostdev", "hostdev" if config else "no hostdev", passed=config
        ),
    )


def _live(*, live: bool, plugged: bool) -> str:
    if live:
        return "hostdev"
    return "no hostdev" if plugged else "no hostdev before its next start"


def of_xenstore(given: BackendDevice | None, domain: Domain) -> tuple[CheckResult, ...]:
    """Check Xen's PCI backend.

    With a PV guest, backend and pcifront must be Connected (4), with a virtual slot. An HVM guest has its device model
    instead of a pcifront: the backend stays at Initialised (3), or at Reconfiguring (7) after a second device, which
    then stays as libxl left it, at Initialising (1). pciback sets the state of each device that it serves to
    Initialised (xenbus.c, xen_pcibk_reconfigure); Closing (5) is a detach that a guest has not answered.
    """
    if given is None or given.domid != domain.domid:
        found = "not given to any domain" if given is None else f"given to domain {given.domid}"
        return (
            check_result("xenstore", f"dev-N given to domain {domain.domid}", found, passed=False),
        )
    pv, slot = domain.kind is GuestKind.PV, given.slot_in(domain.kind)
    rests = (CONNECTED,) if pv else (INITIALISED, RECONFIGURING)
    findings = [
        check_result("xenstore dev", given.address, f"dev-{given.index} {given.address}", passed=True),
        _state("xenstore backend", rests, given.backend_state),
        _state("xenstore state", (INITIALISED,) if pv else (INITIALISING, INITIALISED), given.state),
        check_result(
            "xenstore slot", "a virtual slot", slot or "none yet",
            passed=slot is not None,
        ),
    ]  # fmt: skip
    if pv:
        findings.append(_state("xenstore frontend", (CONNECTED,), given.frontend_state))
    if _wants_permissive(domain, given.address):
        options = given.options.split(",")
        findings.append(
            check_result(
                "xenstore opts", "permissive=1", given.options or "none",
                passed="permissive=1" in options,
            )
        )  # fmt: skip
    return tuple(findings)


def _state(source: str, rests: tuple[int, ...], found: int | None) -> CheckResult:
    """Check a state of xenbus.h; xenstore without it proves nothing either way."""
    if found is None:
        return unverified_result(source, "no state in xenstore")
    expected = " or ".join(f"state {state}" for state in rests)
    return check_result(source, expected, f"state {found}", passed=found in rests)


def _wants_permissive(domain: Domain, address: Address) -> bool:
    hostdev = domain.live_hostdev(address)
    return hostdev is not None and not hostdev.write_filtering


def of_permissive(
    permissive: Collection[Address], address: Address, domain: Domain
) -> tuple[CheckResult, ...]:
    """Check that pciback itself has the option that libxl was given; empty where the device is not permissive."""
    if not _wants_permissive(domain, address):
        return ()
    there = address in permissive
    found = "listed as permissive" if there else "not listed as permissive"
    return (check_result("pciback", "listed as permissive", found, passed=there),)


def of_device(card: SwitchedOn | None) -> CheckResult:
    """Check by the device's own configuration space, read in dom0, that a driver of its guest uses the device.

    pciback switches all of it off whenever the device changes hands (pciback_ops.c, xen_pcibk_reset_device), so what is
    on was switched on since the attach and the guest's last start.
    Firmware of an HVM guest switches on memory and bus mastering, too (tools/firmware/hvmloader/pci.c): what only a
    driver does is to ask for interrupts by message. None is a device that does not answer.
    """
    expected = "memory, bus mastering and MSI or MSI-X switched on by the guest's driver"
    if card is None:
        result = unverified_result("device", "its configuration space can't be read")
    elif card.driven:
        result = check_result("device", expected, card, passed=True)
    else:
        result = unverified_result(
            "device",
            f"{card}: no driver uses the device yet, or one without MSI, which dom0 can't see",
        )
    return replace(result, witness=Witness.DEVICE)


def of_kernel_log(lines: Sequence[KernelLine] | None, address: Address) -> tuple[CheckResult, ...]:
    """Check what dom0's kernel logged of the device since it was last bound or assigned to a virtual slot.

    A ring buffer that has lost that line holds only later ones. None of the `lines` is a log that can't be read: it
    proves nothing.
    """
    if lines is None:
        return (unverified_result("kernel log", "dom0's kernel log is unreadable"),)
    about = [line.text for line in lines if str(address) in line.text]
    bindings = [number for number, text in enumerate(about) if _BINDING.search(text)]
    since = about[bindings[-1] :] if bindings else about
    findings = _resets(since)
    for text in dict.fromkeys(since):
        if _ERROR.search(text):
            findings.append(
                check_result("kernel log", "no error", text[:_MAX_LENGTH], passed=False)
            )
        elif _CORRECTED.search(text):
            findings.append(info_result("kernel log", text[:_MAX_LENGTH]))
        elif slot := _ASSIGNED.search(text):
            findings.append(info_result("kernel log", slot[0]))
    kept_from = [match[1] for text in since if (match := _KEPT_FROM.search(text))]
    if kept_from:
        places = ", ".join(dict.fromkeys(kept_from))
        findings.append(
            info_result(
                "kernel log", f"the guest may not write its configuration space at {places}"
            )
        )
    return tuple(findings)


def _resets(since: Sequence[str]) -> list[CheckResult]:
    """Check how the device's last reset ended; one that came back late is no error."""
    ends = [
        text
        for text in since
        if any(said.search(text) for said in (_CAME_BACK, _GIVEN_UP, _WAITING))
    ]
    last = ends[-1][:_MAX_LENGTH] if ends else ""
    if _GIVEN_UP.search(last):
        return [check_result("kernel log", "no error", last, passed=False)]
    return [unverified_result("kernel log", last)] if _WAITING.search(last) else []


def of_xen(before: int | None, after: int | None) -> tuple[CheckResult, ...]:
    """Check for DMA faults of the device in Xen's log, counted `before` and `after` the guest was asked.

    Xen's log mostly has no times: older faults may come from an earlier action, and decide nothing.
    """
    if before is None or after is None:
        return (unverified_result("Xen's log", "Xen's log is unreadable"),)
    if after > before:
        return (
            check_result(
                "Xen's log", "no DMA fault", f"{after - before} DMA faults just now", passed=False
            ),
        )
    return (
        (info_result("Xen's log", f"{after} DMA faults of the device, none just now"),)
        if after
        else ()
    )
