"""What proves that a guest has a device, as truth tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from cede import evidence
from cede.address import Address
from cede.evidence import Finding, Verdict, proven
from cede.guest.look import Look
from cede.guest.lspci import GuestDevice
from cede.model import BackendDevice, Device, Domain, GuestKind, Hostdev, Identity

NIC, SLOT = Address(0, 1, 0, 0), Address(0, 0, 3, 0)
DEVICE = Device(address=NIC, identity=Identity(vendor="8086", device="10d3"), driver="pciback")
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
)
SEEN = GuestDevice(slot=SLOT, vendor="8086", device="10d3", driver="e1000e")


def finding(verdict: Verdict) -> Finding:
    return Finding(source="s", wanted="w", found="f", verdict=verdict)


def test_nothing_looked_at_proves_nothing() -> None:
    assert not proven(())


@pytest.mark.parametrize("verdicts", list(product(Verdict, repeat=3)))
def test_one_finding_that_is_wrong_or_open_is_enough_to_prove_nothing(
    verdicts: tuple[Verdict, ...],
) -> None:
    against = {Verdict.WRONG, Verdict.OPEN}.intersection(verdicts)
    assert proven([finding(verdict) for verdict in verdicts]) is (
        not against and Verdict.RIGHT in verdicts
    )


@pytest.mark.parametrize("bound", ["pciback", "e1000e", None])
@pytest.mark.parametrize("live", [HOSTDEV, ()])
@pytest.mark.parametrize("config", [HOSTDEV, ()])
def test_dom0_must_hold_it_and_both_xmls_must_name_it(
    bound: str | None, live: tuple[Hostdev, ...], config: tuple[Hostdev, ...]
) -> None:
    found = evidence.of_dom0(replace(DEVICE, driver=bound), replace(PV, live=live, config=config))
    right = [f.verdict is Verdict.RIGHT for f in found]
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
    given = replace(GIVEN, backend_state=backend, frontend_state=frontend, virtual_slot=slot)
    assert proven(evidence.of_xenstore(given, domain)) is right


@pytest.mark.parametrize("given", [None, replace(GIVEN, domid=2)])
def test_a_device_with_nobody_or_with_another_guest_is_wrong(given: BackendDevice | None) -> None:
    (found,) = evidence.of_xenstore(given, PV)
    assert found.verdict is Verdict.WRONG
    assert "dev-N given to domain 1" in found.wanted


def test_a_domain_that_is_off_has_nothing_even_if_nobody_is_named() -> None:
    off = replace(PV, domid=None)
    assert not proven(evidence.of_xenstore(None, off))
    assert not proven(evidence.of_xenstore(GIVEN, off))


@pytest.mark.parametrize(
    ("seen", "verdicts"),
    [
        (SEEN, ["right", "right"]),
        (replace(SEEN, driver=None), ["right", "wrong"]),
        (replace(SEEN, device="100e"), ["wrong", "right"]),
        (replace(SEEN, vendor="1af4"), ["wrong", "right"]),
        (None, ["wrong"]),
    ],
)
def test_the_guest_must_see_that_device_in_that_slot_with_a_driver(
    seen: GuestDevice | None, verdicts: list[str]
) -> None:
    found = evidence.of_guest(Look(device=seen), DEVICE, SLOT)
    assert [str(f.verdict) for f in found] == verdicts


def test_what_is_only_noted_speaks_neither_for_nor_against() -> None:
    assert proven([finding(Verdict.RIGHT), finding(Verdict.NOTED)])
    assert not proven([finding(Verdict.NOTED)])


def test_what_could_not_be_asked_is_open_and_says_why() -> None:
    found = evidence.unproven("guest", "the console is busy")
    assert (found.verdict, proven([found])) == (Verdict.OPEN, False)
    assert str(found) == "guest: the console is busy (wanted an answer)"


def test_a_right_finding_says_only_what_was_found() -> None:
    assert str(finding(Verdict.RIGHT)) == "s: f"
    assert str(finding(Verdict.WRONG)) == "s: f (wanted w)"
