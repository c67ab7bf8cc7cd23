"""What the guest says of its device, judged against what dom0 knows and reads of the card itself.

A guest may say anything; so what it claims is compared where dom0 can: its identity, its MAC, and the card's own
switches, which only a driver that really works with the card has on.
Sources: drivers/pci/xen-pcifront.c (claims), drivers/pci/setup-res.c, drivers/pci/pcie/aer.c, drivers/base/dd.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.guest.pci_function import Interrupt
from cede.verifier.check_results import judged, noted, unproven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.adapters.linux.config_space import SwitchedOn
    from cede.guest.pci_function import Function
    from cede.guest.probe import Look, View
    from cede.model.pci import Address, Device
    from cede.verifier.check_results import Finding

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
_ROM = re.compile(r"BAR 6\b|ROM")  # a missing option ROM harms no driver
_WORTH_KNOWING = re.compile(r"fail|error|can't claim|timed? ?out|severity=Corrected", re.IGNORECASE)
_LONGEST = 160


def of_guest(
    seen: Look, device: Device, slot: Address, card: SwitchedOn | None = None
) -> tuple[Finding, ...]:
    """What the guest itself says of the virtual slot that xenstore names.

    `card` is what dom0 reads of the real device right after the look; None if it can't.
    """
    if not seen.whole:
        return (unproven("guest", "its answer is cut off or garbled"),)
    if not seen.views:
        return (unproven("guest", "neither lspci nor sysfs can tell there"),)
    wanted = f"{device.identity} at {slot}"
    dissent = _dissent(seen.views)
    if dissent:
        return (unproven("guest", dissent),)
    view = seen.views[0]
    if view.function is None:
        return (judged(view.source, wanted, f"nothing at {slot}", right=False),)
    there = _all_told(seen.views)
    same = (there.vendor, there.device) == (device.identity.vendor, device.identity.device)
    return (
        judged(view.source, wanted, f"{there.vendor}:{there.device} at {there.slot}", right=same),
        *_kind(there, device),
        *_origin(there, device),
        _driver(there),
        _bars(there, seen),
        _interrupts(there, card),
        *_card(there, device, card),
        _log(seen.log, slot),
    )


def _dissent(views: Sequence[View]) -> str:
    """In what the guest's tools contradict each other; empty if they agree in all that they tell."""
    for one in views[1:]:
        first = views[0]
        if (first.function is None) != (one.function is None):
            here, gone = (first, one) if first.function else (one, first)
            return f"{here.source} sees something there and {gone.source} doesn't"
        for field in _FIELDS:
            said, other = getattr(first.function, field, None), getattr(one.function, field, None)
            if said is None or other is None:
                continue
            if field == "class_code":
                shorter = min(len(said), len(other))
                said, other = said[:shorter], other[:shorter]
            if said != other:
                return (
                    f"{first.source} says {field} {said or 'none'}, {one.source} {other or 'none'}"
                )
    return ""


def _all_told(views: Sequence[View]) -> Function:
    """One function with everything that any of the tools told."""
    functions = [view.function for view in views if view.function is not None]
    merged = functions[0]
    for function in functions[1:]:
        merged = merged.completed(function)
    return merged


def _kind(there: Function, device: Device) -> Iterator[Finding]:
    """Subsystem and class, which tell two cards with one chip apart."""
    mine = device.identity
    for name, wanted, found in (
        ("subsystem", mine.subsystem, there.subsystem),
        ("class", mine.class_code, there.class_code),
    ):
        nobody = wanted in {"", "0000:0000", "ffff:ffff"}
        if found is None:
            if not nobody:
                yield unproven(f"guest {name}", "not told")
        else:
            right = (not found) if nobody else bool(found) and wanted.startswith(found)
            yield judged(
                f"guest {name}", "none" if nobody else wanted, found or "none", right=right
            )


