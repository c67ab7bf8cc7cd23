"""What the doctor makes of several lines of a log, and of what changes between them: lines as people publish them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cede.doctor import diagnosis
from cede.doctor.finding import Severity
from cede.model.inventory import BackendDevice
from cede.model.log_lines import own_lines
from cede.model.pci import Address, Identity
from cede.model.policy import DevicePolicy, Expect, Match, Place, Policy
from unit.test_doctor import (
    CARD,
    CORPUS,
    HEALTHY,
    INVENTORY,
    NIC,
    NOTE,
    PV,
    WARNING,
    host,
    of_guest,
)

FATAL = Severity.FATAL
GIVEN = BackendDevice(domid=1, address=NIC, index=0, backend_state=4, frontend_state=4)
AWAY = replace(INVENTORY, devices=(replace(CARD, driver="pciback"),), backend=(GIVEN,))
WAITING = "pciback 0000:01:00.0: not ready 1023ms after FLR; waiting"
BACK = "pciback 0000:01:00.0: ready 2047ms after FLR"
GIVEN_UP = "pciback 0000:01:00.0: not ready 65535ms after FLR; giving up"
SEIZED = "pciback 0000:01:00.0: xen_pciback: seizing device"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((WAITING, BACK), {}),
        ((WAITING, GIVEN_UP), {"reset-hangs": WARNING}),
        ((GIVEN_UP, WAITING, BACK), {}),
        ((BACK, GIVEN_UP), {"reset-hangs": WARNING}),
        ((GIVEN_UP, BACK.replace("01:00.0", "02:00.0")), {"reset-hangs": WARNING}),
        ((WAITING,), {}),
    ],
)
def test_a_reset_that_came_back_is_no_error_and_one_that_was_given_up_is(
    lines: tuple[str, ...], found: dict[str, Severity]
) -> None:
    assert host(kernel_log=lines) == found


def test_a_msix_preparation_that_failed_is_over_when_pciback_took_the_device_again() -> None:
    failed = "pciback 0000:01:00.0: xen_pciback: MSI-X preparation failed (-6)"
    assert host(kernel_log=(SEIZED, failed)) == {"msix-preparation-failed": WARNING}
    assert host(kernel_log=(SEIZED, failed, SEIZED)) == {}


def test_an_interrupt_that_xen_mapped_for_no_guest_is_no_quarantine_in_dom0() -> None:
    lost = "pciback 0000:01:00.0: xen map irq failed -22 for 5 domain"
    assert host(kernel_log=(lost,), inventory=AWAY) == {"map-irq-failed": WARNING}
    assert host(kernel_log=(lost,)) == {"map-irq-failed": WARNING}
    given = "pciback 0000:01:00.0: xen_pciback: vpci: assign to virtual slot 0"
    assert host(kernel_log=(lost, given), inventory=AWAY) == {}


CRASH = (
    "(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:01:00.0] fault addr fffff000",
    "(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set on iommu:0",
    "(XEN) domain_crash called from iommu.c:1932",
    "(XEN) Domain 5 (vcpu#0) crashed on cpu#3:",
    "(XEN) ----[ Xen-4.17.3  x86_64  debug=n  Not tainted ]----",
)


def test_a_crash_is_told_once_with_the_guest_and_the_device_that_the_log_names() -> None:
    found = [
        one
        for one in diagnosis.of_host(replace(HEALTHY, xen_log=CRASH))
        if one.name == "domain-crashed"
    ]
    assert [(one.address, one.subject) for one in found] == [(NIC, "0000:01:00.0 in domain 5")]
    running = replace(HEALTHY, xen_log=[line.replace("Domain 5", "Domain 1") for line in CRASH])  # type: ignore[arg-type]
    found = [one for one in diagnosis.of_host(running) if one.name == "domain-crashed"]
    assert [one.subject for one in found] == ["0000:01:00.0 in pv1"]
    alone = replace(HEALTHY, xen_log=CRASH[2:])
    assert [(one.name, one.address) for one in diagnosis.of_host(alone)] == [
        ("domain-crashed", None)
    ]


def test_two_crashes_are_two() -> None:
    other = [line.replace("Domain 5", "Domain 6") for line in CRASH[2:]]
    found = diagnosis.of_host(replace(HEALTHY, xen_log=(*CRASH[2:], *other)))
    assert [one.subject for one in found] == ["domain 5", "domain 6"]


def test_a_fault_names_who_has_the_device() -> None:
    (found,) = diagnosis.of_host(replace(HEALTHY, inventory=AWAY, xen_log=CRASH[:2]))
    assert (found.name, found.address, "pv1" in found.what) == ("iommu-fault", NIC, True)


@pytest.mark.parametrize(
    "line",
    [
        "(XEN) Failed to parse ACPI DMAR.  Disabling VT-d.",
        "(XEN) [VT-D]Invalid ACPI DMAR entry length: 0x0",
        "(XEN) [VT-D]  Non-existent device (0000:00:02.0) in this DRHD's scope!",
        "(XEN) AMD-Vi: Error: IVHD: invalid Device_Entry length",
        "(XEN) AMD-Vi: Error: IVRS: invalid checksum 0x13",
        "(XEN) AMD-Vi: IVHD Error: Invalid Device_Entry Dev_Id 0xa0",
        "(XEN) IVHD Error: no information for IO-APIC 0x2",
        "(XEN) No southbridge IO-APIC found in IVRS table",
    ],
)
def test_an_iommu_that_the_firmware_describes_wrongly_is_no_switch_that_is_off(line: str) -> None:
    log = (line, "(XEN) I/O virtualisation disabled")
    assert host(virtualisation=(), xen_log=log) == {"iommu-table-wrong": FATAL}
    assert host(virtualisation=("pv",), xen_log=log) == {"iommu-table-wrong": FATAL}
    assert host(xen_log=(line, "(XEN) I/O virtualisation enabled")) == {}
    said = ("(XEN) Command line: iommu=off", *log)
    assert host(virtualisation=(), xen_log=said, xen_command_line="") == {"iommu-off": FATAL}


SUSPENDED = "PM: suspend entry (deep)"


@pytest.mark.parametrize(
    "line",
    [
        SUSPENDED,
        "PM: hibernation: hibernation entry",
        "ACPI: PM: Preparing to enter system sleep state S3",
    ],
)
def test_a_suspend_is_told_where_a_guest_had_a_device_and_has_it_since(line: str) -> None:
    found = {"suspended-while-away": WARNING}
    assert host(kernel_log=(SEIZED, line), inventory=AWAY) == found
    assert host(kernel_log=(SEIZED, line, "PM: suspend exit"), inventory=AWAY) == found
    assert host(kernel_log=(line, SEIZED), inventory=AWAY) == {}, "put back after it"
    assert host(kernel_log=(SEIZED, line)) == {}, "nothing is away"


def test_a_power_off_is_no_suspend() -> None:
    line = "ACPI: PM: Preparing to enter system sleep state S5"
    assert host(kernel_log=(line,), inventory=AWAY) == {}


def test_a_mask_that_was_left_on_is_told() -> None:
    assert host(msix_masked=frozenset({NIC})) == {"msix-masked": WARNING}


def test_no_remedy_is_a_rom_file() -> None:
    line = "amdgpu 0000:01:00.0: Invalid PCI ROM header signature: expecting 0xaa55, got 0xffff"
    (found,) = diagnosis.of_host(replace(HEALTHY, kernel_log=(line,)))
    assert (found.name, "<rom" in found.remedy) == ("broken-rom", False)


# -- the policy


NOTHING = Expect()


def bare(match: Match, expect: Expect = NOTHING, **device: object) -> dict[str, Severity]:
    named = DevicePolicy(
        name="nic0", match=match, expect=expect, place=Place(file="f", line=1, column=1)
    )
    card = replace(CARD, **{"path": "pci0000:00/08.0/00.0"} | device)  # type: ignore[arg-type]
    return host(policy=Policy(devices=(named,)), inventory=replace(INVENTORY, devices=(card,)))


ROOT = Address(0, 0, 0x1F, 6)


@pytest.mark.parametrize(
    ("match", "expect", "found"),
    [
        (Match(address=NIC), Expect(), {"bare-address": WARNING}),
        (Match(address=Address(0, 7, 0, 0)), Expect(), {"bare-address": WARNING}),
        (Match(physical_function=NIC, function_index=1), Expect(), {"bare-address": WARNING}),
        (Match(address=NIC), Expect(vendor="8086"), {}),
        (Match(address=NIC, mac="52:54:00:01:00:00"), Expect(), {}),
        (Match(address=NIC, path="pci0000:00/08.0/00.0"), Expect(), {}),
        (Match(address=NIC, vendor="8086", device="10d3"), Expect(), {}),
        (Match(path="pci0000:00/08.0/00.0"), Expect(), {}),
        (Match(vendor="8086"), Expect(), {}),
    ],
)
def test_an_address_alone_is_warned_of(
    match: Match, expect: Expect, found: dict[str, Severity]
) -> None:
    assert bare(match, expect) == found


def test_a_device_on_a_root_bus_keeps_its_address() -> None:
    assert bare(Match(address=ROOT), address=ROOT, path="pci0000:00/1f.6") == {}
    far = Address(0, 0x80, 0x14, 3)
    assert bare(Match(address=far), address=far, path="pci0000:80/14.3") == {}


def test_the_remedy_names_the_cards_own_marks() -> None:
    named = DevicePolicy(
        name="n", match=Match(address=NIC), expect=Expect(), place=Place(file="f", line=1, column=1)
    )
    card = replace(
        CARD,
        path="pci0000:00/08.0/00.0",
        identity=Identity(vendor="1002", device="6718", class_code="030000"),
    )
    facts = replace(
        HEALTHY, policy=Policy(devices=(named,)), inventory=replace(INVENTORY, devices=(card,))
    )
    (found,) = diagnosis.of_host(facts)
    assert all(word in found.remedy for word in ("1002", "6718", "pci0000:00/08.0/00.0"))


# -- guests


def test_an_option_rom_alone_is_a_note_and_a_bar_beside_it_is_not() -> None:
    found = of_guest("guest-rom-unclaimed.log", PV)
    assert {name: one.severity for name, one in found.items()} == {"rom-unclaimed": NOTE}
    log = (CORPUS / "guest-rom-unclaimed.log").read_text().splitlines()
    both = [*log, log[-1].replace("/6!", "/0!")]
    assert [one.name for one in diagnosis.of_guest(both, PV)] == ["bar-unclaimed"]
    assert "/0" in diagnosis.of_guest(both, PV)[0].what


def test_a_name_that_is_there_already_is_told_and_only_of_pci() -> None:
    assert list(of_guest("guest-duplicate-name.log", PV)) == ["duplicate-name"]
    other = ["sysfs: cannot create duplicate filename '/devices/virtual/block/dm-0'"]
    assert diagnosis.of_guest(other, PV) == ()
    kobject = (
        "kobject_add_internal failed for 0000:00:00.0 with -EEXIST, don't try to register things"
    )
    assert [one.name for one in diagnosis.of_guest([kobject], PV)] == ["duplicate-name"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Enable+ Count=64 Masked+", ["msix-masked"]),
        ("Enable+ Count=64 Masked-", []),
        ("Enable- Count=64 Masked+", []),
    ],
)
def test_a_mask_is_read_from_the_guests_lspci_too(said: str, found: list[str]) -> None:
    log = ["01:00.0 Non-Volatile memory controller", f"\tCapabilities: [b0] MSI-X: {said}"]
    assert [one.name for one in diagnosis.of_guest(log, PV)] == found


@pytest.mark.parametrize(
    ("line", "speaks"),
    [
        ("[ 3.1] pcifront pci-0: Rescanning PCI Frontend Bus 0000:00", True),
        ("pcifront pci-0: claiming resource 0000:00:00.0/0", True),
        ("<4>pcifront pci-0: Could not claim resource 0000:00:00.0/6! Device offline.", True),
        ("[ 3.1] pcifront pci-0: 22 freeing event channel 9", True),
        ("[ 0.0] Command line: modprobe.blacklist=xen-pcifront: quiet", False),
    ],
)
def test_no_pcifront_is_not_said_where_pcifront_speaks(line: str, *, speaks: bool) -> None:
    log = ["[    0.000000] Linux version 6.1.0", line]
    names = {one.name for one in diagnosis.of_guest(log, PV)}
    assert ("no-pcifront" not in names) is speaks


def test_xenstores_no_pcifront_is_not_said_either_where_pcifront_speaks_in_the_log() -> None:
    waits = replace(INVENTORY, backend=(replace(GIVEN, frontend_state=1),))
    found = diagnosis.of_host(replace(HEALTHY, inventory=waits))
    assert [one.name for one in found] == ["no-pcifront"]
    log = ["pcifront pci-0: Installing PCI frontend"]
    assert diagnosis.with_guest(found, log, PV) == ()
    assert [one.name for one in diagnosis.with_guest(found, [], PV)] == ["no-pcifront"]


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\x85", "\u2028"])
def test_only_a_line_feed_begins_a_line_of_xens_own(end: str) -> None:
    assert own_lines(f"guest{end}(XEN) forged\n(XEN) real\n") == "(XEN) real\n"
