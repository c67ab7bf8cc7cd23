"""Rules about xen-pciback, dom0's driver that holds devices for guests: available, loaded, hiding the right devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted
from cede.model import pciback_options
from cede.model.actions import LoadAtBoot, LoadPciback
from cede.planner.guards import guards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts
    from cede.model.pciback_options import Hide

_REFUSED = re.compile(r'Error parsing pci_devs_to_hide at "(?P<rest>.*)"')
_STUB = "Linux, drivers/xen/xen-pciback/pci_stub.c (pcistub_init)"
_RIGHT = "hide=(0000:01:00.0)(0000:02:00.0), each device in brackets and no commas"


def not_loaded(facts: Facts) -> Iterator[Finding]:
    """Find a kernel that has no xen-pciback, or has not loaded xen-pciback now or at boot.

    Sources: Linux, drivers/xen/Kconfig (XEN_PCIDEV_BACKEND); modules-load.d(5).
    """
    loaded = facts.inventory.pciback_loaded
    if not loaded and facts.pciback_available is False:
        yield Finding(
            name="pciback-missing",
            severity=Severity.FATAL,
            subject=HOST,
            what="this kernel has no module xen-pciback",
            why="without it dom0 can't hold a device for guests",
            remedy="boot a kernel with CONFIG_XEN_PCIDEV_BACKEND; Debian's linux-image-amd64 has it",
            source="Linux, drivers/xen/Kconfig (XEN_PCIDEV_BACKEND)",
        )
        return
    broken = any(hide.bad and not hide.ignored for hide in _settings(facts))
    if not loaded:
        yield Finding(
            name="pciback-not-loaded",
            severity=Severity.WARNING,
            subject=HOST,
            what="the kernel module xen-pciback is not loaded",
            why="libvirt would try `modprobe pciback`, which no present kernel has; cede loads xen-pciback when "
            "a plan needs it",
            remedy="modprobe xen-pciback",
            source="libvirt, src/util/virpci.c (virPCIProbeStubDriver)",
            actions=() if broken else (LoadPciback(),),
        )
    if facts.pciback_at_boot is False:
        yield Finding(
            name="pciback-not-at-boot",
            severity=Severity.WARNING,
            subject=HOST,
            what="xen-pciback is not loaded at boot",
            why="a guest that starts at boot finds its device not bound to pciback",
            remedy="echo xen-pciback > /etc/modules-load.d/cede.conf",
            source="modules-load.d(5)",
            actions=(LoadAtBoot(),),
        )


def hidden(facts: Facts) -> Iterator[Finding]:
    """Find a `hide=` that is malformed or without effect, or names no device or a device that the host uses."""
    settings = _settings(facts)
    for hide in settings:
        if hide.ignored:
            yield Finding(
                name="hide-ignored",
                severity=Severity.WARNING,
                subject=quoted(hide.place),
                what=f"{quoted(hide.place)} has no effect",
                why="the module is called xen-pciback since Linux 3.1",
                remedy="use xen-pciback.hide= instead",
                source="Linux, drivers/xen/xen-pciback/Makefile",
            )
        elif hide.bad:
            yield _malformed(hide.place, hide.bad, facts)
        yield from _misdirected(hide, facts)
    refused = [match for line in facts.kernel_log if (match := _REFUSED.search(line))]
    if refused and not facts.inventory.pciback_loaded and not any(f.bad for f in settings):
        yield Finding(
            name="hide-refused",
            severity=Severity.WARNING,
            subject=HOST,
            what="xen-pciback could not read its hide=, and did not load",
            why=f'the kernel log says: Error parsing pci_devs_to_hide at "{quoted(refused[-1]["rest"])}"',
            remedy=f"modprobe xen-pciback, with {_RIGHT}",
            source=_STUB,
        )


def _malformed(place: str, bad: str, facts: Facts) -> Finding:
    loaded = facts.inventory.pciback_loaded
    return Finding(
        name="hide-malformed",
        severity=Severity.WARNING if loaded else Severity.FATAL,
        subject=quoted(place),
        what=f'{quoted(place)} can\'t be read from "{quoted(bad)}" on',
        why="the kernel then refuses the whole module: `modprobe xen-pciback` fails with Invalid argument",
        remedy=f"correct it: {_RIGHT}",
        source=_STUB,
    )


def _misdirected(found: Hide, facts: Facts) -> Iterator[Finding]:
    devices = facts.inventory.devices
    for entry in found.hidden:
        covered = [device for device in devices if entry.covers(device.address)]
        if devices and not covered:
            yield Finding(
                name="hide-no-device",
                severity=Severity.WARNING,
                subject=quoted(f"{entry.text} of {found.place}"),
                what=f"{quoted(entry.text)} of {quoted(found.place)} names no device of this host",
                why="an address is a place: a card that was moved or added shifts the bus numbers",
                remedy="`cede devices` lists the devices; correct hide=, or remove the entry: cede does not need hide=",
                source=_STUB,
            )
        for device in () if found.ignored else covered:
            uses = guards(device)
            if uses and not device.is_bridge:
                yield Finding(
                    name="hide-guarded",
                    severity=Severity.FATAL,
                    subject=str(device.address),
                    what=f"{quoted(found.place)} hides {device.address} from the host, which uses the device",
                    why="; ".join(str(use) for use in uses),
                    remedy=f"remove {quoted(entry.text)} from {quoted(found.place)} before the next boot",
                    source=_STUB,
                )


def _settings(facts: Facts) -> tuple[Hide, ...]:
    return pciback_options.settings(facts.kernel_command_line, facts.module_options)


RULES = (not_loaded, hidden)