def _origin(there: Function, device: Device) -> Iterator[Finding]:
    """That it is this very card: the MAC that dom0 knew it by, and its serial number."""
    was = device.origin.links[0].mac if device.origin and device.origin.links else None
    mac = device.mac or was
    if mac and there.macs:
        yield judged("guest MAC", mac, ", ".join(there.macs), right=mac in there.macs)
    elif mac:
        yield noted("guest MAC", "no interface with the card's own MAC")
    if device.serial and there.serial:
        yield judged(
            "guest serial", device.serial, there.serial, right=device.serial == there.serial
        )


def _driver(there: Function) -> Finding:
    if there.driver is None:
        return unproven("guest driver", "not told")
    return judged(
        "guest driver", "a driver bound", there.driver or "no driver", right=bool(there.driver)
    )


def _bars(there: Function, seen: Look) -> Finding:
    """Each BAR has its place in the guest's memory map: what collides has an address, too, and no claim."""
    wanted = "every BAR claimed"
    if there.regions is None or there.unassigned is None:
        return unproven("guest BARs", "not told")
    if there.unassigned:
        return judged("guest BARs", wanted, f"{there.unassigned} without an address", right=False)
    if not there.regions:
        return noted("guest BARs", "it has none")
    if seen.claims is None:
        return noted(
            "guest BARs", f"{len(there.regions)} with an address; claims are told to root only"
        )
    lost = [first for first, last in there.regions if (first, last) not in seen.claims]
    found = f"{len(there.regions) - len(lost)} of {len(there.regions)} claimed"
    return judged("guest BARs", wanted, found, right=not lost)


def _interrupts(there: Function, card: SwitchedOn | None) -> Finding:
    """MSI or MSI-X, which dom0 can read of the card; one that is off may be not in use yet."""
    if there.interrupt is None:
        return unproven("guest interrupts", "not told")
    if there.interrupt is Interrupt.INTX:
        return noted(
            "guest interrupts", "no MSI: the device isn't opened yet, or its driver uses INTx"
        )
    if card is None:
        return judged("guest interrupts", "MSI or MSI-X", there.interrupt, right=True)
    on = card.msix if there.interrupt is Interrupt.MSIX else card.msi
    found = there.interrupt if on else f"{there.interrupt}, which is off in the card itself"
    return judged("guest interrupts", "MSI or MSI-X", found, right=on)


def _card(there: Function, device: Device, card: SwitchedOn | None) -> Iterator[Finding]:
    """The card's own word on whether a driver works with it, whatever the guest says."""
    if card is None or not there.driver:
        return
    asleep = there.power_state not in {None, "D0"}
    wanted = f"switched on, as {there.driver} is said to be bound"
    if there.driver in _HOLDERS or (asleep and not card.bus_master):
        yield noted("config space", str(card))
    elif not (card.memory or card.io) and there.regions:
        yield judged("config space", wanted, card, right=False)
    elif not card.bus_master and device.identity.class_code.startswith(_DMA_CLASSES):
        yield unproven("config space", f"{card}: nothing has begun to work with it")
    else:
        yield judged("config space", wanted, card, right=True)


def _log(lines: Sequence[str] | None, slot: Address) -> Finding:
    """The guest's kernel log since it last found the device; without that line, what it holds is later."""
    if lines is None:
        return noted("guest log", "nothing on it, or its log is shown to root only")
    found = [number for number, line in enumerate(lines) if _found(line, slot)]
    about = [line for line in lines[found[-1] if found else 0 :] if _concerns(line, slot)]
    wrong = [line for line in about if _ERROR.search(line) and not _ROM.search(line)]
    if wrong:
        return judged("guest log", "no error", wrong[0][:_LONGEST], right=False)
    worth = [line for line in about if _WORTH_KNOWING.search(line)]
    if worth:
        return noted("guest log", worth[-1][:_LONGEST])
    return judged("guest log", "no error", f"no error in {len(about)} lines", right=True)


def _found(line: str, slot: Address) -> bool:
    match = _ENUMERATED.search(line)
    return match is not None and match["slot"] == str(slot)


def _concerns(line: str, slot: Address) -> bool:
    slots = _ANY_SLOT.findall(line)
    return str(slot) in slots or (not slots and "pcifront" in line)
