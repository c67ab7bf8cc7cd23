"""What proves that a guest has a device, as truth tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.guest import probe
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice
from cede.model.log_lines import KernelLine
from cede.model.pci import Address, Device, Identity, Link, OriginalState, SwitchedOn
from cede.verifier import guest_checks, host_checks
from cede.verifier.checklist import CheckResult, CheckStatus, Witness, unverified_result, verified
from sim import probe_answers

NIC, SLOT = Address(0, 1, 0, 0), Address(0, 0, 0, 0)
CARD = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
DEVICE = Device(address=NIC, identity=CARD, driver="pciback")
ON = SwitchedOn(memory=True, io=True, bus_master=True, msix=True)
HOSTDEV = (Hostdev(address=NIC, alias="ua-cede-nic0"),)
PV = Domain(name="pv1", uuid="u", kind=GuestKind.PV, domid=1, live=HOSTDEV, config=HOSTDEV)
HVM = replace(PV, kind=GuestKind.HVM)
GIVEN = BackendDevice(
    domid=1,
    address=NIC,
    index=0,
    state=3,
    backend_state=4,
    frontend_state=4,
    virtual_slot=SLOT,
    device_model_slot=Address(0, 0, 6, 0),
)


def finding(decision: CheckStatus) -> CheckResult:
    return CheckResult(source="s", expected="w", found="f", status=decision)


def test_nothing_checked_verifies_nothing() -> None:
    assert not verified(())


@pytest.mark.parametrize("decisions", list(product(CheckStatus, repeat=3)))
def test_one_check_that_failed_or_is_unverified_is_enough_to_verify_nothing(
    decisions: tuple[CheckStatus, ...],
) -> None:
    against = {CheckStatus.FAILED, CheckStatus.UNVERIFIED}.intersection(decisions)
    assert verified([finding(decision) for decision in decisions]) is (
        not against and CheckStatus.PASSED in decisions
    )


@pytest.mark.parametrize("bound", ["pciback", "e1000e", None])
@pytest.mark.parametrize("live", [HOSTDEV, ()])
@pytest.mark.parametrize("config", [HOSTDEV, ()])
def test_dom0_must_hold_it_and_both_xmls_must_name_it(
    bound: str | None, live: tuple[Hostdev, ...], config: tuple[Hostdev, ...]
) -> None:
    found = host_checks.of_dom0(
        replace(DEVICE, driver=bound), replace(PV, live=live, config=config)
    )
    right = [f.status is CheckStatus.PASSED for f in found]
    assert right == [bound == "pciback", bool(live), bool(config)]


@pytest.mark.parametrize(
    ("domain", "backend", "frontend", "slot", "right"),
    [
        (domain, backend, frontend, slot, right)
        for domain, backend, frontend, slot in product(
            (PV, HVM), (None, 1, 2, 3, 4, 5, 6, 7, 8), (None, 1, 3, 4, 5), (SLOT, None)
        )
        for right in [
            slot is not None
            and ((backend, frontend) == (4, 4) if domain is PV else backend in {3, 7})
        ]
    ],
)
def test_a_pv_guest_is_connected_on_both_sides_and_an_hvm_guest_initialised_or_never_reconfigured(
    domain: Domain, backend: int | None, frontend: int | None, slot: Address | None, *, right: bool
) -> None:
    given = replace(GIVEN, backend_state=backend, frontend_state=frontend)
    named = "virtual_slot" if domain is PV else "device_model_slot"
    given = replace(given, **{named: slot})  # type: ignore[arg-type]
    assert verified(host_checks.of_xenstore(given, domain)) is right


@pytest.mark.parametrize(
    ("domain", "state", "status"),
    [
        (PV, 3, CheckStatus.PASSED),
        (PV, 1, CheckStatus.FAILED),
        (HVM, 1, CheckStatus.PASSED),
        (HVM, 3, CheckStatus.PASSED),
        (PV, None, CheckStatus.UNVERIFIED),
        *((domain, state, CheckStatus.FAILED) for domain in (PV, HVM) for state in (0, 2, 5, 6, 7)),
    ],
)
def test_the_state_of_the_device_itself_is_judged(
    domain: Domain, state: int | None, status: CheckStatus
) -> None:
    backend = 4 if domain is PV else 3
    found = host_checks.of_xenstore(replace(GIVEN, state=state, backend_state=backend), domain)
    assert {one.status for one in found if one.source == "xenstore state"} == {status}


def test_a_log_of_xen_that_is_unreadable_proves_nothing() -> None:
    for before, after in ((None, 0), (0, None), (None, None)):
        assert [one.status for one in host_checks.of_xen(before, after)] == [CheckStatus.UNVERIFIED]


@pytest.mark.parametrize("given", [None, replace(GIVEN, domid=2)])
def test_a_device_with_nobody_or_with_another_guest_is_wrong(given: BackendDevice | None) -> None:
    (found,) = host_checks.of_xenstore(given, PV)
    assert found.status is CheckStatus.FAILED
    assert "domain 1" in found.expected


def test_a_domain_that_is_off_has_nothing_even_if_nobody_is_named() -> None:
    off = replace(PV, domid=None)
    assert not verified(host_checks.of_xenstore(None, off))
    assert not verified(host_checks.of_xenstore(GIVEN, off))


def of(
    said: str, device: Device = DEVICE, card: SwitchedOn | None = ON
) -> dict[str, tuple[CheckStatus, str]]:
    found = guest_checks.of_guest(probe.parse(said, SLOT), device, SLOT, card)
    return {one.source: (one.status, one.found) for one in found}


def proves(said: str, device: Device = DEVICE, card: SwitchedOn | None = ON) -> bool:
    return verified(guest_checks.of_guest(probe.parse(said, SLOT), device, SLOT, card))


def test_a_card_that_works_in_the_guest_is_right_in_everything() -> None:
    found = of(probe_answers.whole())
    assert {status for status, _ in found.values()} == {CheckStatus.PASSED}
    named = {
        "guest lspci": ("8086:10d3", "0000:00:00.0"), "guest subsystem": ("8086:0000",), "guest class": ("020000",),
        "guest driver": ("e1000e",), "guest BARs": ("2 of 2",), "guest interrupts": ("MSI-X",),
        "config space": ("memory", "bus master", "MSI-X"), "guest log": ("4",),
    }  # fmt: skip
    assert list(found) == list(named)
    assert [all(name in found[s][1] for name in names) for s, names in named.items()] == [True] * 8


def changed(record: tuple[str, str] = ("", ""), sysfs: tuple[str, str] = ("", "")) -> str:
    return probe_answers.whole(
        probe_answers.RECORD.replace(*record), probe_answers.SYSFS.replace(*sysfs)
    )


@pytest.mark.parametrize(
    ("said", "source", "decision"),
    [
        (probe_answers.whole("", "", ""), "guest lspci", CheckStatus.FAILED),
        (changed(("10d3", "100e"), ("10D3", "100E")), "guest lspci", CheckStatus.FAILED),
        (changed(("8086", "1af4"), ("8086", "1AF4")), "guest lspci", CheckStatus.FAILED),
        (
            changed(("SDevice:\t0000", "SDevice:\t1100"), ("8086:0000", "8086:1100")),
            "guest subsystem",
            CheckStatus.FAILED,
        ),
        (changed(("0200", "0201"), ("20000", "20100")), "guest class", CheckStatus.FAILED),
        (
            changed(("Driver:\te1000e\n", ""), ("DRIVER=e1000e\n", "")),
            "guest driver",
            CheckStatus.FAILED,
        ),
        (changed(("Driver:\te1000e\n", "")), "guest", CheckStatus.UNVERIFIED),
        (changed(("10d3", "100e")), "guest", CheckStatus.UNVERIFIED),
        (probe_answers.whole(record=""), "guest", CheckStatus.UNVERIFIED),
        (probe_answers.whole()[:-1], "guest", CheckStatus.UNVERIFIED),
        (probe_answers.whole("rubbish\n", "rubbish\n"), "guest", CheckStatus.UNVERIFIED),
        (probe_answers.whole(sysfs="rubbish\n"), "guest BARs", CheckStatus.UNVERIFIED),
        (probe_answers.whole(sysfs="rubbish\n"), "guest interrupts", CheckStatus.UNVERIFIED),
        (probe_answers.whole(kernel=""), "guest BARs", CheckStatus.FAILED),
        (probe_answers.whole(kernel=""), "guest log", CheckStatus.INFO),
        (
            changed(sysfs=("0x0000000000040200", "0x0000000020040200")),
            "guest BARs",
            CheckStatus.FAILED,
        ),
        (changed(sysfs=("msix\nmsix\n", "")), "guest interrupts", CheckStatus.INFO),
        (changed(sysfs=("msix\nmsix\n", "msi\n")), "guest interrupts", CheckStatus.FAILED),
    ],
)
def test_each_guest_check_has_its_own_result(said: str, source: str, decision: CheckStatus) -> None:
    assert of(said)[source][0] is decision


def test_a_guest_without_lspci_is_believed_by_its_sysfs() -> None:
    status, found = of(probe_answers.by_busybox(""))["guest sysfs"]
    assert (status, "8086:10d3" in found) == (CheckStatus.PASSED, True)
    assert proves(probe_answers.by_busybox(""))


@pytest.mark.parametrize(
    ("card", "decision"),
    [
        (ON, CheckStatus.PASSED),
        (SwitchedOn(memory=False, io=False, bus_master=False), CheckStatus.FAILED),
        (SwitchedOn(memory=True, io=True, bus_master=False, msix=True), CheckStatus.UNVERIFIED),
        (SwitchedOn(memory=True, io=False, bus_master=True, msi=True), CheckStatus.PASSED),
    ],
)
def test_a_driver_that_the_guest_claims_must_show_in_the_card_itself(
    card: SwitchedOn, decision: CheckStatus
) -> None:
    assert of(probe_answers.whole(), card=card)["config space"][0] is decision
    assert proves(probe_answers.whole(), card=card) is (card == ON)


@pytest.mark.parametrize(
    ("card", "decision"),
    [
        (ON, CheckStatus.PASSED),
        (replace(ON, msix=False, msi=True, memory=False), CheckStatus.PASSED),
        (replace(ON, msix=False), CheckStatus.UNVERIFIED),  # as firmware leaves it, or with INTx
        (replace(ON, bus_master=False), CheckStatus.UNVERIFIED),
        (replace(ON, memory=False, io=False), CheckStatus.UNVERIFIED),
        (None, CheckStatus.UNVERIFIED),
    ],
)
def test_a_device_that_is_asked_itself_proves_a_driver_by_interrupts_by_message(
    card: SwitchedOn | None, decision: CheckStatus
) -> None:
    result = host_checks.of_device(card)
    assert (result.status, result.witness) == (decision, Witness.DEVICE)


def test_msi_that_is_off_in_the_card_is_a_lie() -> None:
    off = replace(ON, msix=False)
    status, found = of(probe_answers.whole(), card=off)["guest interrupts"]
    assert (status, "MSI-X" in found) == (CheckStatus.FAILED, True)


@pytest.mark.parametrize("driver", ["vfio-pci", "pci-stub"])
def test_a_driver_that_only_holds_a_card_need_not_switch_it_on(driver: str) -> None:
    said = probe_answers.whole(
        probe_answers.RECORD.replace("Driver:\te1000e", f"Driver:\t{driver}"),
        probe_answers.SYSFS.replace("DRIVER=e1000e", f"DRIVER={driver}").replace("msix\n", ""),
    )
    assert proves(said, card=SwitchedOn(memory=False, io=False, bus_master=False))


def test_a_card_asleep_is_no_lie() -> None:
    off = SwitchedOn(memory=True, io=True, bus_master=False)
    said = changed(sysfs=("D0\nmsix\nmsix\n", "D3hot\n"))
    assert of(said, card=off)["config space"][0] is CheckStatus.INFO


@pytest.mark.parametrize(
    ("mac", "decision"),
    [("52:54:00:01:00:00", CheckStatus.PASSED), ("52:54:00:01:00:01", CheckStatus.FAILED)],
)
def test_the_mac_that_dom0_knew_is_the_one_that_the_guest_sees(
    mac: str, decision: CheckStatus
) -> None:
    known = replace(
        DEVICE, original_state=OriginalState(identity=CARD, links=(Link(name="eth0", mac=mac),))
    )
    assert of(probe_answers.whole(), known)["guest MAC"][0] is decision
    assert of(probe_answers.whole(), replace(DEVICE, mac=mac))["guest MAC"][0] is decision


def test_a_mac_that_the_guest_has_changed_is_only_mentioned() -> None:
    known = replace(DEVICE, mac="52:54:00:01:00:01")
    said = changed(sysfs=("00:00\n0\n", "00:00\n3\n"))
    assert of(said, known)["guest MAC"][0] is CheckStatus.INFO


COLLISION = (
    "[    6.005522] pcifront pci-0: Could not claim resource 0000:00:00.0/4! Device offline."
    " Try giving less than 4GB to domain.\n"
)


UNCLAIMED = (
    "[ 6.1] pcifront pci-0: Could not claim resource 0000:00:00.0/{}! Device offline. Try using e820_host=1 in the"
    " guest config.\n"
)


@pytest.mark.parametrize(
    ("line", "decision"),
    [
        (COLLISION, CheckStatus.FAILED),
        (COLLISION.replace("00:00.0", "00:01.0"), CheckStatus.PASSED),
        (
            "[ 6.1] pci 0000:00:00.0: BAR 4 [mem 0xfa8f8000]: can't claim; no compatible bridge window\n",
            CheckStatus.FAILED,
        ),
        (
            "[ 6.1] pci 0000:00:00.0: BAR 6 [mem 0xfa8f8000]: can't claim; address conflict\n",
            CheckStatus.INFO,
        ),
        (
            UNCLAIMED.format(6),
            CheckStatus.INFO,
        ),
        (
            UNCLAIMED.format(0),
            CheckStatus.FAILED,
        ),
        (
            "[ 6.1] ixgbe 0000:00:00.0: EEPROM: probe of it failed with error -5\n",
            CheckStatus.FAILED,
        ),
        ("[ 6.1] e1000e: probe of 0000:00:00.0 failed with error -2\n", CheckStatus.FAILED),
        (
            "[ 6.1] e1000e 0000:00:00.0: probe with driver e1000e failed with error -2\n",
            CheckStatus.FAILED,
        ),
        (
            "[ 6.1] r8169 0000:00:00.0: firmware: failed to load rtl_nic/x.fw (-2)\n",
            CheckStatus.INFO,
        ),
        ("[ 6.1] e1000e 0000:00:00.0 eth0: NIC Link is Up\n", CheckStatus.PASSED),
    ],
)
def test_an_error_in_the_guests_log_is_wrong_if_it_is_about_this_slot(
    line: str, decision: CheckStatus
) -> None:
    assert of(probe_answers.whole(kernel=probe_answers.KERNEL + line))["guest log"][0] is decision


def test_an_error_from_before_the_device_was_found_anew_is_past() -> None:
    assert (
        of(probe_answers.whole(kernel=COLLISION + probe_answers.KERNEL))["guest log"][0]
        is CheckStatus.PASSED
    )


@given(at=st.integers(0, len(probe_answers.whole()) - 1))
def test_no_probe_answer_that_is_truncated_passes_a_check(at: int) -> None:
    (found,) = guest_checks.of_guest(
        probe.parse(probe_answers.whole()[:at], SLOT), DEVICE, SLOT, ON
    )
    assert found.status is CheckStatus.UNVERIFIED


FORGED = [
    *probe_answers.whole().splitlines(),
    *probe_answers.by_busybox("").splitlines(),
    COLLISION.strip(),
    "x",
]


@given(st.lists(st.sampled_from(FORGED)), st.booleans())
def test_no_probe_answer_verifies_a_card_that_dom0_sees_switched_off(
    lines: list[str], as_answered: bool
) -> None:
    text = (
        "\n".join([*lines, ""])
        if as_answered
        else probe_answers.framed("\n".join(x.strip("|") for x in lines))
    )
    off = SwitchedOn(memory=False, io=False, bus_master=False)
    assert not proves(text, card=off)
    assert not proves(probe_answers.whole(), card=off)


@pytest.mark.parametrize(
    ("options", "right"),
    [("msitranslate=0,permissive=1,rdm_policy=strict", True), ("permissive=0", False), ("", False)],
)
def test_a_device_that_shall_be_permissive_has_become_so(options: str, *, right: bool) -> None:
    wanted = (replace(HOSTDEV[0], write_filtering=False),)
    domain = replace(PV, live=wanted)
    assert verified(host_checks.of_xenstore(replace(GIVEN, options=options), domain)) is right
    assert verified(host_checks.of_xenstore(replace(GIVEN, options=options), PV))
    assert verified(host_checks.of_permissive({NIC}, NIC, domain))
    assert not verified(host_checks.of_permissive((), NIC, domain))
    assert host_checks.of_permissive((), NIC, PV) == ()


LOG = (
    "pciback 0000:01:00.0: xen_pciback: seizing device",
    "pciback 0000:01:00.0: xen_pciback: vpci: assign to virtual slot 0",
    "pciback 0000:01:00.0: registering for 1",
)
BROKEN = (
    "pciback 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer"
)
WAITS = "pciback 0000:01:00.0: not ready 1023ms after FLR; waiting"
CAME_BACK = "pciback 0000:01:00.0: ready 2047ms after FLR"
GIVEN_UP = "pciback 0000:01:00.0: not ready 65535ms after FLR; giving up"
MENDED = "pciback 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer"
KEPT = (
    "pciback 0000:01:00.0: xen-pciback: Driver tried to write to a read-only configuration space"
    " field at offset 0x110, size 4. This may be harmless, but if you have problems with your device:"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (LOG, [(CheckStatus.INFO, "vpci: assign to virtual slot 0")]),
        ((), []),
        ((BROKEN, *LOG), [(CheckStatus.INFO, "vpci: assign to virtual slot 0")]),
        (
            (*LOG, BROKEN, BROKEN)[1:],
            [(CheckStatus.INFO, "vpci: assign to virtual slot 0"), (CheckStatus.FAILED, BROKEN)],
        ),
        ((MENDED,), [(CheckStatus.INFO, MENDED)]),
        ((KEPT,), [(CheckStatus.INFO, "0x110")]),
        ((BROKEN.replace("01:00.0", "02:00.0"),), []),
        ((WAITS, CAME_BACK), []),
        ((WAITS, GIVEN_UP), [(CheckStatus.FAILED, GIVEN_UP)]),
        ((GIVEN_UP, WAITS, CAME_BACK), []),
        ((WAITS,), [(CheckStatus.UNVERIFIED, WAITS)]),
        ((GIVEN_UP, *LOG), [(CheckStatus.INFO, "vpci: assign to virtual slot 0")]),
    ],
)
def test_the_kernel_log_is_read_from_the_last_action_on(
    said: tuple[str, ...], expected: list[tuple[CheckStatus, str]]
) -> None:
    lines = [KernelLine(seconds_since_boot=n, text=text) for n, text in enumerate(said)]
    found = host_checks.of_kernel_log(lines, NIC)
    assert [one.status for one in found] == [status for status, _ in expected]
    assert all(said in one.found for one, (_, said) in zip(found, expected, strict=True))


def test_a_kernel_log_that_cant_be_read_proves_nothing() -> None:
    (one,) = host_checks.of_kernel_log(None, NIC)
    assert (one.source, one.status) == ("kernel log", CheckStatus.UNVERIFIED)


@pytest.mark.parametrize(
    ("before", "after", "decisions"),
    [
        (0, 0, []),
        (3, 3, [CheckStatus.INFO]),
        (0, 1, [CheckStatus.FAILED]),
        (9, 4, [CheckStatus.INFO]),
    ],
)
def test_only_faults_that_come_during_the_checks_are_held_against_it(
    before: int, after: int, decisions: list[CheckStatus]
) -> None:
    assert [one.status for one in host_checks.of_xen(before, after)] == decisions


def test_what_is_only_mentioned_speaks_neither_for_nor_against() -> None:
    assert verified([finding(CheckStatus.PASSED), finding(CheckStatus.INFO)])
    assert not verified([finding(CheckStatus.INFO)])


def test_what_could_not_be_asked_is_open_and_says_why() -> None:
    found = unverified_result("guest", "the console is busy")
    assert (found.status, verified([found])) == (CheckStatus.UNVERIFIED, False)
    assert str(found).startswith("guest: the console is busy (")


def test_a_right_finding_says_only_what_was_found() -> None:
    assert str(finding(CheckStatus.PASSED)) == "s: f"
    assert str(finding(CheckStatus.FAILED)).endswith(" w)")
