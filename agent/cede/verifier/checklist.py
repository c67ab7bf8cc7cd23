"""The whole way of a device into its guest as a checklist, with the command by which a person sees the same.

It is the way that everybody walks by hand: module, driver, binding, hot-plug, the guest's own look, and once more after
a restart. Judged from values alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.verifier.check_results import Verdict, proven

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Device
    from cede.verifier.check_results import Finding

_DRIVER = "/sys/bus/pci/drivers/pciback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One station of the way: what it is, how it stands, what was found, and the command to see it with."""

    station: str
    verdict: Verdict
    found: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All that the checklist is made from.

    `pciback` is how the module is there (`module`, `built in`), None if it isn't; `at_boot` what loads it at the next
    boot; `given` what Xen's backend serves to the domain; `assigned` the kernel's line on the virtual slot, empty if
    its log has none; `findings` what verification found; `restarted` that this was after a shutdown and a start.
    """

    device: Device
    domain: Domain
    pciback: str | None
    at_boot: tuple[str, ...]
    directory: bool
    given: tuple[BackendDevice, ...]
    assigned: str
    findings: tuple[Finding, ...]
    restarted: bool = False


def checklist(way: Way) -> tuple[Check, ...]:
    """Every station in its order, none left out."""
    return (*_in_dom0(way), *_given(way), *_in_guest(way), *_lasting(way))


def _check(station: str, command: str, found: str, *, right: bool) -> Check:
    verdict = Verdict.RIGHT if right else Verdict.WRONG
    return Check(station=station, verdict=verdict, found=found, command=command)


def _open(station: str, command: str, found: str) -> Check:
    return Check(station=station, verdict=Verdict.OPEN, found=found, command=command)


def _in_dom0(way: Way) -> Iterator[Check]:
    address = way.device.address
    yield _check(
        "module loaded", "ls -d /sys/module/xen_pciback", f"xen-pciback: {way.pciback or 'not loaded'}",
        right=way.pciback is not None,
    )  # fmt: skip
    built_in = ("built into the kernel",) if way.pciback == "built in" else ()
    loads = ", ".join((*built_in, *way.at_boot))
    nothing = "nothing does; `echo xen-pciback > /etc/modules-load.d/xen-pciback.conf` would"
    yield _check(
        "loaded at boot", "grep -r pciback /etc/modules-load.d /etc/modules /proc/cmdline",
        loads or nothing, right=bool(loads),
    )  # fmt: skip
    there = "there" if way.directory else "missing"
    yield _check("driver directory", f"ls -d {_DRIVER}", there, right=way.directory)
    yield _check(
        "device bound", f"readlink /sys/bus/pci/devices/{address}/driver",
        way.device.driver or "no driver", right=way.device.on_pciback,
    )  # fmt: skip
    has_it = any(one.address == address for one in way.given)
    listed = f"with {way.domain.name}, so no longer listed" if has_it else "listed"
    yield _check(
        "assignable", "xl pci-assignable-list", listed if way.device.on_pciback else "not on pciback",
        right=way.device.on_pciback,
    )  # fmt: skip


def _given(way: Way) -> Iterator[Check]:
    address, domid = way.device.address, way.domain.domid
    said = f"dmesg | grep '{address}.*assign to virtual slot'"
    if way.assigned:
        yield _check("kernel line", said, way.assigned, right=True)
    else:
        yield _open("kernel line", said, "not in dom0's log, or not in it any more")
    listed = ", ".join(f"{one.address} at {one.virtual_slot or '?'}" for one in way.given)
    yield _check(
        "devices of the domain",
        f"xenstore-ls /local/domain/0/backend/pci/{'DOMID' if domid is None else domid}",
        listed or "none",
        right=any(one.address == address and one.virtual_slot for one in way.given),
    )


def _in_guest(way: Way) -> Iterator[Check]:
    found = {f.source: f for f in way.findings if f.source.startswith("guest")}
    seen = next((f for f in found.values() if f.source.endswith(("lspci", "sysfs", "-vv"))), None)
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
        told = finding or unanswered
        if told is None:
            yield _open(station, command, "the guest was not asked")
        else:
            yield Check(station=station, verdict=told.verdict, found=told.found, command=command)


def _lasting(way: Way) -> Iterator[Check]:
    kept = way.domain.config_hostdev(way.device.address) is not None
    yield _check(
        "permanent in the config", f"virsh dumpxml --inactive {way.domain.name}",
        "hostdev" if kept else "no hostdev", right=kept,
    )  # fmt: skip
    station, command = "after shutdown and start", "cede verify --restart"
    if not way.restarted:
        yield _open(station, command, "not tried")
    else:
        right = proven(way.findings)
        yield _check(station, command, "proven again" if right else "not proven again", right=right)


def told_slot(findings: Sequence[Finding]) -> str:
    """The kernel's line on the virtual slot, as it was found; empty if it wasn't."""
    return next((f.found for f in findings if "assign to virtual slot" in f.found), "")
