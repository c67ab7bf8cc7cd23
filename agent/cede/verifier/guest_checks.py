"""What the guest says of its device, compared with what dom0 knows and reads from the device itself.

A guest may say anything, so its claims are compared where dom0 can: identity, MAC, and the switches in the device's
configuration space, which are on only if a driver really uses the device.
Sources: drivers/pci/xen-pcifront.c (claims), drivers/pci/setup-res.c, drivers/pci/pcie/aer.c, drivers/base/dd.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.guest.pci_function import Interrupt
from cede.verifier.checklist import by_guest, check_result, info_result, unverified_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.guest.pci_function import Function
    from cede.guest.probe import ProbeResult, View
    from cede.model.pci import Address, Device, SwitchedOn
    from cede.verifier.checklist import CheckResult

_FIELDS = ("vendor", "device", "class_code", "subsystem", "driver", "interrupt", "serial")
_HOLDERS = ("vfio-pci", "pci-stub", "pciback", "uio_pci_generic")  # bound, and nothing switched on
_DMA_CLASSES = (
    "01",
    "02",
    "0c03",
)  # storage, network, USB: none of them works without being bus master
_ENUMERATED = re.compile(r"\bpci (?P<slot>\S+): \[[0-9a-f]{4}:[0-9a-f]{4}\] type ")
_ANY_SLOT = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")
_ERROR = re.compile(
    r"Could not claim resource|can't claim|address space collision|conflicts with System RAM"
    r"|probe (?:of \S+|with driver \S+) failed with error|[Uu]ncorrectable|severity=Uncorrected"
    r"|[Uu]nable to change power state|can't change power state|NETDEV WATCHDOG|Device offline"
)
_ROM = re.compile(
    r"BAR 6\b|\bROM\b|Could not claim resource \S{1,16}/6!"
)  # a missing option ROM harms no driver
_WORTH_KNOWING = re.compile(
    r"fail|error|(?:can't|Could not) claim|timed? ?out|severity=Corrected", re.IGNORECASE
)
_MAX_LENGTH = 160


def of_guest(
    seen: ProbeResult, device: Device, slot: Address, card: SwitchedOn | None = None
) -> tuple[CheckResult, ...]:
    """Check what the guest itself says of the virtual slot that xenstore names.

    `card` is what dom0 reads from the real device right after the probe; None if unreadable.
    """
    if not seen.whole:
        return by_guest(unverified_result("guest", "the guest's answer is cut off or garbled"))
    if not seen.views:
        return by_guest(unverified_result("guest", "neither lspci nor sysfs answers there"))
    expected = f"{device.identity} at {slot}"
    dissent = _dissent(seen.views)
    if dissent:
        return by_guest(unverified_result("guest", dissent))
    view = seen.views[0]
    if view.function is None:
        return by_guest(check_result(view.source, expected, f"nothing at {slot}", passed=False))
    function = _merged(seen.views)
    same = (function.vendor, function.device) == (device.identity.vendor, device.identity.device)
    found = f"{function.vendor}:{function.device} at {function.slot}"
    return (
        *by_guest(
            check_result(view.source, expected, found, passed=same),
            *_kind(function, device),
            *_origin(function, device),
            _driver(function),
            _bars(function, seen),
            _interrupts(function, card),
        ),
        *_card(function, device, card),
        *by_guest(_log(seen.log, slot)),
    )


def _dissent(views: Sequence[View]) -> str:
    """Return in what the guest's tools contradict each other; empty if they agree."""
    for view in views[1:]:
        first = views[0]
        if (first.function is None) != (view.function is None):
            here, gone = (first, view) if first.function else (view, first)
            return f"{here.source} sees a device there and {gone.source} does not"
        for field in _FIELDS:
            said, other = getattr(first.function, field, None), getattr(view.function, field, None)
            if said is None or other is None:
                continue
            if field == "class_code":
                shorter = min(len(said), len(other))
                said, other = said[:shorter], other[:shorter]
            if said != other:
                return (
                    f"{first.source} says {field} {said or 'none'}, {view.source} {other or 'none'}"
                )
    return ""


def _merged(views: Sequence[View]) -> Function:
    """Return one function with everything that any of the tools says."""
    functions = [view.function for view in views if view.function is not None]
    merged = functions[0]
    for function in functions[1:]:
        merged = merged.completed(function)
    return merged


def _kind(function: Function, device: Device) -> Iterator[CheckResult]:
    """Check subsystem and class, which distinguish two cards with the same chip."""
    identity = device.identity
    for name, expected, found in (
        ("subsystem", identity.subsystem, function.subsystem),
        ("class", identity.class_code, function.class_code),
    ):
        nobody = expected in {"", "0000:0000", "ffff:ffff"}
        if found is None:
            if not nobody:
                yield unverified_result(f"guest {name}", "unknown")
        else:
            passed = (not found) if nobody else bool(found) and expected.startswith(found)
            yield check_result(
                f"guest {name}", "none" if nobody else expected, found or "none", passed=passed
            )


