"""Devices of different guests that no port keeps apart: found by their ways, whoever gave them away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cede.doctor import diagnosis
from cede.doctor.finding import Severity
from cede.doctor.isolation_rules import between_guests, no_acs
from cede.model.domain import Domain, GuestKind, Hostdev
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import Address, Device, Identity, Isolation, Reset
from unit.test_doctor import HEALTHY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cede.doctor.finding import Facts

ROOT, UPPER, LOWER, OTHER = "00:01.0", "01:00.0", "02:00.0", "02:01.0"
ON_LEFT, ON_RIGHT = "03:00.0", "04:00.0"
SWITCH = {
    ROOT: "pci0000:00/01.0",
    UPPER: "pci0000:00/01.0/00.0",
    LOWER: "pci0000:00/01.0/00.0/00.0",
    OTHER: "pci0000:00/01.0/00.0/01.0",
    ON_LEFT: "pci0000:00/01.0/00.0/00.0/00.0",
    ON_RIGHT: "pci0000:00/01.0/00.0/01.0/00.0",
}
NETWORK, BRIDGE = "020000", "060400"
ROOT_PORT, UPSTREAM, DOWNSTREAM, TO_CONVENTIONAL = 4, 5, 6, 7
GOOD_SWITCH = {
    ROOT: Isolation(port=ROOT_PORT, redirects=True),
    UPPER: Isolation(port=UPSTREAM, redirects=False),
    LOWER: Isolation(port=DOWNSTREAM, redirects=True),
    OTHER: Isolation(port=DOWNSTREAM, redirects=True),
}


def host(
    paths: Mapping[str, str],
    given: Mapping[str, Sequence[str]],
    says: Mapping[str, Isolation],
    *,
    virtual: Sequence[str] = (),
) -> Facts:
    """A host with these functions, of which guests have some in their XML."""
    devices = tuple(
        Device(
            address=Address.parse(at),
            identity=Identity(
                vendor="8086",
                device="10d3",
                class_code=BRIDGE
                if any(other.startswith(f"{path}/") for other in paths.values())
                else NETWORK,
            ),
            path=path,
            reset=Reset.FLR,
            physical_function=Address.parse("01:00.0") if at in virtual else None,
        )
        for at, path in paths.items()
    )
    domains = tuple(
        Domain(
            name=name,
            uuid=name,
            kind=GuestKind.PV,
            config=tuple(Hostdev(address=Address.parse(at)) for at in addresses),
        )
        for name, addresses in given.items()
    )
    return replace(
        HEALTHY,
        inventory=Inventory(devices=devices, domains=domains, pciback_loaded=True),
        isolation={Address.parse(at): said for at, said in says.items()},
    )


def found(facts: Facts) -> dict[str, str]:
    return {str(one.address).removeprefix("0000:"): one.name for one in no_acs(facts)}


BOTH = {"a": [ON_LEFT], "b": [ON_RIGHT]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({LOWER: Isolation(port=DOWNSTREAM, redirects=False)}, {LOWER: "no-acs"}),
        (
            {at: Isolation(port=DOWNSTREAM, redirects=False) for at in (LOWER, OTHER)},
            {LOWER: "no-acs", OTHER: "no-acs"},
        ),
        ({ROOT: Isolation(port=ROOT_PORT, redirects=False)}, {}),
        ({OTHER: None}, {OTHER: "acs-unknown"}),
        ({UPPER: None}, {UPPER: "acs-unknown"}),
    ],
)
def test_the_lower_ports_of_a_switch_keep_what_is_behind_them_apart(
    changed: dict[str, Isolation | None], expected: dict[str, str]
) -> None:
    says = {at: said for at, said in {**GOOD_SWITCH, **changed}.items() if said is not None}
    assert found(host(SWITCH, BOTH, says)) == expected


BAD_SWITCH = {**GOOD_SWITCH, LOWER: Isolation(port=DOWNSTREAM, redirects=False)}


def test_devices_of_one_guest_may_reach_each_other() -> None:
    facts = host(SWITCH, {"a": [ON_LEFT, ON_RIGHT]}, BAD_SWITCH)
    assert (found(facts), between_guests(facts)) == ({}, frozenset())
    assert found(host(SWITCH, {"a": [ON_LEFT], "b": []}, BAD_SWITCH)) == {}


def test_who_gave_a_device_away_does_not_matter() -> None:
    facts = host(SWITCH, {"a": [ON_LEFT]}, BAD_SWITCH)
    by_xl = BackendDevice(address=Address.parse(ON_RIGHT), domid=7, index=0, state=3)
    given = replace(facts, inventory=replace(facts.inventory, backend=(by_xl,)))
    assert found(given) == {LOWER: "no-acs"}


def test_only_what_is_between_guests_is_asked() -> None:
    asked = between_guests(host(SWITCH, BOTH, {}))
    assert asked == {Address.parse(at) for at in (UPPER, LOWER, OTHER)}


CARD = {
    "00:01.0": "pci0000:00/01.0",
    "01:00.0": "pci0000:00/01.0/00.0",
    "01:00.1": "pci0000:00/01.0/00.1",
}
FUNCTIONS = {"a": ["01:00.0"], "b": ["01:00.1"]}


@pytest.mark.parametrize("apart", [True, False])
def test_functions_of_one_card_keep_themselves_apart(apart: bool) -> None:
    says = {
        "00:01.0": Isolation(port=ROOT_PORT, redirects=True),
        "01:00.0": Isolation(port=0, redirects=True),
        "01:00.1": Isolation(port=0, redirects=apart),
    }
    assert found(host(CARD, FUNCTIONS, says)) == ({} if apart else {"01:00.1": "no-acs"})


@pytest.mark.parametrize("apart", [True, False])
def test_virtual_functions_are_kept_apart_by_the_port_above_their_card(apart: bool) -> None:
    says = {"00:01.0": Isolation(port=ROOT_PORT, redirects=apart)}
    facts = host(CARD, FUNCTIONS, says, virtual=["01:00.1"])
    assert found(facts) == ({} if apart else {"00:01.0": "no-acs"})


def test_a_conventional_bus_keeps_nothing_apart() -> None:
    bus = {
        "00:01.0": "pci0000:00/01.0",
        "01:01.0": "pci0000:00/01.0/01.0",
        "01:02.0": "pci0000:00/01.0/02.0",
    }
    says = {"00:01.0": Isolation(port=TO_CONVENTIONAL, redirects=False)}
    assert found(host(bus, {"a": ["01:01.0"], "b": ["01:02.0"]}, says)) == {"00:01.0": "no-acs"}


ROOTS = {
    "00:01.0": "pci0000:00/01.0",
    "00:02.0": "pci0000:00/02.0",
    "00:02.1": "pci0000:00/02.1",
    "80:02.0": "pci0000:80/02.0",
    "01:00.0": "pci0000:00/01.0/00.0",
    "02:00.0": "pci0000:00/02.0/00.0",
    "03:00.0": "pci0000:00/02.1/00.0",
    "81:00.0": "pci0000:80/02.0/00.0",
}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("01:00.0", "02:00.0", {}),
        ("02:00.0", "81:00.0", {}),
        ("02:00.0", "03:00.0", {"00:02.0": "no-acs", "00:02.1": "no-acs"}),
    ],
)
def test_ports_of_the_root_in_slots_of_their_own_have_the_iommu_between_them(
    one: str, other: str, expected: dict[str, str]
) -> None:
    says = {
        at: Isolation(port=ROOT_PORT, redirects=False)
        for at in ROOTS
        if at[1] == "0" and at[3] == "0"
    }
    assert found(host(ROOTS, {"a": [one], "b": [other]}, says)) == expected


def test_without_root_nothing_wrong_is_reported() -> None:
    assert found(replace(host(SWITCH, BOTH, {}), is_root=False)) == {}


def test_the_host_is_warned_and_many_pairs_are_one_finding() -> None:
    many = {f"05:{slot:02x}.0": f"{SWITCH[LOWER]}/{slot:02x}.0" for slot in range(1, 9)}
    given = {f"g{number}": [at] for number, at in enumerate(many)}
    facts = host({**SWITCH, **many}, given, BAD_SWITCH)
    (warning,) = (one for one in diagnosis.of_host(facts) if one.name == "no-acs")
    assert (warning.severity, warning.subject) == (Severity.WARNING, f"0000:{LOWER}")


def test_a_pair_that_is_asked_about_counts_as_given() -> None:
    facts = host(SWITCH, {"a": [ON_LEFT], "c": []}, BAD_SWITCH)
    assert found(facts) == {}
    assert found(replace(facts, pair=(Address.parse(ON_RIGHT), "c"))) == {LOWER: "no-acs"}
    assert found(replace(facts, pair=(Address.parse(ON_RIGHT), "a"))) == {}
    assert found(replace(facts, pair=(Address.parse(ROOT), "c"))) == {}
