"""Rules about the daemons that cede asks: libvirt's (one, or one for each driver) and xenstored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.doctor.finding import HOST, Finding, Severity, quoted
from cede.errors import NOT_RECORDED
from cede.planner.guards import DISKS_UNKNOWN, disks_remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.doctor.finding import Facts
    from cede.errors import CedeError

_NOT_ALLOWED = re.compile(r"permission denied|authentication|access denied|polkit", re.IGNORECASE)
_NO_DRIVER = re.compile(r"no connection driver available|failed to find module", re.IGNORECASE)
_SILENT = {
    "libvirt-spinning": "libvirt's daemon spins and answers nobody",
    "libvirt-blocked": "libvirt's daemon waits for something and answers nobody",
    "libvirt-stopped": "libvirt's daemon was stopped by a signal and answers nobody",
    "xenstore-spinning": "xenstored spins and answers nobody",
    "xenstore-blocked": "xenstored waits for something and answers nobody",
    "xenstore-stopped": "xenstored was stopped by a signal and answers nobody",
}
_IDLE = "libxenlight state driver is not active"


def not_root(facts: Facts) -> Iterator[Finding]:
    """Say that the doctor sees less without root."""
    if not facts.is_root:
        yield Finding(
            name="not-root",
            severity=Severity.NOTE,
            subject=HOST,
            what="cede does not run as root and can't examine everything",
            why="libvirt, xenstore, Xen's log and the kernel's log open for root only",
            remedy="sudo cede doctor",
            source="xen, docs/misc/xenstore.txt; polkit",
        )


def libvirt(facts: Facts) -> Iterator[Finding]:
    """Find a libvirt whose daemon is down, or has no Xen driver, or has one that didn't start.

    Sources: libvirt, src/util/virerror.c (VIR_ERR_NO_CONNECT), src/driver.c (virDriverLoadModule: "Failed to find
    module"), src/libxl/libxl_driver.c (libxlConnectOpen), docs/daemons.rst (the modular ones).
    """
    if facts.no_libvirt is None or facts.no_libvirt.name == NOT_RECORDED:
        return
    said = facts.no_libvirt.message
    if not facts.is_root and _NOT_ALLOWED.search(said):
        return
    why = quoted(said)
    if facts.no_libvirt.name in _SILENT:
        yield _silent(facts.no_libvirt)
    elif facts.no_libvirt.name == "libvirt-binding-missing":
        yield _fatal(
            "libvirt-no-binding",
            "Python has no binding to libvirt",
            why,
            "apt-get install python3-libvirt",
            "https://libvirt.org/python.html",
        )
    elif _NO_DRIVER.search(said):
        yield _fatal(
            "libvirt-no-xen-driver",
            "libvirt has no Xen driver",
            why,
            "apt-get install libvirt-daemon-driver-xen, then systemctl restart libvirtd",
            "libvirt, src/util/virerror.c (VIR_ERR_NO_CONNECT)",
        )
    elif _IDLE in said:
        yield _fatal(
            "libvirt-xen-driver-idle",
            "libvirt's Xen driver is installed, but did not start",
            why,
            "see `journalctl -u libvirtd` (or virtxend); once Xen and xenstored run, systemctl restart libvirtd",
            "libvirt, src/libxl/libxl_driver.c (libxlConnectOpen)",
        )
    else:
        modular = "virtxend" in said
        yield _fatal(
            "virtxend-down" if modular else "libvirt-down",
            f"{'virtxend' if modular else 'libvirt'} does not answer",
            why,
            "systemctl start virtxend.socket"
            if modular
            else "systemctl start libvirtd (where its daemons are modular: virtxend.socket and virtnodedevd.socket)",
            "libvirt, docs/daemons.rst",
        )


def node_devices(facts: Facts) -> Iterator[Finding]:
    """Find a driver for node devices (virtnodedevd where daemons are modular) that doesn't answer, or lists none."""
    if facts.no_node_devices and not facts.no_libvirt:
        yield _fatal(
            "virtnodedevd-down",
            "libvirt can't list the host's devices",
            quoted(facts.no_node_devices.message),
            "systemctl start virtnodedevd.socket (or systemctl restart libvirtd)",
            "libvirt, docs/daemons.rst",
        )
    devices = facts.inventory.devices
    if devices and all(device.node_device is None for device in devices):
        yield _fatal(
            "node-devices-unknown",
            "libvirt lists none of the host's PCI devices",
            "sysfs has them, so the list tells nothing, and cede gives none of them away",
            "systemctl restart virtnodedevd (or libvirtd), then `virsh nodedev-list --cap pci`",
            "libvirt, src/node_device/node_device_udev.c",
        )


def xenstore(facts: Facts) -> Iterator[Finding]:
    """Find a xenstored that doesn't answer. Source: Xen, docs/misc/xenstore.txt."""
    error = facts.no_xenstore
    if error is not None and error.name == NOT_RECORDED:
        return
    if error is not None and error.name in _SILENT:
        yield _silent(error)
    elif error is not None and (facts.is_root or not _NOT_ALLOWED.search(error.message)):
        yield _fatal(
            "xenstore-down",
            "xenstore does not answer",
            quoted(error.message),
            "systemctl start xenstored",
            "Xen, docs/misc/xenstore.txt",
        )


def unobserved(facts: Facts) -> Iterator[Finding]:
    """Find a host that cede can't observe as a whole, which it must before any change, though all daemons answer."""
    if facts.not_observed and facts.not_observed.name != NOT_RECORDED:
        yield _fatal(
            "not-observed",
            "cede can't observe the host as a whole, and changes nothing until that works",
            quoted(facts.not_observed.message),
            "run `cede devices`: its error names the remedy",
            "cede, services/observe.py",
        )


def untold(facts: Facts) -> Iterator[Finding]:
    """Say what a recorded host does not tell."""
    asked = (
        ("libvirt", facts.no_libvirt),
        ("xenstore", facts.no_xenstore),
        (HOST, facts.not_observed),
    )
    for what, error in asked:
        if error is not None and error.name == NOT_RECORDED:
            yield Finding(
                name=NOT_RECORDED,
                severity=Severity.NOTE,
                subject=what,
                what=quoted(error.message),
                why="what depends on it is not examined",
                remedy=error.remedy,
                source="cede, adapters/recorded",
            )


def unreadable_domains(facts: Facts) -> Iterator[Finding]:
    """Find a domain whose XML can't be read. Source: https://libvirt.org/formatdomain.html."""
    for domain in facts.inventory.unreadable:
        yield Finding(
            name="domain-unreadable",
            severity=Severity.WARNING,
            subject=quoted(domain.name),
            what=f"the XML of {quoted(domain.name)} can't be read",
            why=f"which devices it has can't be told, and cede leaves these alone: {quoted(domain.unreadable)}",
            remedy=quoted(f"virsh dumpxml {domain.name}; virsh edit {domain.name}"),
            source="https://libvirt.org/formatdomain.html",
        )


def unknown_volumes(facts: Facts) -> Iterator[Finding]:
    """Find a domain with volumes that libvirt can't find. Source: https://libvirt.org/formatstorage.html."""
    for domain in facts.inventory.domains:
        if domain.unknown_volumes and not domain.unreadable:
            yield Finding(
                name=DISKS_UNKNOWN,
                severity=Severity.WARNING,
                subject=quoted(domain.name),
                what=f"libvirt can't find disks of {quoted(domain.name)}: {quoted(', '.join(domain.unknown_volumes))}",
                why="they may be on any storage controller of dom0's, so that cede gives none of these away",
                remedy=quoted(disks_remedy(domain)),
                source="https://libvirt.org/formatstorage.html",
            )


def unreadable_logs(facts: Facts) -> Iterator[Finding]:
    """Find a log that can't be read, and in which nothing is found therefore. Source: Linux, dev-kmsg; Xen, xl(1)."""
    for log in facts.unreadable_logs:
        yield Finding(
            name="log-unreadable",
            severity=Severity.WARNING,
            subject=log,
            what=f"{log} can't be read",
            why="whether it has errors of a device can't be told, and no device is called verified",
            remedy="see that /dev/kmsg can be read (`dmesg`), and that `xl dmesg` answers",
            source="Linux, Documentation/ABI/testing/dev-kmsg; Xen, docs/man/xl.1.pod.in (dmesg)",
        )


def _silent(error: CedeError) -> Finding:
    """A daemon whose process is there and does not answer, with what is wrong with it and its remedy."""
    return _fatal(
        error.name,
        _SILENT[error.name],
        quoted(error.message),
        error.remedy,
        "proc(5), /proc/pid/stat; cede, adapters/linux/shared_daemons.py",
    )


def _fatal(name: str, what: str, why: str, remedy: str, source: str) -> Finding:
    return Finding(
        name=name,
        severity=Severity.FATAL,
        subject=HOST,
        what=what,
        why=why,
        remedy=remedy,
        source=source,
    )


RULES = (
    not_root,
    libvirt,
    node_devices,
    xenstore,
    unobserved,
    untold,
    unreadable_domains,
    unknown_volumes,
    unreadable_logs,
)