def _origin(function: Function, device: Device) -> Iterator[CheckResult]:
    """Check that this is the very card: the MAC that dom0 knew, and the serial number."""
    was = (
        device.original_state.macs[0]
        if device.original_state and device.original_state.macs
        else None
    )
    mac = device.mac or was
    if mac and function.macs:
        yield check_result("guest MAC", mac, ", ".join(function.macs), passed=mac in function.macs)
    elif mac:
        yield info_result("guest MAC", "no interface with the card's own MAC")
    if device.serial and function.serial:
        yield check_result(
            "guest serial", device.serial, function.serial, passed=device.serial == function.serial
        )


def _driver(function: Function) -> CheckResult:
    if function.driver is None:
        return unverified_result("guest driver", "unknown")
    return check_result(
        "guest driver",
        "a driver bound",
        function.driver or "no driver",
        passed=bool(function.driver),
    )


def _bars(function: Function, seen: ProbeResult) -> CheckResult:
    """Check that the guest's kernel claimed each BAR: a BAR that collides has an address too, but no claim."""
    expected = "every BAR claimed"
    if function.regions is None or function.unassigned is None:
        return unverified_result("guest BARs", "unknown")
    if function.unassigned:
        return check_result(
            "guest BARs", expected, f"{function.unassigned} without an address", passed=False
        )
    if not function.regions:
        return info_result("guest BARs", "the device has none")
    if seen.claims is None:
        return info_result(
            "guest BARs",
            f"{len(function.regions)} with an address; only root in the guest can read claims",
        )
    lost = [first for first, last in function.regions if (first, last) not in seen.claims]
    found = f"{len(function.regions) - len(lost)} of {len(function.regions)} claimed"
    return check_result("guest BARs", expected, found, passed=not lost)


def _interrupts(function: Function, card: SwitchedOn | None) -> CheckResult:
    """Check for MSI or MSI-X, which dom0 reads from the device; without MSI the device may not be in use yet."""
    if function.interrupt is None:
        return unverified_result("guest interrupts", "unknown")
    if function.interrupt is Interrupt.INTX:
        return info_result(
            "guest interrupts", "no MSI: the device isn't opened yet, or its driver uses INTx"
        )
    if card is None:
        return check_result("guest interrupts", "MSI or MSI-X", function.interrupt, passed=True)
    on = card.msix if function.interrupt is Interrupt.MSIX else card.msi
    found = function.interrupt if on else f"{function.interrupt}, which is off in the device itself"
    return check_result("guest interrupts", "MSI or MSI-X", found, passed=on)


def _card(function: Function, device: Device, card: SwitchedOn | None) -> Iterator[CheckResult]:
    """Check by the device itself whether a driver uses it, whatever the guest says."""
    if card is None or not function.driver:
        return
    asleep = function.power_state not in {None, "D0"}
    expected = f"switched on, as {function.driver} is said to be bound"
    if function.driver in _HOLDERS or (asleep and not card.bus_master):
        yield info_result("config space", str(card))
    elif not (card.memory or card.io) and function.regions:
        yield check_result("config space", expected, card, passed=False)
    elif not card.bus_master and device.identity.class_code.startswith(_DMA_CLASSES):
        yield unverified_result("config space", f"{card}: no driver uses the device yet")
    else:
        yield check_result("config space", expected, card, passed=True)


def _log(lines: Sequence[str] | None, slot: Address) -> CheckResult:
    """Check the guest's kernel log since the kernel last found the device, or all of it if that line is gone."""
    if lines is None:
        return info_result("guest log", "no line about the device, or only root can read the log")
    found = [number for number, line in enumerate(lines) if _found(line, slot)]
    about = [line for line in lines[found[-1] if found else 0 :] if _concerns(line, slot)]
    wrong = [line for line in about if _ERROR.search(line) and not _ROM.search(line)]
    if wrong:
        return check_result("guest log", "no error", wrong[0][:_MAX_LENGTH], passed=False)
    worth = [line for line in about if _WORTH_KNOWING.search(line)]
    if worth:
        return info_result("guest log", worth[-1][:_MAX_LENGTH])
    return check_result("guest log", "no error", f"no error in {len(about)} lines", passed=True)


def _found(line: str, slot: Address) -> bool:
    match = _ENUMERATED.search(line)
    return match is not None and match["slot"] == str(slot)


def _concerns(line: str, slot: Address) -> bool:
    slots = _ANY_SLOT.findall(line)
    return str(slot) in slots or (not slots and "pcifront" in line)
